"""GraphQL fields: the resolver of the hit, its decorator, and what loaded its object."""

import pytest

from tests.fix.making import fixed, refusal
from tests.fix.test_rewrites import DIRECTOR, FIELD

RESOLVER = {"graphql_resolver": "app.views:FilmType.name", "graphql_parent": "Query.films"}
SYNC = "    def name(self) -> str:\n        return ⟦self.director⟧.name\n"
ASYNC = SYNC.replace("def", "async def")


def django_type(decorator, method=SYNC):
    return (
        "import strawberry\nimport strawberry_django\n\nschema = [DjangoOptimizerExtension]\n\n\n"
        f"@strawberry_django.type(Film)\nclass FilmType:\n{decorator}{method}{FILMS}"
    )


FILMS = "\n\nclass Query:\n    films: list[FilmType] = strawberry_django.field()\n"


def plain_type(decorator="    @strawberry.field\n", method=SYNC):
    return f"import strawberry\n\n\n@strawberry.type\nclass FilmType:\n{decorator}{method}"


# --- the decorator -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decorator", "method", "reason"),
    [
        ("", SYNC, "The decorator of the field is not on this function."),
        ("    @cached\n", SYNC, "The decorator of the field is not on this function."),
        ("    @make()()\n", SYNC, "The decorator of the field is not on this function."),
        (
            "    @strawberry.field\n",
            ASYNC,
            "An async resolver stays on the event loop with either decorator.",
        ),
        ("    @strawberry_django.field\n", SYNC, "The field is a strawberry_django.field already."),
        *(
            (
                "    @strawberry.field\n",
                SYNC + f"        {line}\n",
                "The resolver loads through a coroutine, which a thread has no loop for.",
            )
            for line in ("return info.context.films.load(self.pk)", "asyncio.get_running_loop()")
        ),
    ],
)
def test_decorator_that_stays(decorator, method, reason, tmp_path):
    """
    A field whose decorator is not to be seen, or would not help, keeps it.
    """
    assert refusal(tmp_path, django_type(decorator, method), **FIELD, **RESOLVER) == reason


@pytest.mark.parametrize(
    ("access", "decorator"),
    [
        ("forward_relation", '@strawberry_django.field(select_related=["director"])'),
        ("queryset", "@strawberry_django.field"),
    ],
)
def test_decorator_with_a_hint(access, decorator, tmp_path):
    """
    The Django field that takes the place of a plain one names the relation, where it is one.
    """
    code = django_type("    @strawberry.field\n")

    text, _ = fixed(tmp_path, code, **{**FIELD, **RESOLVER, "access": access})

    assert text == django_type(f"    {decorator}\n").replace("import strawberry\n", "", 1).replace(
        "⟦", ""
    ).replace("⟧", "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("@strawberry_django.field", '@strawberry_django.field(select_related=["director"])'),
        (
            "@strawberry_django.field(**options)",
            '@strawberry_django.field(select_related=["director"], **options)',
        ),
    ],
)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("import strawberry_django\n", "import strawberry_django as sd\n"),
        ("import strawberry_django\n", "from strawberry import django\n"),
    ],
)
def test_hint(before, after, old, new, tmp_path):
    """
    The optimizer is told by the field, however its decorator is imported.
    """
    alias = {"sd": "@sd", "django": "@django"}.get(new.split()[-1] if new else "")
    code = django_type(f"    {before}\n", ASYNC)
    wanted = code.replace(before, after)
    if alias:
        code, wanted = (
            each.replace(old, new).replace("@strawberry_django", alias) for each in (code, wanted)
        )

    text, _ = fixed(tmp_path, code, **DIRECTOR, **RESOLVER)

    assert text == wanted.replace("⟦", "").replace("⟧", "")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            django_type("    @strawberry_django.field(select_related=['director'])\n", ASYNC),
            "The field names director in select_related already, and that did not help.",
        ),
        (
            django_type(
                "    @strawberry_django.field\n",
                "    async def name(self, film) -> str:\n        return ⟦film.director⟧.name\n",
            ),
            "What the relation was read from is not the object of the field.",
        ),
        (
            django_type(
                "    @strawberry_django.field\n",
                "    async def name(self) -> str:\n        self = other\n"
                "        return ⟦self.director⟧.name\n",
            ),
            "self is bound more than once.",
        ),
        (
            django_type("    @strawberry_django.field\n", ASYNC).replace(
                "DjangoOptimizerExtension", "Other"
            ),
            "No DjangoOptimizerExtension reads the hints of the field.",
        ),
        (django_type("", ASYNC), "The decorator of the field is not on this function."),
        (plain_type(method=ASYNC), "The field is not one of a strawberry_django type."),
    ],
)
def test_no_hint(code, reason, tmp_path):
    """
    A hint that is there, that nobody reads or that would be about another object is not added.
    """
    keys = {**DIRECTOR, **RESOLVER, "rule": "AG113", "kind": "n_plus_one"}

    assert refusal(tmp_path, code, **keys) == reason


