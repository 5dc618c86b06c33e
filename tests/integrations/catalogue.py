"""One schema with nearly everything that Strawberry can do, and some lines that hit on purpose."""

import asyncio
import enum
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from typing import Annotated, Any, NewType

import strawberry
import strawberry_django
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from graphql import GraphQLError
from strawberry import relay
from strawberry.extensions import FieldExtension
from strawberry.permission import BasePermission
from strawberry.schema.config import StrawberryConfig
from strawberry_django.optimizer import DjangoOptimizerExtension

from tests.testapp import models

# --- plain types: resolvers run on the loop ------------------------------------------------------


class Shout(FieldExtension):
    def resolve(self, next_, source, info, **kwargs):
        return next_(source, info, **kwargs).upper()


class ShoutLater(FieldExtension):
    async def resolve_async(self, next_, source, info, **kwargs):
        await asyncio.sleep(0)
        return (await next_(source, info, **kwargs)).upper()


class Nobody(BasePermission):
    message = "Nobody may."
    error_extensions = {"code": "FORBIDDEN"}

    def has_permission(self, source, info, **kwargs):
        return False


class NobodyLater(BasePermission):
    message = "Nobody may, later."

    async def has_permission(self, source, info, **kwargs):
        await asyncio.sleep(0)
        return False


class Refusal(GraphQLError):
    pass


Fahrenheit = NewType("Fahrenheit", float)


@strawberry.enum
class Mood(enum.Enum):
    BLACK = "black"
    WHITE = "white"


@strawberry.interface
class Named:
    name: str


@strawberry.type
class Person(Named):
    age: int = 40


@strawberry.type
class House(Named):
    rooms: int = 4

    @strawberry.field
    def address(self) -> str:
        raise ValueError("no address")


@strawberry.type
class Weak:
    number: int

    @strawberry.field
    def half(self) -> int:
        if self.number % 2:
            raise ValueError(f"{self.number} is odd")
        return self.number // 2

    @strawberry.field
    def half_or_none(self) -> int | None:
        return Weak.half(self)


@strawberry.type
class Fruit(relay.Node):
    id: relay.NodeID[int]
    name: str

    @classmethod
    def resolve_nodes(cls, *, info, node_ids, required=False):
        return [Fruit(id=int(key), name=f"fruit {key}") for key in node_ids]


@strawberry.type
class PlainStudio:
    name: str


@strawberry.type
class PlainDirector:
    name: str
    studio: PlainStudio | None
    films: list["PlainFilm"]

    @strawberry.field
    async def studio_name(self) -> str | None:
        return self.studio.name


@strawberry.type
class PlainFilm:
    title: str
    director: PlainDirector

    @strawberry.field
    async def director_name(self) -> str | None:
        return self.director.name

    @strawberry.field
    def director_or_nothing(self) -> str | None:
        with suppress(Exception):
            return self.director.name

    @strawberry.field
    async def director_by_name(self) -> str:
        try:
            return self.director.name
        except SynchronousOnlyOperation:
            return await sync_to_async(lambda: self.director.name)()

    @strawberry.field
    async def strand_name(self) -> str:
        return self.strand.name

    @strawberry.field
    async def strand_or_none(self) -> str | None:
        return self.strand.name

    @strawberry.field
    async def joined_director(self, info: strawberry.Info) -> str:
        return await info.context["directors"].load(self.director_id)

    @classmethod
    def is_type_of(cls, obj, info):
        return isinstance(obj, models.Film | PlainFilm)


@strawberry.input
class Range:
    low: int
    high: int = 9


@strawberry.input(one_of=True)
class Choice:
    number: strawberry.Maybe[int]
    word: strawberry.Maybe[str]


# --- strawberry_django types: its fields run in worker threads ------------------------------------


@strawberry_django.filter_type(models.Film)
class FilmFilter:
    title: strawberry.auto


@strawberry_django.order_type(models.Film)
class FilmOrder:
    title: strawberry.auto


@strawberry_django.type(models.Studio)
class Studio:
    name: strawberry.auto


@strawberry_django.type(models.Director)
class Director:
    name: strawberry.auto
    studio: Studio | None
    films: list["Film"]


@strawberry_django.type(models.Genre)
class Genre:
    name: strawberry.auto


@strawberry_django.type(models.Film, filters=FilmFilter, ordering=FilmOrder, pagination=True)
class Film:
    title: strawberry.auto
    director: Director
    genres: list[Genre]

    @strawberry_django.field(only=["title"])
    def loud_title(self) -> str:
        return self.title.upper()

    @strawberry_django.field(only=["director_id"])
    def lazy_director_name(self) -> str:
        return self.director.name


@strawberry_django.type(models.Film)
class FilmNode(relay.Node):
    title: strawberry.auto


def fruits():
    return [Fruit(id=number, name=f"fruit {number}") for number in range(5)]


