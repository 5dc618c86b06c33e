"""Two of the failures. `fixed.py` has the same mutations, mended."""

import strawberry
from asgiref.sync import sync_to_async
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import RefreshToken

from auth_api.tokens import CustomRefreshToken
from auth_api.types import TokenPayload
from otps.codes import needs_code, send_code
from users.models import User
from users.types import UserType


@strawberry.type
class LoginPayload(TokenPayload):
    otp_required: bool = False
    user: UserType | None = None


@strawberry.type
class AuthMutation:
    @strawberry.mutation
    async def login(self, email: str, password: str, device_id: str | None = None) -> LoginPayload:
        user = await User.objects.filter(email=email).afirst()
        if user is None or not await user.acheck_password(password):
            return LoginPayload.refused("Wrong email or password.")
        if await needs_code(user, device_id):
            await send_code(user)
            return LoginPayload(success=True, message="We sent you a code.", otp_required=True)
        # Failure 2: everything of ours is awaited, but the library writes a row.
        refresh = RefreshToken.for_user(user)
        return LoginPayload.granted(refresh, user=user)

    @strawberry.mutation
    async def refresh_token(self, refresh_token: str) -> TokenPayload:
        try:
            old = await sync_to_async(CustomRefreshToken)(refresh_token)
        except TokenError:
            return TokenPayload.refused("Please log in again.")
        user = await User.objects.aget(pk=old["user_id"])
        await sync_to_async(old.blacklist)()
        # Failure 3: by now the old token is spent, so this logs the user out.
        refresh = CustomRefreshToken.for_user(user)
        return TokenPayload.granted(refresh)