HINT = '@strawberry_django.field(select_related=["director"])'


@pytest.mark.parametrize("decorator", ["@strawberry.field", "@strawberry_django.field"])
def test_hint_of_an_async_resolver(decorator, tmp_path):
    """
    A plain field knows no hints, so it becomes a Django field; an async resolver stays one.
    """
    code = django_type(f"    {decorator}\n", ASYNC)

    text, patch = fixed(tmp_path, code, **DIRECTOR, **RESOLVER)

    assert [each.is_fallback for each in patch.results] == [False]
    assert text == django_type(f"    {HINT}\n").replace(
        "    def name", "    async def name"
    ).replace("import strawberry\n" if decorator == "@strawberry.field" else "\0", "").replace(
        "⟦", ""
    ).replace("⟧", "")


def test_hint_of_a_mutation(tmp_path):
    """
    A mutation takes no hints: what it reads is read in a thread.
    """
    code = django_type("    @strawberry.mutation\n", ASYNC)

    text, patch = fixed(tmp_path, code, **DIRECTOR, **RESOLVER)

    assert [each.is_fallback for each in patch.results] == [True]
    assert "return (await sync_to_async(lambda: self.director)()).name" in text


PLAIN = "@strawberry.type\nclass Query:\n    "
DJANGO = "@strawberry_django.type(Hall)\nclass Hall:\n    "
ROOT = f"{PLAIN}hall: Hall = strawberry_django.field()\n\n\n"
RETURNS = "(self) -> list[FilmType]:\n        return "
READ = [
    f"{PLAIN}films: list[FilmType] = strawberry_django.field()",
    f"{PLAIN}films: ListConnection[FilmType] = strawberry_django.connection()",
    f"{PLAIN}film: FilmType = strawberry_django.field()",
    f"{PLAIN}@strawberry_django.field\n    async def films{RETURNS}Film.objects.only('pk')",
    f"{PLAIN}@strawberry.field\n    def films{RETURNS}Film.objects.only('pk')",
    f"{PLAIN}@strawberry.field\n    def films(self) -> list[FilmType]:\n"
    "        films = Film.objects.only('pk')\n        return films",
    f"{PLAIN}hall: str\n\n\nclass Films:\n    films: list[FilmType] = strawberry_django.field()"
    "\n\n\nclass Root(Films):\n    pass\n\n\nstrawberry.Schema(query=Root)",
    f"{ROOT}{DJANGO}films: list[FilmType]",
    f"{ROOT}{DJANGO}film: FilmType",
    f"{ROOT}{DJANGO}film: FilmType = strawberry_django.field(description='Main')",
]
NOT_READ = [
    f"{PLAIN}films: list[FilmType] = strawberry.field(resolver=load)",
    f"{PLAIN}films: list[FilmType] = strawberry_django.field(resolver=load)",
    f"{PLAIN}films: list[FilmType] = strawberry_django.field(load)",
    f"{PLAIN}films: list[FilmType] = load()",
    f"{PLAIN}films: list[FilmType] = NOTHING",
    f"{PLAIN}films: list[FilmType]",
    f"{PLAIN}films: list[Other] = strawberry_django.field()",
    "class Hall:\n    films: list[FilmType] = strawberry_django.field()",
    f"{PLAIN}@strawberry_django.field\n    def films{RETURNS}list(Film.objects.only('pk'))",
    f"{PLAIN}@strawberry_django.field\n    async def films{RETURNS}await load()",
    f"{PLAIN}@strawberry_django.field\n    async def films{RETURNS}[f async for f in load()]",
    f"{PLAIN}@strawberry_django.field\n    def films{RETURNS}Film.objects.only('pk')[0]",
    f"{PLAIN}@strawberry_django.field\n    def film{RETURNS}Film.objects.only('pk').first()",
    f"{PLAIN}@strawberry_django.field\n    def film{RETURNS}CACHE.get()",
    f"{PLAIN}@strawberry_django.field\n    def films{RETURNS}films",
    f"{PLAIN}@strawberry_django.field\n    def films(self) -> list[FilmType]:\n        ...",
    f"{PLAIN}@strawberry.field\n    async def films{RETURNS}Film.objects.only('pk')",
    f"{PLAIN}@cached\n    def films{RETURNS}Film.objects.only('pk')",
    f"{DJANGO}film: FilmType",
    f"{ROOT}{DJANGO}film: FilmType\n\n\n{PLAIN}last: Hall = strawberry.field(resolver=load)",
    f"{ROOT}{DJANGO}film: FilmType\n    hall: 'Hall'\n\n    @strawberry.field\n"
    "    def other(self) -> 'Hall':\n        return load()",
]


