"""`mutations.py`, mended: what a library does to the database runs in the worker."""

import strawberry
from asgiref.sync import sync_to_async
from django.db import transaction
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import RefreshToken

from auth_api.tokens import CustomRefreshToken
from auth_api.types import TokenPayload
from otps.codes import needs_code, send_code
from users.fixed import UserType, users_for_api
from users.models import User


@strawberry.type
class LoginPayload(TokenPayload):
    otp_required: bool = False
    user: UserType | None = None


@strawberry.type
class AuthMutation:
    @strawberry.mutation
    async def login(self, email: str, password: str, device_id: str | None = None) -> LoginPayload:
        user = await users_for_api().filter(email=email).afirst()
        if user is None or not await user.acheck_password(password):
            return LoginPayload.refused("Wrong email or password.")
        if await needs_code(user, device_id):
            await send_code(user)
            return LoginPayload(success=True, message="We sent you a code.", otp_required=True)
        refresh = await sync_to_async(RefreshToken.for_user)(user)
        return LoginPayload.granted(refresh, user=user)

    @strawberry.mutation
    async def refresh_token(self, refresh_token: str) -> TokenPayload:
        try:
            refresh = await sync_to_async(exchange)(refresh_token)
        except TokenError:
            return TokenPayload.refused("Please log in again.")
        return TokenPayload.granted(refresh)


def exchange(refresh_token: str) -> CustomRefreshToken:
    """
    Swap a refresh token for a new one: both or neither.

    One sync function is one hop to the worker thread and may hold a transaction, which
    a coroutine must not: if something fails, the old token is still good.
    """
    old = CustomRefreshToken(refresh_token)
    with transaction.atomic():
        old.blacklist()
        return CustomRefreshToken.for_user(User.objects.get(pk=old["user_id"]))
