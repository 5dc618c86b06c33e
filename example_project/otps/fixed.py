"""`mutations.py`, mended: the token is written in the worker thread."""

import strawberry
from asgiref.sync import sync_to_async

from auth_api.tokens import CustomRefreshToken
from auth_api.types import TokenPayload
from otps.codes import use_code
from otps.models import TrustedDevice
from users.models import User


@strawberry.type
class OtpMutation:
    @strawberry.mutation
    async def verify(self, email: str, code: str, device_id: str) -> TokenPayload:
        user = await User.objects.filter(email=email).afirst()
        if user is None or not await use_code(user, code):
            return TokenPayload.refused("Wrong or expired code.")
        refresh = await sync_to_async(CustomRefreshToken.for_user)(user)
        await TrustedDevice.objects.aget_or_create(
            user=user, device_id=device_id, defaults={"name": device_id}
        )
        return TokenPayload.granted(refresh)
