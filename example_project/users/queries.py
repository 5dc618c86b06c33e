import strawberry

from users.models import Profile, User
from users.types import OnboardingEntry, UserType


@strawberry.type
class Query:
    @strawberry.field
    async def users(self) -> list[UserType]:
        return [user async for user in User.objects.order_by("email")]

    @strawberry.field
    async def user(self, email: str) -> UserType | None:
        return await User.objects.filter(email=email).afirst()

    # Nothing to report here: async iteration, and the relation loaded with the rows.
    @strawberry.field
    async def onboarding(self) -> list[OnboardingEntry]:
        profiles = Profile.objects.select_related("user").order_by("user__email")
        return [
            OnboardingEntry(email=profile.user.email, completed=profile.onboarding_completed)
            async for profile in profiles
        ]
