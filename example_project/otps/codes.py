import secrets

import structlog
from django.conf import settings
from django.utils import timezone

from otps.models import OneTimeCode
from users.models import User

log = structlog.get_logger("otps")


async def needs_code(user: User, device_id: str | None) -> bool:
    if not user.otp_enabled:
        return False
    return not await user.trusted_devices.filter(device_id=device_id).aexists()


async def send_code(user: User) -> None:
    """Make a code. There is no SMS gateway here: with DEBUG the log shows it."""
    code = f"{secrets.randbelow(1_000_000):06}"
    await OneTimeCode.objects.acreate(user=user, code=code)
    log.info("otps.code_sent", user_id=user.pk, code=code if settings.DEBUG else "***")


async def use_code(user: User, code: str) -> bool:
    """Use up a code. One UPDATE, so that of two requests only one succeeds."""
    oldest = timezone.now() - settings.OTP_LIFETIME
    unused = OneTimeCode.objects.filter(user=user, code=code, used=False, created_at__gte=oldest)
    return await unused.aupdate(used=True) > 0