@strawberry.type
class Fields:
    @strawberry.field
    def hello(self, name: str = "world") -> str:
        return f"hello {name}"

    @strawberry.field
    async def hello_later(self, name: str = "world", seconds: float = 0) -> str:
        await asyncio.sleep(seconds)
        return f"hello {name}"

    @strawberry.field
    def total(self, numbers: list[int]) -> int:
        return sum(numbers)

    @strawberry.field
    def inside(self, span: Range) -> list[int]:
        return list(range(span.low, span.high))

    @strawberry.field
    def chosen(self, choice: Choice) -> str:
        return str(choice.number or choice.word)

    @strawberry.field
    def mood(self, mood: Mood = Mood.BLACK) -> Mood:
        return mood

    @strawberry.field
    def warm(self, value: Fahrenheit) -> Fahrenheit:
        return value

    @strawberry.field
    def named(self) -> list[Named]:
        return [Person(name="Ada"), House(name="Villa")]

    @strawberry.field
    def things(self) -> list[Annotated[Person | House, strawberry.union("Thing")]]:
        return [Person(name="Ada"), House(name="Villa")]

    @strawberry.field
    def weak(self) -> list[Weak]:
        return [Weak(number=number) for number in (2, 3, 4)]

    @strawberry.field
    def weak_or_none(self) -> list[Weak | None]:
        return [Weak(number=number) for number in (2, 3, 4)]

    @strawberry.field
    def broken(self) -> str | None:
        raise ValueError("broken")

    @strawberry.field
    def refused(self) -> str | None:
        raise Refusal("refused", extensions={"code": "REFUSED"})

    @strawberry.field
    def not_a_string(self) -> int:
        return "many"  # type: ignore[return-value]

    @strawberry.field(permission_classes=[Nobody])
    def forbidden(self) -> str | None:
        return "secret"

    @strawberry.field(permission_classes=[Nobody])
    def strictly_forbidden(self) -> str:
        return "secret"

    @strawberry.field(permission_classes=[NobodyLater])
    async def forbidden_later(self) -> str | None:
        return "secret"

    @strawberry.field(extensions=[Shout()])
    def shout(self) -> str:
        return "shout"

    @strawberry.field(extensions=[ShoutLater()])
    async def shout_later(self) -> str:
        return "shout later"

    @relay.connection(relay.ListConnection[Fruit])
    def fruits(self) -> Iterable[Fruit]:
        return fruits()

    @strawberry.field
    async def plain_film(self, title: str) -> PlainFilm | None:
        return await models.Film.objects.filter(title=title).afirst()

    @strawberry.field
    async def plain_films(self) -> list[PlainFilm]:
        return [film async for film in models.Film.objects.order_by("pk")]

    @strawberry.field
    async def plain_directors(self) -> list[PlainDirector]:
        films = models.Director.objects.prefetch_related("films").order_by("pk")
        return [director async for director in films]

    @strawberry.field
    async def maybe_films(self) -> list[PlainFilm | None]:
        return [film async for film in models.Film.objects.order_by("pk")]

    @strawberry.field
    async def shelves(self) -> list[list[PlainFilm]]:
        found = [film async for film in models.Film.objects.order_by("pk")]
        return [found[:1], found[1:]]

    films: list[Film] = strawberry_django.field()
    film_nodes: relay.ListConnection[FilmNode] = strawberry_django.connection()
    directors: list[Director] = strawberry_django.field()

    @strawberry_django.field
    def films_by_resolver(self) -> list[Film]:
        return models.Film.objects.order_by("-pk")


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def touch(self, span: Range, note: str | None = None) -> str:
        return f"{span.low}-{span.high} {note}"

    @strawberry.mutation
    async def retitle(self, old: str, new: str) -> PlainFilm | None:
        await models.Film.objects.filter(title=old).aupdate(title=new)
        return await models.Film.objects.filter(title=new).afirst()

    @strawberry.mutation
    async def fail(self) -> str | None:
        raise ValueError("failed")


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, to: int = 3) -> AsyncGenerator[int, None]:
        for number in range(to):
            await asyncio.sleep(0)
            yield number

    @strawberry.subscription
    async def count_badly(self) -> AsyncGenerator[int, None]:
        yield 0
        raise ValueError("uncountable")

    @strawberry.subscription
    async def new_films(self) -> AsyncGenerator[PlainFilm, None]:
        async for film in models.Film.objects.order_by("pk"):
            yield film

    @strawberry.subscription
    async def new_director_names(self) -> AsyncGenerator[str, None]:
        async for film in models.Film.objects.order_by("pk"):
            await asyncio.sleep(0)
            yield film.director.name

    @strawberry.subscription
    async def new_names_or_nothing(self) -> AsyncGenerator[str, None]:
        async for film in models.Film.objects.order_by("pk"):
            try:
                yield film.director.name
            except Exception:
                yield "nothing"


def query_type():
    """Return a new type: a ``relay.node()`` is good for one schema only."""

    @strawberry.type
    class Query(Fields):
        node: relay.Node = relay.node()
        nodes: list[relay.Node] = relay.node()
        film: Film = strawberry_django.field()

    return Query


def build(*extensions: Any, **more: Any) -> strawberry.Schema:
    """Return a new schema: no two share a ``GraphQLField``."""
    scalar = strawberry.scalar(
        name="Fahrenheit",
        serialize=lambda value: value * 2,
        parse_value=lambda value: Fahrenheit(float(value) / 2),
    )
    return strawberry.Schema(
        query_type(),
        Mutation,
        Subscription,
        types=[Person, House],
        extensions=[*extensions, DjangoOptimizerExtension],
        config=StrawberryConfig(scalar_map={Fahrenheit: scalar}),
        **more,
    )
