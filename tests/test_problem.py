"""What all hits of one line share: the place that stands for them, and the fingerprint."""

import asyncio
import contextlib
import functools
import linecache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import strawberry
from django.conf import settings as django_settings
from django.contrib.auth import BACKEND_SESSION_KEY, SESSION_KEY, get_user
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.db.models import prefetch_related_objects
from django.shortcuts import get_object_or_404
from django.template import Context, Template
from django.test import override_settings
from django.utils.functional import SimpleLazyObject
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from async_guard.hit import Hit
from async_guard.integrations.strawberry import AsyncGuardExtension
from async_guard.testing import capture_hits
from tests.testapp.models import Film, Review


def hits_of(path: Path, source: str, **names: Any) -> list[Hit]:
    """Write *source* as a file of the project, run its ``code()`` in a loop, return the hits."""
    path.write_text(source)
    linecache.checkcache(str(path))
    scope: dict[str, Any] = {
        "__name__": "shop.views",
        "Group": Group,
        "User": User,
        "permission": Permission(pk=1, content_type_id=names.pop("pk", 1)),
        **names,
    }
    exec(compile(source, str(path), "exec"), scope)
    with capture_hits() as hits, contextlib.suppress(Exception):
        asyncio.run(scope["code"]())
    return hits


def function(body: str, before: str = "") -> str:
    caught = "    except Exception:\n        pass\n"
    return f"{before}async def code():\n    try:\n        {body}\n{caught}"


@pytest.mark.parametrize(
    ("line", "fingerprint"),
    [
        ("permission.content_type", "7f40b8201b0c3e5e"),
        ("for group in Group.objects.all(): pass", "479a46324d5bbb79"),
        ("[group for group in Group.objects.all()]", "479a46324d5bbb79"),
        ("{1: [group for group in Group.objects.all()]}", "479a46324d5bbb79"),
        ("list(Group.objects.filter(name='a', pk=1))", "9902ba3ab7b7f1d7"),
        ("sum(1 for group in Group.objects.all())", "479a46324d5bbb79"),
        ("if Group.objects.all(): pass", "e2f447119f6234a9"),
        ("while not Group.objects.all(): pass", "e2f447119f6234a9"),
        ("f'{permission.content_type}'", "7f40b8201b0c3e5e"),
        ("User.objects.count() if 1 else None", "1b2ab4205a46d01e"),
    ],
)
def test_golden(line: str, fingerprint: str, tmp_path: Path) -> None:
    """
    A fingerprint is the same in every process and on every Python.
    """
    (hit,) = hits_of(tmp_path / "views.py", function(line))

    assert hit.fingerprint == fingerprint


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    lines=st.integers(0, 50),
    number=st.integers(1, 10**6),
    text=st.text("abcdef", max_size=8),
    pk=st.integers(1, 9),
)
def test_deploys(lines: int, number: int, text: str, pk: int, tmp_path: Path) -> None:
    """
    Other line numbers, other literals and other primary keys are the same problem.
    """
    first = hits_of(tmp_path / "views.py", function("list(Group.objects.filter(pk=1, name='x'))"))
    body = f"list(Group.objects.filter(pk={number}, name={text!r}))"

    second = hits_of(tmp_path / "other.py", function(body, "# moved\n" * lines), pk=pk)

    assert [hit.fingerprint for hit in first] == [hit.fingerprint for hit in second]
    assert second[0].line == lines + 3


def test_two_relations_on_one_line(tmp_path: Path) -> None:
    """
    Two relations that one expression reads are two problems.
    """
    pair = (Permission(pk=1, content_type_id=1), "content_type"), (Group(pk=1), "permissions")

    found = [
        hits_of(tmp_path / "v.py", function("list(getattr(it, name).all())"), it=it, name=name)
        for it, name in pair
    ]

    assert [hit.relation for hits in found for hit in hits] == [
        "auth.Permission.content_type",
        "auth.Group.permissions",
    ]
    assert len({hit.fingerprint for hits in found for hit in hits}) == 2


@pytest.mark.parametrize(
    "pattern", ["auth.Group", "*/v.py", "shop.views.code", "*v.py:3", "auth.*"]
)
def test_allowlist(pattern: str, tmp_path: Path) -> None:
    """
    What the allowlist names is not reported.
    """
    with override_settings(ASYNC_GUARD={"ALLOWLIST": [pattern]}):
        assert hits_of(tmp_path / "v.py", function("list(Group.objects.all())")) == []


