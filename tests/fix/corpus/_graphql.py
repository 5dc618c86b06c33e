"""A schema whose fields and permissions hit; ``graphql.py`` asks it."""

from types import SimpleNamespace

import strawberry as sb
import strawberry_django
from strawberry import field
from strawberry.permission import BasePermission
from strawberry_django.optimizer import DjangoOptimizerExtension

from async_guard.integrations.strawberry import AsyncGuardExtension
from tests.testapp import models
from tests.testapp.models import Film, Membership


def director_of(root) -> str:
    return root.director.name


class Staff(BasePermission):
    message = "Staff only."

    def has_permission(self, source, info, **kwargs) -> bool:
        return info.context.request.user.is_staff


class Members(BasePermission):
    message = "Members only."

    def has_permission(self, source, info, **kwargs) -> bool:
        if Membership.objects.filter(user__username="ada").exists():
            return Membership.objects.get(user__username="ada").motto != ""
        return False


class AsyncStaff(BasePermission):
    message = "Staff only."

    async def has_permission(self, source, info, **kwargs) -> bool:
        return info.context.request.user.is_staff


@strawberry_django.type(models.Film)
class OneFilm:
    title: sb.auto
    by: str = sb.field(resolver=director_of, description="Who?")  # the director

    @field(name="genreNames")
    def genre_names(self) -> list[str]:
        return [genre.name for genre in self.genres.all()]

    @sb.field
    async def strand_name(self) -> str | None:
        return self.strand.name if self.strand else None


@sb.type
class AllFilms:
    constant: str = sb.field(default="c", permission_classes=[Members])

    @sb.field
    async def films(self) -> list[OneFilm]:
        return [film async for film in Film.objects.order_by("pk")]

    @sb.field
    async def film(self, title: str) -> OneFilm | None:
        return Film.objects.filter(title=title).first()

    @field(permission_classes=[Staff])
    def titles(self) -> list[str]:
        return [film.title for film in Film.objects.order_by("pk")]

    @sb.field(permission_classes=[AsyncStaff, Members])
    async def both(self) -> int:
        return 1


@strawberry_django.type(models.Director)
class Maker:
    name: sb.auto

    @strawberry_django.field
    async def studio_name(self) -> str | None:
        return self.studio.name if self.studio else None


@strawberry_django.type(models.Film)
class Listed:
    title: sb.auto
    director: Maker

    @sb.field
    async def director_name(self) -> str:
        return self.director.name

    @strawberry_django.field
    async def genre_names(self) -> list[str]:
        return [genre.name for genre in self.genres.all()]


@strawberry_django.type(models.Film)
class Loaded:
    title: sb.auto

    @sb.field
    async def director_name(self) -> str:
        return self.director.name

    @sb.field
    def strand_name(self) -> str | None:
        return self.strand.name if self.strand else None


async def two_of_them():
    return [film async for film in Film.objects.order_by("pk")[:2]]


@sb.type
class Listing:
    listed: list[Listed] = strawberry_django.field()

    @strawberry_django.field
    async def loaded(self) -> list[Loaded]:
        return await two_of_them()


schema = sb.Schema(AllFilms, extensions=[AsyncGuardExtension])
optimized = sb.Schema(Listing, extensions=[DjangoOptimizerExtension, AsyncGuardExtension])


async def ask(query, request=None, schema=schema):
    result = await schema.execute(query, context_value=SimpleNamespace(request=request))
    return result.data, [str(error) for error in result.errors or []]
