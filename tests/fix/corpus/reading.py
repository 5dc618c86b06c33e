"""Querysets that async functions evaluate, in every way that it is written."""

from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType

from tests.testapp import models
from tests.testapp.models import Film, Genre, Membership, Note, Review, Screening


async def for_statement():
    titles = []
    for film in Film.objects.order_by("pk"):  # all of them
        titles.append(film.title)
    else:
        titles.append("end")
    return titles


async def over_several_lines():
    titles = []
    for film in (
        Film.objects
        # by age
        .order_by("pk").filter(title__contains="a")
    ):
        titles.append(film.title)
    return titles


async def comprehensions():
    a = [film.title for film in Film.objects.order_by("pk") if film.title != "Film 1"]
    b = {film.pk: film.title for film in Film.objects.order_by("pk")}
    c = {film.title for film in Film.objects.order_by("pk")}
    return a, list(b.values()), sorted(c)


async def nested_comprehension():
    films = [film async for film in Film.objects.order_by("pk")]
    return [(film.title, genre.name) for film in films for genre in film.genres.all()]


async def consumers():
    films = Film.objects.order_by("pk")
    first = list(films)
    second = len(Film.objects.all())
    third = sorted(Film.objects.all(), key=lambda film: film.title)
    fourth = tuple(Film.objects.values_list("title", flat=True).order_by("pk"))
    fifth = ", ".join(Genre.objects.values_list("name", flat=True))
    sixth = [index for index, film in enumerate(Film.objects.iterator())]
    return len(first), second, [film.title for film in third], fourth, fifth, sixth


async def truth():
    found = []
    if Film.objects.filter(title="Stalker"):
        found.append("yes")
    if not Film.objects.filter(title="Solaris"):
        found.append("no")
    some = Film.objects.filter(title="Stalker") or ["nothing"]
    return found, [film.title for film in some]


async def named_truth():
    films = Film.objects.order_by("pk")
    if films:
        return [film.title for film in films]
    return "none"


async def index_and_membership():
    films = Film.objects.order_by("pk")
    first = films[0]
    last = Film.objects.order_by("-pk")[0].title
    return first.title, last, first in Film.objects.all(), first not in Film.objects.all()


async def index_error():
    try:
        return Film.objects.filter(title="none")[0]
    except IndexError:
        return "no such film"


async def sliced():
    return [film.title for film in Film.objects.order_by("pk")[:2]]


async def rows_or_list(found=None):
    films = Film.objects.order_by("pk") if found is None else []
    return [film.title for film in films]


async def raw_rows():
    return [film.title for film in Film.objects.raw("SELECT * FROM testapp_film ORDER BY id")]


async def unpacked():
    first, *rest = Film.objects.order_by("pk")
    return first.title, len(rest)


async def relation_in_a_loop():
    names = []
    async for film in models.Film.objects.order_by("pk"):
        names.append((film.title, film.director.name))
    return names


async def two_relations_of_one_queryset():
    film = await Film.objects.aget(title="Stalker")
    return film.director.name, film.curator.username, [genre.name for genre in film.genres.all()]


async def relation_of_a_relation():
    film = await Film.objects.aget(title="Stalker")
    return film.director.studio.name


async def relation_after_steps(all_of_them=True):
    films = Film.objects.order_by("pk")
    if all_of_them:
        films = films.filter(pk__gt=0)
    film = await films.afirst()
    return film.director.name


async def reverse_one_to_one():
    user = await User.objects.aget(username="ada")
    return user.membership.motto


async def has_one_to_one():
    user = await User.objects.aget(username="ada")
    return hasattr(user, "membership")


async def relation_of_a_parameter(film=None):
    if film is None:
        film = await Film.objects.aget(title="Stalker")
    return film.director.name


async def inline():
    return (await Film.objects.aget(title="Stalker")).director.name


async def column():
    film = await Film.objects.only("title").aget(title="Stalker")
    return film.title, film.synopsis, film.ticket_price


async def deferred_column():
    film = await Film.objects.defer("synopsis", "ticket_price").aget(title="Stalker")
    return film.synopsis


async def generic_relation():
    film = await Film.objects.aget(title="Stalker")
    return [note.text for note in film.notes.all()]


async def relation_behind_a_generic_foreign_key():
    kind = await ContentType.objects.aget(app_label="testapp", model="film")
    film = await Film.objects.aget(title="Stalker")
    note = await Note.objects.acreate(content_type=kind, object_id=film.pk, text="Slow.")
    note = await Note.objects.aget(pk=note.pk)
    return note.content_object.director.name


async def narrowed_relation():
    film = await Film.objects.aget(title="Stalker")
    return [review.text for review in film.reviews.filter(stars=5)]


async def favourite():
    member = await Membership.objects.aget(user__username="ada")
    return member.favourite and member.favourite.title


async def tuples():
    titles = {}
    for pk, title in Film.objects.order_by("pk").values_list("pk", "title"):
        titles[title] = pk > 0
    for index, (_, title) in enumerate(Film.objects.order_by("pk").values_list("pk", "title")):
        titles[index] = title
    return titles, [
        (film.title, x) for film, x in zip(Film.objects.order_by("pk"), "ab", strict=False)
    ]


