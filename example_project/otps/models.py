from django.conf import settings
from django.db import models


class TrustedDevice(models.Model):
    """A device that may log in without a one-time code."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="trusted_devices"
    )
    device_id = models.CharField(max_length=80)
    name = models.CharField(max_length=80)
    added_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "device_id"], name="trusted_device_once_per_user"
            )
        ]

    def __str__(self) -> str:
        return self.name


class OneTimeCode(models.Model):
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="one_time_codes"
    )
    code = models.CharField(max_length=6)
    created_at = models.DateTimeField(auto_now_add=True)
    used = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"Code {self.pk}"
