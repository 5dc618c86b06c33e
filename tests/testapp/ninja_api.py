from ninja import NinjaAPI, Schema

from tests.testapp.models import Film

api = NinjaAPI()


class GenreOut(Schema):
    name: str


class FilmOut(Schema):
    title: str
    genres: list[GenreOut]


@api.get("/films", response=list[FilmOut])
async def films(request):
    return [film async for film in Film.objects.order_by("pk")]  # <- the access [ninja_films]