def with_parent(parent):
    code = django_type("    @strawberry_django.field\n", ASYNC).replace(FILMS, f"\n\n{parent}\n")
    owner = "Hall" if "class Hall" in parent else "Root" if "Root" in parent else "Query"
    name = "film" if "film: " in parent or "def film(" in parent else "films"
    return code, {**DIRECTOR, **RESOLVER, "graphql_parent": f"{owner}.{name}"}


@pytest.mark.parametrize("parent", READ)
def test_hint_that_is_read(parent, tmp_path):
    """
    A hint is given where the optimizer loads what the field above returns, or all fields above.
    """
    code, keys = with_parent(parent)

    text, _ = fixed(tmp_path, code, **keys)

    assert text == code.replace(
        "@strawberry_django.field\n    async def name", f"{HINT}\n    async def name"
    ).replace("⟦", "").replace("⟧", "")


@pytest.mark.parametrize("parent", NOT_READ)
def test_hint_that_nobody_reads(parent, tmp_path):
    """
    Rows that are there already, or may be, are given no hint: it would do nothing.
    """
    code, keys = with_parent(parent)

    text, patch = fixed(tmp_path, code, **keys)

    assert [each.is_fallback for each in patch.results] == [True]
    assert HINT not in text
    assert "return (await sync_to_async(lambda: self.director)()).name" in text


@pytest.mark.parametrize("parent", NOT_READ)
def test_sync_resolver_without_a_hint(parent, tmp_path):
    """
    So it is with the resolver of a plain field: it goes to a thread, to be looked at.
    """
    code, keys = with_parent(parent)
    code = code.replace(
        "@strawberry_django.field\n    async def name", "@strawberry.field\n    def name"
    )

    text, patch = fixed(tmp_path, code, **{**keys, "rule": "AG102"})

    assert [each.is_fallback for each in patch.results] == [True]
    assert "    @strawberry_django.field\n    def name" in text


