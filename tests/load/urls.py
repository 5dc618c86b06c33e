"""The example's API, and beside it a mutation that writes two rows in one transaction."""

import asyncio

import strawberry
from config.urls import graphql
from django.db import transaction
from django.urls import include, path
from otps.models import TrustedDevice
from users.models import User


@strawberry.type
class Query:
    @strawberry.field
    def nothing(self) -> None:
        return None


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def pair(self, email: str, name: str) -> list[str]:
        """Write both, or neither. Others wait for the user's row meanwhile."""
        with transaction.atomic():
            user = User.objects.select_for_update().get(email=email)
            left = TrustedDevice.objects.create(user=user, device_id=f"left {name}", name=name)
            await asyncio.sleep(0.01)
            right = TrustedDevice.objects.create(user=user, device_id=f"right {name}", name=name)
        return [left.device_id, right.device_id]


urlpatterns = [
    path("", include("config.urls")),
    path("pairs/", graphql(strawberry.Schema(Query, Mutation))),
]
