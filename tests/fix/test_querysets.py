"""Where an object comes from: what ``fix`` follows to the queryset, and where it gives up."""
# ruff: noqa: E501

from dataclasses import replace

import pytest

from async_guard.fix.planning import plan
from tests.fix.making import fixed, hits_of, refusal

RELATION = {
    "rule": "AG113",
    "kind": "n_plus_one",
    "access": "forward_relation",
    "orm_field": "director",
    "orm_model": "app.Film",
    "relation": "app.Film.director",
}
MANY = {**RELATION, "access": "many_to_many", "orm_field": "genres", "relation": "app.Film.genres"}
COLUMN = {**RELATION, "access": "deferred_field", "orm_field": "title", "relation": None}


def function(body):
    return "async def f(request):\n" + "".join(f"    {line}\n" for line in body.split("\n"))


def added(patch):
    """Return the lines that the patch adds, without their indentation."""
    lines = patch.diff().splitlines()
    return [each[1:].strip() for each in lines if each[:1] == "+" and each[:3] != "+++"]


FOLLOWED = [
    (
        "list made by a comprehension",
        RELATION,
        "films = [film async for film in Film.objects.all()]\nfor film in films:\n    print(⟦film.director⟧)",
        'films = [film async for film in Film.objects.select_related("director").all()]',
    ),
    (
        "item of a list",
        RELATION,
        "films = [film async for film in Film.objects.all()]\nfilm = films[0]\nprint(⟦film.director⟧)",
        'films = [film async for film in Film.objects.select_related("director").all()]',
    ),
    (
        "list()",
        RELATION,
        "for film in list(Film.objects.all()):\n    print(⟦film.director⟧)",
        'for film in list(Film.objects.select_related("director").all()):',
    ),
    (
        "shortcut with a queryset",
        RELATION,
        "film = await aget_object_or_404(Film.objects.all(), pk=1)\nprint(⟦film.director⟧)",
        'film = await aget_object_or_404(Film.objects.select_related("director").all(), pk=1)',
    ),
    (
        "list in a thread",
        RELATION,
        "for film in await sync_to_async(list)(Film.objects.all()):\n    print(⟦film.director⟧)",
        'for film in await sync_to_async(list)(Film.objects.select_related("director").all()):',
    ),
    (
        "get in a thread",
        RELATION,
        "film = await sync_to_async(Film.objects.filter(a=1).get)(pk=1)\nprint(⟦film.director⟧)",
        'film = await sync_to_async(Film.objects.select_related("director").filter(a=1).get)(pk=1)',
    ),
    (
        "slice",
        RELATION,
        "async for film in Film.objects.all()[:5]:\n    print(⟦film.director⟧)",
        'async for film in Film.objects.select_related("director").all()[:5]:',
    ),
    (
        "slice in the middle of a chain",
        RELATION,
        "film = await Film.objects.filter(a=1)[:5].afirst()\nprint(⟦film.director⟧)",
        'film = await Film.objects.select_related("director").filter(a=1)[:5].afirst()',
    ),
    (
        "behind a method of the project's own",
        RELATION,
        "async for film in Film.objects.published().order_by('pk'):\n    print(⟦film.director⟧)",
        "async for film in Film.objects.published().select_related(\"director\").order_by('pk'):",
    ),
    (
        "chain that starts from a name",
        RELATION,
        "films = Film.objects.all()\nasync for film in films.order_by('pk'):\n    print(⟦film.director⟧)",
        "async for film in films.select_related(\"director\").order_by('pk'):",
    ),
    (
        "chain of an attribute",
        RELATION,
        "async for film in self.films.order_by('pk'):\n    print(⟦film.director⟧)",
        "async for film in self.films.select_related(\"director\").order_by('pk'):",
    ),
    (
        "name with an annotation",
        RELATION,
        "film: Film = await Film.objects.aget(pk=1)\nprint(⟦film.director⟧)",
        'film: Film = await Film.objects.select_related("director").aget(pk=1)',
    ),
    (
        "name that is assigned in a condition",
        RELATION,
        "if film := await Film.objects.afirst():\n    print(⟦film.director⟧)",
        'if film := await Film.objects.select_related("director").afirst():',
    ),
    (
        "read by getattr()",
        RELATION,
        "async for film in Film.objects.all():\n    print(⟦getattr(film, 'director')⟧)",
        'async for film in Film.objects.select_related("director").all():',
    ),
    (
        "read by str()",
        RELATION,
        "async for film in Film.objects.all():\n    print(⟦str(film.director)⟧)",
        'async for film in Film.objects.select_related("director").all():',
    ),
    (
        "what sorted() hands to a lambda",
        RELATION,
        "film = None\nfilms = [f async for f in Film.objects.all()]\nsorted(films, key=lambda film: ⟦film.director⟧)",
        'films = [f async for f in Film.objects.select_related("director").all()]',
    ),
    (
        "what map() hands to a lambda",
        RELATION,
        "films = [f async for f in Film.objects.all()]\nlist(map(lambda film: ⟦film.director⟧, films))",
        'films = [f async for f in Film.objects.select_related("director").all()]',
    ),
    (
        "what sort() hands to a lambda",
        RELATION,
        "films = [f async for f in Film.objects.all()]\nfilms.sort(key=lambda film: ⟦film.director⟧)",
        'films = [f async for f in Film.objects.select_related("director").all()]',
    ),
    (
        "what a lambda does not get",
        RELATION,
        "film = await Film.objects.aget(pk=1)\nsorted(rows, key=lambda _: ⟦film.director⟧)",
        'film = await Film.objects.select_related("director").aget(pk=1)',
    ),
    (
        "many of them",
        MANY,
        "async for film in Film.objects.all():\n    print(⟦len(film.genres.all())⟧)",
        'async for film in Film.objects.prefetch_related("genres").all():',
    ),
    (
        "counted",
        RELATION,
        "for n, film in enumerate([film async for film in Film.objects.all()]):\n    print(⟦film.director⟧)",
        'for n, film in enumerate([film async for film in Film.objects.select_related("director").all()]):',
    ),
    (
        "one more before a last comma",
        RELATION,
        "film = await Film.objects.select_related('strand', ).aget()\nprint(⟦film.director⟧)",
        "film = await Film.objects.select_related('strand', \"director\", ).aget()",
    ),
    (
        "column more in only()",
        COLUMN,
        "async for film in Film.objects.only('pk'):\n    print(⟦film.title⟧)",
        "async for film in Film.objects.only('pk', \"title\"):",
    ),
    (
        "column less in defer()",
        COLUMN,
        "async for film in Film.objects.defer('title', 'text'):\n    print(⟦film.title⟧)",
        "async for film in Film.objects.defer('text'):",
    ),
]


