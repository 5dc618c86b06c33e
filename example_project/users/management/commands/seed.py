from django.contrib.auth.hashers import make_password
from django.core.management.base import BaseCommand
from django.db import transaction

from otps.models import TrustedDevice
from users.models import Profile, Team, User

PASSWORD = "correct horse battery staple"
TEAMS = {
    "Analytics": ["ada", "grace", "hedy", "new"],
    "Compilers": ["barbara", "frances", "jean", "adele"],
    "Networks": ["radia", "elizabeth", "karen", "joan"],
}
ADMINS = {"ada"}
WITHOUT_PROFILE = {"new"}
WITH_OTP = {"grace"}


class Command(BaseCommand):
    help = "Load the twelve users that README.md and demo.py talk about."

    @transaction.atomic
    def handle(self, **options: object) -> None:
        password = make_password(PASSWORD)  # slow on purpose: once is enough
        for team, names in TEAMS.items():
            for name in names:
                seed_user(name, Team.objects.get_or_create(name=team)[0], password)
        self.stdout.write(f"{User.objects.count()} users, password: {PASSWORD}")


def seed_user(name: str, team: Team, password: str) -> None:
    """Bring one user and what hangs on it to the state written above."""
    user, _ = User.objects.update_or_create(
        email=f"{name}@example.com",
        defaults={
            "team": team,
            "role": User.Role.ADMIN if name in ADMINS else User.Role.MEMBER,
            "otp_enabled": name in WITH_OTP,
            "password": password,
        },
    )
    if name in WITHOUT_PROFILE:
        Profile.objects.filter(user=user).delete()
    else:
        Profile.objects.update_or_create(
            user=user, defaults={"onboarding_completed": name in ADMINS}
        )
    if name in WITH_OTP:
        TrustedDevice.objects.get_or_create(
            user=user, device_id=f"{name}-laptop", defaults={"name": "Laptop"}
        )