def test_allowlist_of_others(tmp_path: Path) -> None:
    """
    What the allowlist does not name is reported.
    """
    with override_settings(ASYNC_GUARD={"ALLOWLIST": ["auth.User"]}):
        assert len(hits_of(tmp_path / "v.py", function("list(Group.objects.all())"))) == 1


def test_decorator_of_the_project_function(tmp_path: Path, db: None) -> None:
    """
    ``@transaction.atomic`` runs before the function: the caller's line is on the stack.
    """
    from django.db import transaction

    source = "@atomic\ndef change(): pass\n\n" + function("change()")

    (hit,) = hits_of(tmp_path / "v.py", source, atomic=transaction.atomic)

    assert (hit.access, hit.line, hit.text, hit.on_stack) == ("transaction", 6, "change()", True)


def test_decorated_callback(tmp_path: Path, db: None) -> None:
    """
    Where only the decorator is on the stack, the function that it decorates is named.
    """
    from django.db import transaction

    source = (
        "@atomic\ndef change():\n    pass\n\n"
        "async def code():\n    loop.call_soon(change)\n    await sleep(0.01)\n"
    )

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)

    loop = SimpleNamespace(call_soon=lambda *args: asyncio.get_running_loop().call_soon(*args))
    (hit,) = hits_of(tmp_path / "v.py", source, atomic=transaction.atomic, loop=loop, sleep=sleep)

    assert (hit.access, hit.line, hit.function, hit.on_stack) == (
        "transaction",
        2,
        "shop.views.change",
        False,
    )


def test_library_only() -> None:
    """
    Where no code of the project had a part in it, the library's line is named.
    """

    async def code() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *args: None)
        loop.call_soon(ContentType.objects.get_for_id, 123456)
        await asyncio.sleep(0.01)

    with capture_hits() as hits:
        asyncio.run(code())

    assert [(hit.access, hit.on_stack, hit.owner) for hit in hits] == [
        ("content_type", False, "app")
    ]


def test_many_problems(tmp_path: Path) -> None:
    """
    What is remembered of problems is bounded.
    """
    body = "\n        ".join(
        f"try: Group.objects.filter(name={number}).count()\n        except Exception: pass"
        for number in range(30)
    )
    with override_settings(ASYNC_GUARD={"MAX_FINGERPRINTS": 7}):
        hits = hits_of(tmp_path / "v.py", function(body))

    assert len(hits) == 30


def test_jinja(tmp_path: Path) -> None:
    """
    A Jinja template is named with its own line, not with that of its Python.
    """
    from django.template.backends.jinja2 import Jinja2

    (tmp_path / "list.html").write_text("<ul>\n{% for group in groups %}{% endfor %}\n</ul>\n")
    params = {"NAME": "jinja", "DIRS": [tmp_path], "APP_DIRS": False, "OPTIONS": {}}
    template = Jinja2(params).get_template("list.html")

    (hit,) = hits_of(
        tmp_path / "v.py",
        function("template.render({'groups': Group.objects.all()})"),
        template=template,
    )

    assert (Path(hit.path).name, hit.line, hit.function, hit.on_stack) == (
        "list.html",
        2,
        "list.html",
        False,
    )


def test_template_of_a_string(tmp_path: Path) -> None:
    """
    A template that is in no file has no name: the line that renders it is told.
    """
    source = function("Template('{{ permission.content_type }}').render(context)")
    context = Context({"permission": Permission(pk=1, content_type_id=1)})

    (hit,) = hits_of(tmp_path / "views.py", source, Template=Template, context=context)

    assert (hit.relation, hit.line, hit.function, hit.text) == (
        "auth.Permission.content_type",
        3,
        "shop.views.code",
        "Template('{{ permission.content_type }}').render(context)",
    )


def test_several_databases(tmp_path: Path) -> None:
    """
    The database is named, also one that nobody has connected to.
    """
    (hit,) = hits_of(tmp_path / "v.py", function("list(Group.objects.using('other').all())"))

    assert (hit.orm_alias, hit.orm_model) == ("other", "auth.Group")


def swallowed_hits(call: Any, *arguments: Any) -> list[Hit]:
    """Call the same line once for every argument."""

    async def code() -> None:
        for each in arguments:
            with contextlib.suppress(Exception):
                call(each)

    with capture_hits() as hits:
        asyncio.run(code())
    return hits