@pytest.mark.parametrize(
    ("keys", "body", "line"), [pytest.param(*row[1:], id=row[0]) for row in FOLLOWED]
)
def test_followed(keys, body, line, tmp_path):
    """
    The relation is loaded where the object was, however it came from there.
    """
    _, patch = fixed(tmp_path, function(body), **keys)

    assert [each.refusal for each in patch.refused] == []
    assert added(patch) == [line]


def test_both_in_turns(tmp_path):
    """
    Each method is added once, in whatever order the hits come.
    """
    body = "film = await Film.objects.aget()\nprint({})"
    reads = ["director", "genres", "strand", "cast"]
    code, hits = hits_of(function(body.format(", ".join(f"⟦film.{each}⟧" for each in reads))))
    kinds = [RELATION, MANY, RELATION, MANY]
    named = [
        replace(hit, **{**keys, "orm_field": field, "relation": None})
        for hit, keys, field in zip(hits, kinds, reads, strict=True)
    ]
    (tmp_path / "app").mkdir()
    (tmp_path / "app/views.py").write_text(code)

    assert added(plan(named, tmp_path)) == [
        'film = await Film.objects.select_related("director", "strand")'
        '.prefetch_related("genres", "cast").aget()'
    ]


def test_generic_foreign_key(tmp_path):
    """
    What is read from the object of a generic foreign key is neither joined nor prefetched.
    """
    note = "note = await Note.objects.afirst()\n"
    model = "\n\nclass Note(models.Model):\n    about = GenericForeignKey()\n"
    about = {**MANY, "access": "generic_relation", "orm_field": "about", "orm_model": "app.Note"}

    _, patch = fixed(tmp_path, function(f"{note}print(⟦note.about⟧)") + model, **about)

    assert added(patch) == ['note = await Note.objects.prefetch_related("about").afirst()']
    assert (
        refusal(tmp_path, function(f"{note}print(⟦note.about.director⟧)") + model, **RELATION)
        == "What about leads to may be of any model."
    )


REVIEWER = {
    **RELATION,
    "rule": "AG101",
    "kind": "sync_orm",
    "orm_field": "user",
    "orm_model": "app.Review",
    "relation": "app.Review.user",
}


