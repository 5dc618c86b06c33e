"""Views and schemas below included patterns."""

import asyncio
from functools import partial, wraps

from asgiref.sync import async_to_sync
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import include, path
from django.views import View
from strawberry.django.views import AsyncGraphQLView, GraphQLView

from async_guard.integrations.strawberry import AsyncGuardExtension
from tests.integrations.catalogue import build
from tests.testapp.models import Film, Screening


def decorated(view):
    @wraps(view)
    async def wrapper(request, *args, **kwargs):
        return await view(request, *args, **kwargs)

    return wrapper


async def director(request):
    film = await Film.objects.aget(title="M")
    return HttpResponse(film.director.name)


@decorated
async def decorated_director(request, key):
    film = await Film.objects.aget(title="M")
    return HttpResponse(film.director.name)


class DirectorView(View):
    async def get(self, request, title):
        film = await Film.objects.aget(title=title)
        return HttpResponse(film.director.name)

    async def delete(self, request, title):
        return HttpResponse(Film.objects.count())


async def careless(request):
    film = await Film.objects.aget(title="M")
    try:
        return HttpResponse(film.director.name)
    except Exception:
        return HttpResponse("nobody")


async def careful(request):
    film = await Film.objects.aget(title="M")
    try:
        return HttpResponse(film.director.name)
    except ValueError:
        return HttpResponse("nobody")


async def grouped(request):
    async def name(title):
        film = await Film.objects.aget(title=title)
        return film.director.name

    async with asyncio.TaskGroup() as group:
        group.create_task(name("M"))
    return HttpResponse("never")


async def gathered(request):
    async def name(title):
        film = await Film.objects.aget(title=title)
        return film.director.name

    names = await asyncio.gather(name("M"), name("Stalker"), return_exceptions=True)
    return HttpResponse(", ".join(type(each).__name__ for each in names))


async def tidied_up(request):
    try:
        async_to_sync(fine)(request)
    finally:
        await asyncio.sleep(0.01)


async def streamed(request):
    async def names():
        yield "title\n"
        async for film in Film.objects.order_by("pk"):
            try:
                yield f"{film.director.name}\n"
            except Exception:
                yield "nobody\n"

    return StreamingHttpResponse(names())


def sync_page(request):
    names = [film.director.name for film in Film.objects.order_by("pk")]
    return HttpResponse(", ".join(names))


def sync_stream(request):
    return StreamingHttpResponse(f"{film.director.name}\n" for film in Film.objects.order_by("pk"))


async def broken(request):
    raise ValueError("broken")


async def broken_with_rows(request):
    rows = Screening.objects.order_by("pk")  # each row's __str__ loads its film
    raise ValueError(f"broken with {rows.query.get_initial_alias()}")


async def fine(request):
    return HttpResponse(str(await Film.objects.acount()))


PROTOCOLS = ("graphql-sse", "multipart-subscription")
guarded = build(AsyncGuardExtension)
unguarded = build()
films = [
    path("<title>/", DirectorView.as_view()),
    path("by-key/<int:key>/", decorated_director),
]
api = [
    path("graphql/", AsyncGraphQLView.as_view(schema=guarded)),
    path("stream/", AsyncGraphQLView.as_view(schema=guarded, subscription_protocols=PROTOCOLS)),
]
urlpatterns = [
    path("director/", director),
    path("films/", include(films)),
    path("named/", include((films, "films"), namespace="named")),
    path("careless/", careless),
    path("careful/", careful),
    path("grouped/", grouped),
    path("gathered/", gathered),
    path("tidied-up/", tidied_up),
    path("partial/", partial(partial(director))),
    path("streamed/", streamed),
    path("sync-page/", sync_page),
    path("sync-stream/", sync_stream),
    path("broken/", broken),
    path("broken-with-rows/", broken_with_rows),
    path("fine/", fine),
    path("api/", include(api)),
    path("unguarded/", AsyncGraphQLView.as_view(schema=unguarded)),
    path("sync-graphql/", GraphQLView.as_view(schema=guarded)),
]