async def leaves_early():
    for film in Film.objects.order_by("pk"):
        if film.title == "Stalker":
            continue
        break
    else:
        return "none"
    return film.title


async def list_in_a_loop():
    films = Film.objects.order_by("pk")
    return [film.title for film in list(films)], len(films)


async def comprehensions_in_each_other():
    a = {film.title: [genre.name for genre in film.genres.all()] for film in Film.objects.all()}
    b = {genre.name for film in Film.objects.order_by("pk") for genre in film.genres.all()}
    return sorted(a.items()), sorted(b)


async def index_in_a_name(index=1):
    films = Film.objects.order_by("pk")
    return films[0].title, films[index].title, films[:1][0].title, films[0:2:2][0].title


async def slices():
    films = Film.objects.order_by("pk")
    first = films[:1]
    return [film.title for film in first], [film.title for film in films[1:2]]


async def slices_that_are_asked():
    films = Film.objects.order_by("pk")
    film = await films.aget(title="Stalker")
    found = [1 if films[:1] else 2, not films[:2], [each.title for each in films[:1] or []]]
    if films[:1] and film.genres.all()[:1]:
        found.append(len(films[:2]))
    first, _ = films[:2]
    return (
        found,
        first.title,
        "yes" if Film.objects.order_by("pk")[1:] else "no",
        films[::2][0].title,
    )


async def walrus():
    if films := Film.objects.order_by("pk"):
        return films[0].title, films.query.is_sliced
    return None


async def walrus_of_an_object():
    if (film := Film.objects.filter(title="Stalker").first()) is not None:
        return film.title
    return None


async def stars():
    first, *rest = [*Film.objects.order_by("pk")]
    return first.title, len(rest), max(*Film.objects.values_list("title", flat=True))


async def backwards():
    return [film.title for film in reversed(Film.objects.order_by("pk"))]


async def rows_of_rows():
    film = await Film.objects.aget(title="Stalker")
    return [(review.text, review.user.username) for review in film.reviews.all()]


async def rows_in_every_way():
    film = await Film.objects.aget(title="Stalker")
    return len(film.genres.all()), bool(film.genres.all()), film.genres.all()[0].name


async def generator_expressions():
    names = ", ".join(genre.name for genre in Genre.objects.all())
    dear = all(film.ticket_price > 3 for film in Film.objects.all())
    length = sum(len(film.title) for film in Film.objects.all())
    first = min((film.title for film in Film.objects.order_by("pk")), key=len)
    counts = sorted(Genre.objects.count() + number for number in range(2))
    return names, dear, length, first, counts


async def shown():
    names = Genre.objects.values_list("name")
    print("genres:", names.all())
    return (
        repr(names.all()),
        str(names),
        f"{names.all()}",
        f"{names.all()!r}",
        str.format("{}", names.all()),
    )


async def shown_by_percent():
    names = Genre.objects.values_list("name")
    return "%s %r" % (names.all(), Film.objects.count()), "%s" % names.all()  # noqa: UP031


async def two_in_one_string():
    screening, review = await Screening.objects.afirst(), await Review.objects.afirst()
    count = f"{screening} {await Genre.objects.acount()}"
    both = f"{screening} {review!r}"
    return count, both, f"{screening!s:>40}"


async def two_rewrites_in_one_string():
    film = await Film.objects.aget(title="Stalker")
    return (
        f"{Film.objects.count()} {film.director.name} {[each.name for each in film.genres.all()]}"
    )


async def parts_in_a_loop():
    films = [film.title for film in Film.objects.order_by("pk")[::2]]
    for value in Film.objects.order_by("pk").values_list("title", "synopsis")[0]:
        films.append(value)
    return films, sorted(film.title for film in Film.objects.all()[::2])


async def rows_of_one_of_several():
    shelves = [Film.objects.order_by("pk"), Genre.objects.order_by("pk")]
    return [film.title for film in shelves[0]], [genre.name for genre in shelves[1]]


async def prefetched_rows():
    names = []
    for film in Film.objects.prefetch_related("reviews"):
        names += [review.user.username for review in film.reviews.all()]
    return names


async def _reviewers(film):
    return [review.user.username for review in film.reviews.all()]


async def rows_prefetched_by_the_caller():
    return await _reviewers(await Film.objects.prefetch_related("reviews").aget(title="Stalker"))


async def bracket_on_a_line_of_its_own():
    return list(
        Film.objects.order_by("pk").values_list(
            "title",
            flat=True,
        )
    )


async def rows_that_are_added():
    names = ["first"]
    names += Genre.objects.values_list("name", flat=True)
    films = Film.objects.order_by("pk")
    names += films
    return names[:2], len(names)


async def relation_of_what_is_counted():
    films = enumerate(Film.objects.order_by("pk"))
    names = [film.title for number, film in films if number]
    for number, film in enumerate(Film.objects.order_by("pk"), start=1):
        names.append((number, film.director.name))
    return names