@pytest.mark.parametrize(
    ("start", "more"),
    [
        ("film = await load(1)", ""),
        ("film = await Film.objects.prefetch_related('reviews').aget()", "\nawait film.asave()"),
    ],
)
def test_rows_that_may_be_prefetched(start, more, tmp_path):
    """
    Rows of ``film.reviews.all()`` that were prefetched, or may have been, are not loaded again.
    """
    body = f"{start}\nfor review in film.reviews.all():\n    print(⟦review.user⟧){more}"

    _, patch = fixed(tmp_path, function(body), **REVIEWER)

    assert patch.refused == ()
    assert added(patch) == [
        "from asgiref.sync import sync_to_async",
        "",
        "print(await sync_to_async(lambda: review.user)())",
    ]


def test_rows_that_are_not_prefetched(tmp_path):
    """
    What rows need is loaded with them where they are read from an object that was loaded alone.
    """
    start = "film = await Film.objects.aget()\nawait film.asave()\n"
    loop = "async for review in film.reviews{}.all():"

    _, patch = fixed(
        tmp_path, function(f"{start}{loop.format('')}\n    print(⟦review.user⟧)"), **REVIEWER
    )

    assert added(patch) == [loop.format('.select_related("user")')]


MANAGERS = """
class Shared(models.QuerySet["Film"]):
    def recent(self):
        films = self.filter(year=1)
        films = films.order_by("pk")
        return films

    def shown(self):
        return self.recent().exclude(a=1)


class FilmManager(models.Manager.from_queryset(Shared)):
    def get_queryset(self):
        return super().get_queryset().shown()

    def published(self):
        if self.a:
            return self
        return self.get_queryset().filter(a=1)

    def main(self):
        return self.filter(a=1).first()

    def all_of_them(self):
        return list(self.recent())

    def one_by_one(self):
        yield self.recent()

    def other(self):
        return load()

    def stepwise(self):
        films = self.all()
        films = films.main()
        return films

    def nothing(self):
        pass

    @property
    def cached(self):
        return self.all()

    async def loaded(self):
        return self.all()

    def around(self):
        return self.around().all()


class Films:
    def load(self):
        return self.all()
"""


@pytest.mark.parametrize(
    "chain",
    [
        "Film.objects.published()",
        "Film.objects.filter(a=1).recent()",
        "Film.objects.shown()",
        "Film.shown_ones.published()",
        "Film.objects.around()",
    ],
)
def test_method_that_gives_a_queryset(chain, tmp_path):
    """
    Behind a method of the project's own a relation is loaded where it gives a queryset.
    """
    code = function(f"async for film in {chain}:\n    print(⟦film.director⟧)") + MANAGERS

    _, patch = fixed(tmp_path, code, **RELATION)

    assert [each.refusal for each in patch.refused] == []
    assert added(patch) == [f'async for film in {chain}.select_related("director"):']


@pytest.mark.parametrize(
    "name",
    [
        "main",
        "all_of_them",
        "one_by_one",
        "other",
        "stepwise",
        "nothing",
        "cached",
        "loaded",
        "load",
    ],
)
@pytest.mark.parametrize("manager", ["Film.objects", "Film.shown_ones"])
def test_method_that_gives_something_else(name, manager, tmp_path):
    """
    What gives one object, a list or a coroutine has no select_related().
    """
    code = function(f"film = {manager}.{name}()\nprint(⟦film.director⟧)") + MANAGERS

    assert refusal(tmp_path, code, **RELATION) == f"Whether {name}() gives a queryset is not sure."


