"""The strawberry_django schema: its own fields run in threads, plain ones do not."""

import strawberry
import strawberry_django
from strawberry_django.optimizer import DjangoOptimizerExtension

from async_guard.integrations.strawberry import AsyncGuardExtension
from tests.testapp import models


@strawberry_django.type(models.Studio)
class Studio:
    name: strawberry.auto


@strawberry_django.type(models.Director)
class Director:
    name: strawberry.auto
    studio: Studio | None


@strawberry_django.type(models.Film)
class Film:
    title: strawberry.auto
    director: Director

    @strawberry_django.field
    async def strand_key(self) -> int | None:
        # The optimizer has fetched only the columns of the requested fields.
        return self.strand_id  # <- the access [strand_key]

    @strawberry.field
    def director_name(self) -> str:
        return self.director.name  # <- the access [plain_field_director]

    @strawberry_django.field(select_related=["director"], only=["director__name"])
    def joined_director_name(self) -> str:
        return self.director.name

    @strawberry_django.field(only=["director_id"])
    def lazy_director_name(self) -> str:
        return self.director.name  # <- the access [lazy_director_name]


@strawberry.type
class Query:
    films: list[Film] = strawberry_django.field()


django_schema = strawberry.Schema(Query, extensions=[AsyncGuardExtension, DjangoOptimizerExtension])
