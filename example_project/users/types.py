"""What a client sees of a user. Three fields fail; `fixed.py` has them mended."""

import strawberry
import strawberry_django
from strawberry import auto

from users.models import Profile, User


@strawberry_django.type(Profile)
class ProfileType:
    onboarding_completed: auto


@strawberry_django.type(User)
class UserType:
    id: auto
    email: auto
    role: auto

    # Failure 1: a plain resolver runs where the event loop runs, and loads a row
    # there. hasattr() forgives AttributeError only, not SynchronousOnlyOperation.
    @strawberry.field
    def profile(self) -> ProfileType | None:
        if hasattr(self, "profile"):
            return self.profile
        return None

    # The same, hidden: the client gets null, and nobody hears of it.
    @strawberry.field
    def last_device(self) -> str | None:
        try:
            return self.trusted_devices.latest("added_at").name
        except Exception:
            return None

    # Right for one user, N+1 for a list: this runs in the worker thread, where
    # nothing is refused, and loads one team per row.
    @strawberry_django.field
    def team_name(self) -> str:
        return self.team.name


@strawberry.type
class OnboardingEntry:
    email: str
    completed: bool
