"""
`types.py` and `queries.py`, mended: what a resolver reads is loaded with the rows.

A resolver that finds its relation loaded touches no database, so it may stay a plain
one. What cannot be loaded with the rows is awaited.
"""

import strawberry
import strawberry_django
from django.db.models import QuerySet
from strawberry import auto

from users import queries
from users.models import User
from users.types import ProfileType


def users_for_api() -> QuerySet[User]:
    """Load users together with the relations that ``UserType`` reads."""
    return User.objects.select_related("profile", "team")


@strawberry_django.type(User)
class UserType:
    id: auto
    email: auto
    role: auto

    # Not a line changed. That there is no profile was loaded as well: still null.
    @strawberry.field
    def profile(self) -> ProfileType | None:
        if hasattr(self, "profile"):
            return self.profile
        return None

    # Awaited, and without the `except` that would hide the next mistake.
    @strawberry.field
    async def last_device(self) -> str | None:
        device = await self.trusted_devices.order_by("-added_at").afirst()
        return device.name if device else None

    # The team is there already: no query, and no need for the worker thread.
    @strawberry.field
    def team_name(self) -> str:
        return self.team.name


@strawberry.type
class Query(queries.Query):
    @strawberry.field
    async def users(self) -> list[UserType]:
        return [user async for user in users_for_api().order_by("email")]

    @strawberry.field
    async def user(self, email: str) -> UserType | None:
        return await users_for_api().filter(email=email).afirst()