UNSEEN = "Where film was loaded is not to be seen."
NOT_FOLLOWED = [
    (
        "comprehension that makes something else",
        "films = [g(film) async for film in Film.objects.all()]\nfor film in films:\n    print(⟦film.director⟧)",
        "Where the object was loaded is not to be seen.",
    ),
    (
        "shortcut with a model",
        "film = await aget_object_or_404(Film, pk=1)\nprint(⟦film.director⟧)",
        "Where Film was loaded is not to be seen.",
    ),
    (
        "function of the project's own",
        "film = await load(1)\nprint(⟦film.director⟧)",
        "Where the object was loaded is not to be seen.",
    ),
    (
        "the same in a thread",
        "film = await sync_to_async(load)(pk=1)\nprint(⟦film.director⟧)",
        "Where the object was loaded is not to be seen.",
    ),
    (
        "object that becomes another one",
        "film = await Film.objects.aget(pk=1)\nfilm = film.copy()\nprint(⟦film.director⟧)",
        "film has more than one origin.",
    ),
    (
        "object of a queryset of the same name",
        "film = Film.objects.filter(pk=1)\nfilm = film.get()\nprint(⟦film.director⟧)",
        "film has more than one origin.",
    ),
    (
        "method of an object",
        "film = await Film.objects.aget(pk=1)\nasync for other in film.filter():\n    print(⟦other.director⟧)",
        "film is no queryset.",
    ),
    (
        "chain that starts from a call",
        "async for film in films().order_by('pk'):\n    print(⟦film.director⟧)",
        "Where the object was loaded is not to be seen.",
    ),
    (
        "unknown method of an attribute",
        "async for film in self.films.seen():\n    print(⟦film.director⟧)",
        "Where the object was loaded is not to be seen.",
    ),
    (
        "one manager or the other",
        "film = await (Film.objects if request else Book.objects).aget(pk=1)\nprint(⟦film.director⟧)",
        "Where the object was loaded is not to be seen.",
    ),
    (
        "target of several",
        "async for i, film in numbered(Film.objects.all()):\n    print(⟦film.director⟧)",
        UNSEEN,
    ),
    (
        "target of several in a comprehension",
        "print([⟦film.director⟧ for i, film in numbered(films)])",
        UNSEEN,
    ),
    (
        "parameter of a lambda",
        "film = await Film.objects.aget(pk=1)\nreturn any_of(rows, lambda film: ⟦film.director⟧)",
        UNSEEN,
    ),
    ("parameter of a lambda for later", "key = lambda film: ⟦film.director⟧", UNSEEN),
    (
        "parameter of a lambda for two objects",
        "film = await Film.objects.aget(pk=1)\nreturn max(a, b, key=lambda film: ⟦film.director⟧)",
        UNSEEN,
    ),
    (
        "parameter of a lambda for several lists",
        "film = await Film.objects.aget(pk=1)\nreturn max(*rows, key=lambda film: ⟦film.director⟧)",
        UNSEEN,
    ),
    ("assignment to several", "film, other = await load()\nprint(⟦film.director⟧)", UNSEEN),
    ("as of a block", "async with load() as film:\n    print(⟦film.director⟧)", UNSEEN),
    ("import", "from app.films import film\nprint(⟦film.director⟧)", UNSEEN),
    ("global", "global film\nprint(⟦film.director⟧)", UNSEEN),
    ("class", "class film:\n    pass\nprint(⟦film.director⟧)", UNSEEN),
    ("pattern", "match load():\n    case [film]:\n        print(⟦film.director⟧)", UNSEEN),
    (
        "rest of a pattern",
        "match load():\n    case {'a': 1, **film}:\n        print(⟦film.director⟧)",
        UNSEEN,
    ),
    ("name of the module", "print(⟦film.director⟧)", UNSEEN),
    (
        "attribute that is a variable",
        "async for film in Film.objects.all():\n    print(⟦getattr(film, name)⟧)",
        "Which object the relation was read from is not sure.",
    ),
]


@pytest.mark.parametrize(
    ("body", "reason"), [pytest.param(*row[1:], id=row[0]) for row in NOT_FOLLOWED]
)
def test_not_followed(body, reason, tmp_path):
    """
    An object whose origin is not sure is left alone.
    """
    assert refusal(tmp_path, function(body), **RELATION) == reason