def test_argument_that_is_lazy() -> None:
    """
    Where the first call got as far as the lazy user, the second one is told as what it is.
    """
    session = {SESSION_KEY: "1", BACKEND_SESSION_KEY: django_settings.AUTHENTICATION_BACKENDS[0]}
    request = SimpleNamespace(session=session)
    lazy_user = SimpleLazyObject(functools.partial(get_user, request))

    hits = swallowed_hits(
        lambda user: Group.objects.get(user=user), lazy_user, User(pk=1), lazy_user, User(pk=1)
    )

    lazy, query = ("lazy_user", "request.user", None), ("queryset", None, "auth.Group")
    told = [(hit.access, hit.relation, hit.orm_model) for hit in hits]
    assert told == [lazy, query] * 2
    assert len({hit.fingerprint for hit in hits}) == 2
    assert len({(hit.path, hit.line) for hit in hits}) == 1


def test_several_prefetches_of_one_line() -> None:
    """
    Each lookup of a prefetch is told as the relation that it is.
    """
    hits = swallowed_hits(
        lambda lookup: prefetch_related_objects([Group(pk=1)], lookup), "permissions", "user_set"
    )

    assert [hit.relation for hit in hits] == ["auth.Group.permissions", "auth.Group.user_set"]


def told_of(hits: list[Hit]) -> list[tuple[Any, ...]]:
    return [(h.access, h.relation, h.orm_model, h.orm_alias, h.path, h.fingerprint) for h in hits]


def film(**columns: Any) -> Film:
    return Film(pk=1, director_id=1, strand_id=1, **columns)


SHARED: dict[str, tuple[Any, list[Any]]] = {
    "shortcut": (lambda model: get_object_or_404(model, pk=1), [User, Group]),
    "rows": (
        list,
        [User(pk=1).groups.all(), Permission(pk=1).group_set.all(), Group.objects.all()],
    ),
    "rows of one model": (
        list,
        [film().reviews.all(), User(pk=1).reviews.all(), Review.objects.filter(stars=1)],
    ),
    "slice": (lambda rows: rows[0], [User(pk=1).groups.all(), Permission(pk=1).group_set.all()]),
    "iterator": (
        lambda rows: next(rows.iterator()),
        [User(pk=1).groups.all(), Group.objects.all(), Group.objects.values("pk")],
    ),
    "database": (lambda alias: Group.objects.using(alias).get(), ["default", "other"]),
    "cursor": (lambda alias: connections[alias].cursor(), ["default", "other"]),
    "manager": (
        lambda manager: list(manager.all()),
        [User(pk=1).groups, Permission(pk=1).group_set, User(pk=1).user_permissions],
    ),
    "add": (lambda manager: manager.add(1), [User(pk=1).groups, Group(pk=1).permissions]),
    "attribute": (
        lambda pair: getattr(*pair),
        [(film(), "director"), (film(), "strand"), (film(), "restoration")],
    ),
    "raw": (lambda model: list(model.objects.raw("SELECT 1")), [User, Group]),
    "template": (
        lambda manager: render("{% for row in rows.all %}{% endfor %}", rows=manager),
        [User(pk=1).groups, Group(pk=1).permissions],
    ),
    "template of a string": (
        lambda text: render(text, film=film()),
        ["{{ film.director }}", "{{ film.strand.pk }}{{ film.strand }}", "\n{{ film.director }}"],
    ),
}


def render(text: str, **names: Any) -> str:
    return Template(text).render(Context(names))


@pytest.mark.parametrize("name", SHARED)
def test_one_line_for_many(name: str) -> None:
    """
    What one line accesses in turn is told as if each had a process of its own.
    """
    call, subjects = SHARED[name]

    alone = [hit for each in subjects for hit in swallowed_hits(call, each)]

    assert told_of(swallowed_hits(call, *subjects, *subjects)) == told_of(alone) * 2


@strawberry.type(name="Film")
class ShortFilm:
    director: str


@strawberry.type(name="Film")
class LongFilm:
    director: str


def test_two_schemas() -> None:
    """
    Fields of two schemas that have the same name are told with the classes that define them.
    """

    def schema_of(row: Any) -> strawberry.Schema:
        def found() -> Any:
            return film()

        found.__annotations__["return"] = row
        query = type("Query", (), {"film": strawberry.field(found)})
        return strawberry.Schema(strawberry.type(query), extensions=[AsyncGuardExtension])

    async def code() -> None:
        for schema in [schema_of(ShortFilm), schema_of(LongFilm)]:
            await schema.execute("{ film { director } }")

    with capture_hits() as hits:
        asyncio.run(code())

    assert [(hit.function, hit.graphql_field) for hit in hits] == [
        ("tests.test_problem.ShortFilm.director", "Film.director"),
        ("tests.test_problem.LongFilm.director", "Film.director"),
    ]
