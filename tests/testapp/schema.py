"""The plain Strawberry schema, where resolvers run on the event loop."""

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated, NewType

import strawberry
import structlog
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction
from strawberry import relay
from strawberry.extensions import MaskErrors
from strawberry.schema.config import StrawberryConfig

from async_guard.integrations.strawberry import AsyncGuardExtension
from tests.testapp import services
from tests.testapp.extensions import (
    CountFilms,
    LogOperations,
    ReportFilms,
    WithCurator,
    WithDirector,
)
from tests.testapp.models import Booking, Director, Film, Review, Ticket
from tests.testapp.permissions import HasMembership, IsMember, IsStaff
from tests.testapp.signals import film_booked, film_viewed

log = structlog.get_logger(__name__)

FilmLabel = NewType("FilmLabel", object)


@strawberry.type
class StudioType:
    name: str


@strawberry.type
class DirectorType:
    name: str
    studio: StudioType | None
    films: list["FilmType"]  # <- the access [director_films]


@strawberry.type
class FilmType:
    title: str
    director: DirectorType  # <- the access [film_director]

    @strawberry.field
    async def director_name(self) -> str:
        return self.director.name  # <- the access [director_name]

    @strawberry.field
    async def director_key(self) -> strawberry.ID:
        return strawberry.ID(str(self.director_id))  # <- the access [director_key]

    @strawberry.field
    async def stars(self) -> float | None:
        return self.average_stars

    @strawberry.field
    async def member_price(self) -> float:
        return services.member_price(self)

    @strawberry.field
    async def genre_names(self) -> list[str]:
        return [genre.name for genre in self.genres.all()]

    @strawberry.field
    def review_texts(self) -> list[str]:
        return [review.text for review in self.reviews.all()]

    @strawberry.field
    async def studio(self, info: strawberry.Info) -> StudioType | None:
        director = await Director.objects.aget(pk=self.director_id)
        return await info.context.studios.load(director.studio_id)

    @strawberry.field
    def director_or_nothing(self) -> str | None:
        try:
            return self.director.name  # <- the access [director_or_nothing]
        except:  # noqa: E722
            return None

    @strawberry.field
    def director_if_any(self) -> str | None:
        with suppress(Exception):
            return self.director.name  # <- the access [director_if_any]

    @strawberry.field
    async def director_by_name(self) -> str:
        try:
            return self.director.name  # <- the access [director_by_name]
        except SynchronousOnlyOperation:
            return await sync_to_async(lambda: self.director.name)()

    @strawberry.field
    def director_or_error(self) -> str | None:
        try:
            return self.director.name  # <- the access [director_or_error]
        except Exception as error:
            raise ValueError("This film has no director.") from error

    @strawberry.field
    async def neighbours(self) -> list[str]:
        films = [film async for film in Film.objects.order_by("pk")]
        return [film.director.name for film in films]  # <- the access [neighbours]

    @strawberry.field(extensions=[WithDirector()])
    def billing(self) -> str:
        return self.title

    @strawberry.field(extensions=[WithCurator()])
    async def credit(self) -> str:
        return self.title


@strawberry.type
class MemberType:
    username: str

    @strawberry.field
    async def motto(self) -> str | None:
        if hasattr(self, "membership"):  # <- the access [motto]
            return self.membership.motto
        return None


@strawberry.type
class ReviewType:
    text: str
    film: FilmType  # <- the access [review_film]


@strawberry.type
class PrintType:
    title: str

    @classmethod
    def is_type_of(cls, obj, info) -> bool:
        return isinstance(obj, Film) and not hasattr(obj, "year")


@strawberry.type
class RestorationType:
    year: int

    @classmethod
    def is_type_of(cls, obj, info) -> bool:
        return obj.restoration is not None  # <- the access [is_type_of]


@strawberry.type
class FilmNode(relay.Node):
    id: relay.NodeID[int]
    title: str

    @classmethod
    def is_type_of(cls, obj, info) -> bool:
        return isinstance(obj, Film)


@strawberry.type
class BookingType:
    number: str
    status: str