NOT_LOADED = [
    (
        RELATION,
        "async for film in Film.objects.values('pk'):\n    print(⟦film.director⟧)",
        "The rows come from values(), which loads no related objects.",
    ),
    (
        RELATION,
        "async for film in Film.objects.only('pk'):\n    print(⟦film.director⟧)",
        'The rows lack columns, so that select_related("director") could clash.',
    ),
    (
        RELATION,
        "async for film in Film.objects.select_for_update():\n    print(⟦film.director⟧)",
        "The rows are locked, which PostgreSQL refuses for a join.",
    ),
    (
        RELATION,
        "async for film in Film.objects.select_related():\n    print(⟦film.director⟧)",
        "The rows come through a select_related() that more cannot be added to.",
    ),
    (
        RELATION,
        "async for film in Film.objects.select_related(None):\n    print(⟦film.director⟧)",
        "The rows come through a select_related() that more cannot be added to.",
    ),
    (
        RELATION,
        "async for film in Film.objects.select_related('director__studio'):\n    print(⟦film.director⟧)",
        'select_related("director") is there already.',
    ),
    (
        RELATION,
        "async for film in Book.objects.all():\n    print(⟦film.director⟧)",
        "The rows are of Book, not of Film.",
    ),
    (
        MANY,
        "async for film in Film.objects.aiterator():\n    print(⟦film.genres.all()⟧)",
        "The rows come from iterator(), which needs a chunk size to prefetch.",
    ),
    (
        MANY,
        "async for film in Film.objects.all():\n    print(⟦film.genres.all()⟧)\n    await film.genres.aadd(1)",
        "The function writes as well: what was prefetched could be out of date.",
    ),
    (
        COLUMN,
        "async for film in Film.objects.all():\n    print(⟦film.title⟧)",
        "Which only() or defer() left the column out is not sure.",
    ),
    (
        COLUMN,
        "async for film in Film.objects.defer('title'):\n    print(⟦film.title⟧)",
        "Which defer() left the column out is not sure.",
    ),
    (
        COLUMN,
        "async for film in Film.objects.only('title'):\n    print(⟦film.title⟧)",
        'only("title") is there already.',
    ),
]


@pytest.mark.parametrize(
    "between",
    [
        "film.director_id = 2",
        "film.director = other",
        "await film.arefresh_from_db()",
        "await Director.objects.aupdate(name='new')",
        "await sync_to_async(film.director.save)()",
        "await tag(film.pk)",
        "await sync_to_async(self.tag)(film)",
        "await asyncio.gather(tag(film))",
        "films.update(name='new')",
        "def g():\n    nonlocal film\n    film = other",
    ],
)
@pytest.mark.parametrize("keys", [RELATION, {**RELATION, "access": "reverse_one_to_one"}])
def test_changed_before_it_is_read(between, keys, tmp_path):
    """
    What may have changed since the object was loaded is read where it is needed.
    """
    start = "films = Film.objects.all()\nfilm = await films.aget()\n"
    keys = {**keys, "rule": "AG101", "kind": "sync_orm"}

    _, patch = fixed(tmp_path, function(f"{start}{between}\nprint(⟦film.director⟧)"), **keys)

    assert added(patch)[-1] == "print(await sync_to_async(lambda: film.director)())"


@pytest.mark.parametrize(
    "between",
    [
        "film.title = 'new'\nawait film.asave()",
        "seen.add(film.pk)\ndata.update(a=film)",
        "await cache.aset('a', film.pk)",
        "await Review.objects.filter(film=film).acount()",
        "await Review.objects.acreate(film=film)",
        "await sync_to_async(print)(film)",
        "await sync_to_async(make())(1)",
        "await sync_to_async()(film)",
        "await aprefetch_related_objects([film], 'genres')",
        "await asyncio.sleep(film.pk)",
        "show(film)",
        "await show(other)",
    ],
)
def test_not_changed_before_it_is_read(between, tmp_path):
    """
    What does not change it stands in the way of nothing.
    """
    start = "from django.db.models import aprefetch_related_objects\nimport asyncio\n"
    load = "film = await Film.objects.{}aget()"
    body = f"{start}{load.format('')}\n{between}\nawait show(⟦film.director⟧)\nawait tag(film)"

    _, patch = fixed(tmp_path, function(body), **RELATION)

    assert added(patch) == [load.format('select_related("director").')]


@pytest.mark.parametrize(
    ("loop", "more", "is_loaded"),
    [
        ("async for film in Film.objects.all():", "print(film)", True),
        ("async for film in Film.objects.all():", "await film.director.asave()", False),
        ("for film in films:", "films.append(film)", False),
        ("for film in sorted(films):", "films.append(film)", False),
        ("for film in films:", "names.append(film)", True),
    ],
)
def test_changed_in_a_loop(loop, more, is_loaded, tmp_path):
    """
    In a loop, what follows the read comes before the next one.
    """
    start = "films = [film async for film in Film.objects.all()]\n"
    body = f"{start}{loop}\n    print(⟦film.director⟧)\n    {more}"

    _, patch = fixed(tmp_path, function(body), **RELATION)

    assert (patch.diff() != "") == is_loaded


@pytest.mark.parametrize(("keys", "body", "reason"), NOT_LOADED)
def test_not_loaded(keys, body, reason, tmp_path):
    """
    A queryset that the relation would break, or that loads it already, is left as it is.
    """
    assert refusal(tmp_path, function(body), **keys) == reason