# --- a resolver that becomes async -------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            plain_type("    @strawberry.field(extensions=[Cached()])\n"),
            "The extensions of the field may not know async resolvers.",
        ),
        (
            plain_type(method="    def name(self) -> str:\n        yield ⟦self.director⟧.name\n"),
            "The resolver is a generator.",
        ),
        (
            plain_type(method=SYNC + "        return info.context.films.load(1)\n"),
            "The resolver may return a coroutine, which an async one would not await.",
        ),
        (
            django_type("    @strawberry.field\n"),
            "The field of a Django type runs in a thread with @strawberry_django.field.",
        ),
        (
            plain_type("    @strawberry.field\n    @cached\n"),
            "name is a sync function: to await in it, its callers would have to change.",
        ),
        (
            plain_type("    @cached\n"),
            "name is a sync function: to await in it, its callers would have to change.",
        ),
        (
            plain_type(
                method="    def name(self) -> str:\n        return ⟦(film := self).director⟧.name\n"
            ),
            "It assigns or yields in the middle of an expression.",
        ),
        (
            plain_type(
                method="    def name(self) -> str:\n        return ⟦render(self.director)⟧\n"
            ),
            "name is a sync function: to await in it, its callers would have to change.",
        ),
    ],
)
def test_resolver_that_stays_sync(code, reason, tmp_path):
    """
    A resolver becomes async only where nobody but GraphQL calls it, and the rewrite is possible.
    """
    keys = {**DIRECTOR, "orm_operation": "get"}
    if "render" in code:
        keys |= {"rule": "AG103", "access": "many_to_many"}

    assert refusal(tmp_path, code, **keys) == reason


# --- the resolver that loaded the object -------------------------------------------------------

PARENT = {**DIRECTOR, **RESOLVER, "rule": "AG113", "kind": "n_plus_one"}
QUERY = (
    "\n\n@strawberry.type\nclass Query:\n    @strawberry.field\n"
    "    async def films(self) -> list[FilmType]:\n        return Film.objects.all()\n"
)
LOADING = 'Film.objects.select_related("director").all()'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return Film", "return Film"),
        ("return Film", "if not self:\n            return None\n        return Film"),
        ("return Film", "if not self:\n            return\n        return Film"),
        (
            "return Film.objects.all()",
            "for film in Film.objects.all():\n            yield film",
        ),
        ("class Query:", "class Query(make(Other)):"),
    ],
)
def test_parent(old, new, tmp_path):
    """
    The relation is loaded by the resolver that returned the object, or gave one after the other.
    """
    code = plain_type(method=ASYNC) + QUERY.replace(old, new)

    text, patch = fixed(tmp_path, code, **PARENT)

    assert [each.refusal for each in patch.refused] == []
    assert text == code.replace("Film.objects.all()", LOADING).replace("⟦", "").replace("⟧", "")


def test_parent_of_a_base_class(tmp_path):
    """
    So it is where the type of the schema is put together from classes.
    """
    query = QUERY.replace("class Query:", "class Films:")
    code = f"{plain_type(method=ASYNC)}{query}\n\nclass Query(Films, make(Other)):\n    pass\n"

    text, _ = fixed(tmp_path, code, **PARENT)

    assert text == code.replace("Film.objects.all()", LOADING).replace("⟦", "").replace("⟧", "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return Film.objects.all()", "return []"),
        (" -> list[FilmType]", ""),
        (" -> list[FilmType]", " -> list[Other]"),
        ("class Query:", f"class Query:\n    pass\n{QUERY}\n\nclass Query:"),
    ],
    ids=["nothing", "no annotation", "another type", "two of them"],
)
def test_no_parent(old, new, tmp_path):
    """
    A resolver that shows no rows, or is not sure to be the one, is left as it is.
    """
    code = plain_type(method=ASYNC) + QUERY.replace(old, new)

    assert refusal(tmp_path, code, **PARENT) == (
        "The field is not one of a strawberry_django type."
    )


def test_field_without_a_resolver(tmp_path):
    """
    A relation that GraphQL reads by itself is loaded by the resolver of its object, too.
    """
    code = (
        "import strawberry\n\n\n@strawberry.type\nclass FilmType:\n"
        f"    ⟦director: DirectorType⟧\n{QUERY}"
    )
    keys = {**DIRECTOR, "rule": "AG113", "kind": "n_plus_one", "on_stack": False}
    field = {
        "graphql_resolver": "app.views:FilmType.director",
        "graphql_field": "director",
        "graphql_parent": "Query.films",
    }

    (tmp_path / "one").mkdir()
    text, _ = fixed(tmp_path / "one", code, **keys, **field)

    assert text == code.replace("Film.objects.all()", LOADING).replace("⟦", "").replace("⟧", "")
    assert refusal(tmp_path, code, **keys) == (
        "What was read is not the relation of a GraphQL field."
    )