@strawberry.type
class Query:
    @strawberry.field
    async def film(self, title: str, joined: bool = False, slim: bool = False) -> FilmType | None:
        films = Film.objects.all()
        if joined:
            films = films.select_related("director__studio").prefetch_related("genres")
        if slim:
            films = films.only("title")
        return await films.aget(title=title)

    @strawberry.field
    async def director(self, name: str) -> DirectorType | None:
        film = await Film.objects.select_related("director").aget(director__name=name)
        return film.director

    @strawberry.field
    async def member(self, username: str) -> MemberType | None:
        return await User.objects.aget(username=username)

    @strawberry.field
    async def films_with_reviews(self) -> list[FilmType]:
        films = Film.objects.prefetch_related("reviews").order_by("pk")
        return await sync_to_async(list)(films)

    @strawberry.field
    async def publications(
        self,
    ) -> list[Annotated[RestorationType | PrintType, strawberry.union("Publication")]]:
        return [film async for film in Film.objects.order_by("pk")]

    @strawberry.field
    async def label(self, title: str) -> FilmLabel | None:
        return await Film.objects.aget(title=title)

    @relay.connection(relay.ListConnection[FilmNode])
    def film_nodes(self) -> list[FilmNode]:
        return Film.objects.order_by("pk")  # <- the access [film_nodes]

    @strawberry.field
    async def log_me(self, info: strawberry.Info) -> str | None:
        log.info("asked", user=info.context.request.user)  # <- the access [log_me]
        return "logged"

    @strawberry.field(permission_classes=[IsStaff])
    async def takings(self) -> int | None:
        return 100

    @strawberry.field(permission_classes=[HasMembership])
    async def members_news(self) -> str | None:
        return "Free popcorn"

    @strawberry.field(permission_classes=[IsMember])
    async def members_offer(self) -> str | None:
        return "Half price"

    @strawberry.field
    async def view(self, title: str) -> str:
        film = await Film.objects.aget(title=title)
        film_viewed.send_robust(sender=Film, film=film)
        return film.title

    @strawberry.field
    async def book(self, title: str) -> str:
        film = await Film.objects.aget(title=title)
        await film_booked.asend_robust(sender=Film, film=film)
        return film.title

    @strawberry.field
    def opening_hours(self) -> str:
        return "18:00 to 24:00"


@strawberry.input
class ReviewInput:
    film: str
    user: str
    text: str = "fine"


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def rename(self, title: str, to: str) -> str | None:
        with transaction.atomic():  # <- the access [rename]
            film = await Film.objects.aget(title=title)
            film.title = to
            await film.asave()
        return film.title

    @strawberry.mutation
    async def check_out(self, title: str, username: str) -> BookingType | None:
        """Buy first, read lazily afterwards: who runs it again buys twice."""
        customer = await User.objects.aget(username=username)
        film = await Film.objects.aget(title=title)
        booking = await Booking.objects.acreate(number="B-1", customer=customer)
        await Ticket.objects.acreate(booking=booking, film=film, seats=2)
        services.charge_card(20)
        booking.status = f"{services.booking_total(booking)} seats"
        await booking.asave()
        return booking

    @strawberry.mutation
    async def add_review(self, data: ReviewInput) -> str | None:
        film = await Film.objects.aget(title=data.film)
        user = await User.objects.aget(username=data.user)
        review = Review(film=film, user=user, text=data.text)
        review.save()  # <- the access [add_review]
        return review.text


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def review_feed(self) -> AsyncGenerator[str, None]:
        yield "start"
        async for review in Review.objects.order_by("pk"):
            yield f"{review.film.title}: {review.text}"  # <- the access [review_feed]

    @strawberry.subscription
    async def reviews(self) -> AsyncGenerator[ReviewType, None]:
        async for review in Review.objects.order_by("pk"):
            yield review


label_scalar = strawberry.scalar(
    name="FilmLabel",
    serialize=lambda film: f"{film.title} ({film.director.name})",  # <- the access [label]
)


def build_schema(*extensions):
    return strawberry.Schema(
        Query,
        Mutation,
        Subscription,
        extensions=extensions,
        config=StrawberryConfig(scalar_map={FilmLabel: label_scalar}),
    )


schema = build_schema(AsyncGuardExtension)
unguarded_schema = build_schema()
masked_schema = build_schema(AsyncGuardExtension, MaskErrors)
logging_schema = build_schema(AsyncGuardExtension, LogOperations)
counting_schema = build_schema(AsyncGuardExtension, CountFilms)
reporting_schema = build_schema(AsyncGuardExtension, ReportFilms)
