"""Every rewrite on a piece of code of its own; ``⟦…⟧`` marks what the log says."""
# ruff: noqa: E501

import pytest

from async_guard.fix.planning import plan
from tests.fix.making import fixed, hits_of, refusal

GET = {"rule": "AG105", "orm_operation": "get"}
SAVE = {"rule": "AG105", "orm_operation": "save", "access": "instance_write"}
ROWS = {"rule": "AG106", "orm_operation": "iterate", "access": "queryset"}
LIBRARY = {"rule": "AG111", "owner": "dependency"}
ATOMIC = {"rule": "AG110", "access": "transaction"}
FIELD = {"rule": "AG102", "access": "forward_relation", "orm_field": "director"}
DIRECTOR = {
    "rule": "AG101",
    "access": "forward_relation",
    "orm_field": "director",
    "orm_model": "app.Film",
    "relation": "app.Film.director",
}
LOST = {"kind": "unawaited_coroutine"}
PROTOCOL = {"kind": "async_protocol"}

CHANGES = [
    (
        "awaited value in front of a dot",
        GET,
        "async def f():\n    return ⟦Film.objects.get(pk=1)⟧.title\n",
        "async def f():\n    return (await Film.objects.aget(pk=1)).title\n",
    ),
    (
        "statements on one line",
        SAVE,
        "async def f(a, b):\n    ⟦a.save()⟧; ⟦b.save()⟧  # both\n",
        "async def f(a, b):\n    await a.asave(); await b.asave()  # both\n",
    ),
    (
        "one in the other",
        GET,
        "async def f():\n    return ⟦A.objects.get(b=⟦B.objects.get(pk=1)⟧)⟧\n",
        "async def f():\n    return await A.objects.aget(b=await B.objects.aget(pk=1))\n",
    ),
    (
        "columns are code points",
        GET,
        'async def f():\n    return "ä€😀", ⟦Film.objects.get(title="ü")⟧\n',
        'async def f():\n    return "ä€😀", await Film.objects.aget(title="ü")\n',
    ),
    (
        "the last method of a chain",
        GET,
        "async def f():\n    return (\n        Film.objects\n        # all\n        .⟦get()⟧\n    )\n",
        "async def f():\n    return (\n        await Film.objects\n        # all\n        .aget()\n    )\n",
    ),
    (
        "tabs",
        SAVE,
        "async def f(a):\n\tif a:\n\t\t⟦a.save()⟧\t# now\n",
        "async def f(a):\n\tif a:\n\t\tawait a.asave()\t# now\n",
    ),
    (
        "default of a nested sync def is evaluated outside",
        GET,
        "async def f():\n    def g(a=⟦A.objects.get(pk=1)⟧):\n        return a\n    return g()\n",
        "async def f():\n    def g(a=await A.objects.aget(pk=1)):\n        return a\n    return g()\n",
    ),
    (
        "what a generator expression is made from is evaluated outside",
        GET,
        "async def f():\n    return sum(x for x in ⟦A.objects.get(pk=1)⟧.sizes)\n",
        "async def f():\n    return sum(x for x in (await A.objects.aget(pk=1)).sizes)\n",
    ),
    (
        "else of a loop",
        ROWS,
        "async def f():\n    for a in ⟦A.objects.all()⟧:  # each\n        print(a)\n    else:\n        pass\n",
        "async def f():\n    async for a in A.objects.all():  # each\n        print(a)\n    else:\n"
        "        pass\n",
    ),
    (
        "iterator",
        ROWS,
        "async def f():\n    return [a for a in ⟦A.objects.iterator(chunk_size=5)⟧]\n",
        "async def f():\n    return [a async for a in A.objects.aiterator(chunk_size=5)]\n",
    ),
    (
        "a parameter may be a list for somebody else",
        ROWS,
        "async def f(rows):\n    for a in ⟦rows⟧:\n        print(a)\n",
        "from asgiref.sync import sync_to_async\n\nasync def f(rows):\n"
        "    for a in await sync_to_async(list)(rows):\n        print(a)\n",
    ),
    (
        "list of a chain",
        ROWS,
        "async def f():\n    return ⟦list(A.objects.all())⟧[0]\n",
        "async def f():\n    return [row async for row in A.objects.all()][0]\n",
    ),
    (
        "library",
        LIBRARY,
        '"""Views."""\n\nimport os\n\nfrom lib import Token\n\n\nasync def f(user):\n'
        "    return str(⟦Token.for_user(user)⟧.access)\n",
        '"""Views."""\n\nimport os\n\nfrom asgiref.sync import sync_to_async\nfrom lib import Token'
        "\n\n\nasync def f(user):\n"
        "    return str((await sync_to_async(Token.for_user)(user)).access)\n",
    ),
    (
        "a function imported under another name",
        {"rule": "AG108", "orm_operation": "get_object_or_404"},
        "from django.shortcuts import (\n    get_object_or_404,\n    render,\n)\n\n\n"
        "async def f():\n    return ⟦get_object_or_404(Film, pk=1)⟧\n",
        "from django.shortcuts import (\n    aget_object_or_404,\n    render,\n)\n\n\n"
        "async def f():\n    return await aget_object_or_404(Film, pk=1)\n",
    ),
    (
        "field with arguments",
        FIELD,
        "import strawberry\nimport strawberry_django\n\n\n@strawberry_django.type(Film)\n"
        "class FilmType:\n    # the name\n    @strawberry.field(name='by', description=\"Who?\")  "
        "# public\n    def director_name(self) -> str:\n        return ⟦self.director⟧.name\n",
        "import strawberry_django\n\n\n@strawberry_django.type(Film)\n"
        "class FilmType:\n    # the name\n    @strawberry_django.field(name='by', "
        'description="Who?")  '
        "# public\n    def director_name(self) -> str:\n        return self.director.name\n",
    ),
    (
        "field by another name",
        FIELD,
        "from strawberry import field\nfrom strawberry_django import type as django_type\n\n\n"
        "@django_type(Film)\nclass FilmType:\n    @field\n    def director_name(self) -> str:\n"
        "        return ⟦self.director⟧.name\n",
        "import strawberry_django\nfrom strawberry_django import type as django_type\n\n\n"
        "@django_type(Film)\nclass FilmType:\n    @strawberry_django.field\n"
        "    def director_name(self) -> str:\n        return self.director.name\n",
    ),
    (
        "relation of an object of the function",
        DIRECTOR,
        "async def f():\n    film = await (\n        Film.objects\n        .filter(a=1)  # some\n"
        "        .afirst()\n    )\n    return ⟦film.director⟧.name\n",
        "async def f():\n    film = await (\n        Film.objects\n        "
        '.select_related("director")\n        .filter(a=1)  # some\n'
        "        .afirst()\n    )\n    return film.director.name\n",
    ),
    (
        "one relation more",
        DIRECTOR,
        "async def f():\n    film = await Film.objects.select_related(\n        'strand',\n"
        "    ).aget(pk=1)\n    return ⟦film.director⟧\n",
        "async def f():\n    film = await Film.objects.select_related(\n        'strand',\n"
        '        "director",\n    ).aget(pk=1)\n    return film.director\n',
    ),
    (
        "relation of an object with two origins",
        DIRECTOR,
        "from asgiref.sync import sync_to_async\n\nasync def f(film):\n    if not film:\n"
        "        film = await Film.objects.aget(pk=1)\n    return ⟦film.director⟧.name\n",
        "from asgiref.sync import sync_to_async\n\nasync def f(film):\n    if not film:\n"
        "        film = await Film.objects.aget(pk=1)\n"
        "    return (await sync_to_async(lambda: film.director)()).name\n",
    ),
    (
        "transaction with what comes before and after",
        ATOMIC,
        "from asgiref.sync import sync_to_async\n\n\nasync def f(total):\n    # first\n"
        "    with ⟦transaction.atomic()⟧:  # all of it\n        a, b = 1, 2\n"
        "        async for c in A.objects.all():\n            await c.asave()  # each\n"
        "        total += 1\n        await sync_to_async(count)(c)\n    # then\n"
        "    return a, total\n",
        "from asgiref.sync import sync_to_async\n\n\nasync def f(total):\n    # first\n"
        "    def in_transaction():\n        nonlocal total\n"
        "        with transaction.atomic():  # all of it\n            a, b = 1, 2\n"
        "            for c in A.objects.all():\n                c.save()  # each\n"
        "            total += 1\n            count(c)\n        return a\n\n"
        "    a = await sync_to_async(in_transaction)()\n    # then\n    return a, total\n",
    ),
    (
        "hit inside of a transaction",
        SAVE,
        "from asgiref.sync import sync_to_async\n\n\nasync def f(a):\n"
        "    with transaction.atomic():\n        ⟦a.save()⟧\n        ⟦a.save()⟧\n",
        "from asgiref.sync import sync_to_async\n\n\nasync def f(a):\n    def in_transaction():\n"
        "        with transaction.atomic():\n            a.save()\n            a.save()\n\n"
        "    await sync_to_async(in_transaction)()\n",
    ),
    (
        "missing await",
        LOST,
        "async def f(a):\n    ⟦a.asave()⟧\n    x = ⟦a.acount()⟧ + 1\n",
        "async def f(a):\n    await a.asave()\n    x = await a.acount() + 1\n",
    ),
    (
        "coroutine used as its result",
        PROTOCOL,
        "async def load():\n    return 1\n\n\nasync def f():\n    film = load()\n"
        "    return ⟦film.title⟧\n",
        "async def load():\n    return 1\n\n\nasync def f():\n    film = await load()\n"
        "    return film.title\n",
    ),
    (
        "sync function awaited",
        PROTOCOL,
        "def load():\n    return 1\n\n\nasync def f():\n    return ⟦await load()⟧\n",
        "def load():\n    return 1\n\n\nasync def f():\n    return load()\n",
    ),
    (
        "coroutine function in a thread",
        PROTOCOL,
        "from asgiref.sync import sync_to_async\n\n\nasync def load():\n    return 1\n\n\n"
        "async def f():\n    return await ⟦sync_to_async(load)(2)⟧\n",
        "\n\nasync def load():\n    return 1\n\n\nasync def f():\n    return await load(2)\n",
    ),
    (
        "async generator as a context manager",
        PROTOCOL,
        "import os\n\n\nasync def session():\n    yield 1\n\n\nasync def f():\n"
        "    async with ⟦session()⟧ as found:\n        return found\n",
        "import os\nfrom contextlib import asynccontextmanager\n\n\n@asynccontextmanager\n"
        "async def session():\n    yield 1\n\n\nasync def f():\n"
        "    async with session() as found:\n        return found\n",
    ),
    (
        "twin of a function that is imported by another name",
        {"rule": "AG108", "orm_operation": "get_object_or_404"},
        "from django.shortcuts import get_object_or_404 as found\n\n\n"
        "async def f():\n    return ⟦found(Film, pk=1)⟧\n",
        "from django.shortcuts import aget_object_or_404\n\n\n"
        "async def f():\n    return await aget_object_or_404(Film, pk=1)\n",
    ),
    (
        "twin of a function that the project hands on",
        {"rule": "AG108", "orm_operation": "get_object_or_404"},
        "from app.common import get_object_or_404, other\n\n\n"
        "async def f():\n    return ⟦get_object_or_404(Film, pk=1)⟧\n",
        "from django.shortcuts import aget_object_or_404\n\nfrom app.common import other\n\n\n"
        "async def f():\n    return await aget_object_or_404(Film, pk=1)\n",
    ),
    (
        "block that awaits sync_to_async by another name",
        ATOMIC,
        "from asgiref.sync import sync_to_async as thread\n\n\nasync def f(a):\n"
        "    with ⟦atomic()⟧:\n        await thread(a.b)(1)\n",
        "from asgiref.sync import sync_to_async as thread\n\n\nasync def f(a):\n"
        "    def in_transaction():\n        with atomic():\n            a.b(1)\n\n"
        "    await thread(in_transaction)()\n",
    ),
    (
        "sync_to_async by another name",
        LIBRARY,
        "from asgiref.sync import sync_to_async as thread\nfrom lib import run\n\n\n"
        "async def f():\n    return await thread(list)(), ⟦run(1)⟧\n",
        "from asgiref.sync import sync_to_async as thread\nfrom lib import run\n\n\n"
        "async def f():\n    return await thread(list)(), await thread(run)(1)\n",
    ),
    (
        "loop over a function of rows",
        ROWS,
        "async def f():\n    for i, a in ⟦enumerate(A.objects.all(), 1)⟧:  # each\n        print(a)\n",
        "async def f():\n    for i, a in enumerate([row async for row in A.objects.all()], 1):  # each\n"
        "        print(a)\n",
    ),
    (
        "unpacked rows",
        ROWS,
        "async def f():\n    return ⟦max(*A.objects.all())⟧, ⟦[1, *A.objects.all()]⟧\n",
        "async def f():\n    return max(*[row async for row in A.objects.all()]), "
        "[1, *[row async for row in A.objects.all()]]\n",
    ),
    (
        "index and slice",
        ROWS,
        "from asgiref.sync import sync_to_async\n\nasync def f(rows):\n"
        "    return ⟦A.objects.all()[2]⟧, ⟦rows[0]⟧, ⟦rows[1:2:3]⟧\n",
        "from asgiref.sync import sync_to_async\n\nasync def f(rows):\n"
        "    return [row async for row in A.objects.all()[2:3]][0], "
        "await sync_to_async(lambda: rows[0])(), await sync_to_async(lambda: rows[1:2:3])()\n",
    ),
    (
        "shown in a text",
        {**ROWS, "orm_operation": "repr"},
        "from asgiref.sync import sync_to_async\n\nasync def f(rows):\n    ⟦print(1, rows)⟧\n"
        '    return f"{⟦rows⟧} of", ⟦f"{rows!r}"⟧, f"{⟦rows⟧!r}", ⟦"%s" % rows⟧\n',
        "from asgiref.sync import sync_to_async\n\nasync def f(rows):\n"
        "    await sync_to_async(print)(1, rows)\n"
        '    return f"{await sync_to_async(str)(rows)} of", '
        'await sync_to_async(lambda: f"{rows!r}")(), await sync_to_async(lambda: f"{rows!r}")(), '
        'await sync_to_async(lambda: "%s" % rows)()\n',
    ),
    (
        "walrus",
        ROWS,
        "from asgiref.sync import sync_to_async\n\nasync def f():\n"
        "    if (⟦rows := A.objects.all()⟧):\n        return rows\n",
        "from asgiref.sync import sync_to_async\n\nasync def f():\n"
        "    if await sync_to_async(bool)(rows := A.objects.all()):\n        return rows\n",
    ),
    (
        "async_to_sync",
        {"rule": "AG114", "kind": "async_to_sync_in_loop"},
        "from asgiref.sync import async_to_sync, sync_to_async\n\n\nasync def f():\n"
        "    return sync_to_async, ⟦async_to_sync(load)(1)⟧\n",
        "from asgiref.sync import sync_to_async\n\n\nasync def f():\n"
        "    return sync_to_async, await load(1)\n",
    ),
]


@pytest.mark.parametrize(
    ("keys", "before", "after"), [pytest.param(*row[1:], id=row[0]) for row in CHANGES]
)
def test_change(keys, before, after, tmp_path):
    """
    The expression of the log is rewritten; all else stays as it was, to the last space.
    """
    text, patch = fixed(tmp_path, before, **keys)

    assert [each.refusal for each in patch.refused] == []
    assert text.lstrip("\n") == after.lstrip("\n")


REFUSALS = [
    (GET, "async def f():\n    return lambda: ⟦A.objects.get()⟧\n", "It is in a lambda, where"),
    (GET, "async def f():\n    def g():\n        return ⟦A.objects.get()⟧\n    return g\n",
     "g is a sync def inside the async f, and cannot await."),
    (GET, "def f():\n    return ⟦A.objects.get()⟧\n",
     "f is a sync function: to await in it, its callers would have to change."),
    (GET, "async def f():\n    class A:\n        b = ⟦A.objects.get()⟧\n", "It is in the body of"),
    (GET, "async def f():\n    return g(⟦A.objects.get()⟧.b for _ in c)\n",
     "It is in a generator expression"),
    (ROWS, "async def f():\n    return g(a.b for a in ⟦A.objects.all()⟧)\n",
     "It is in a generator expression"),
    (ROWS, "async def f(b):\n    return ⟦b(A.objects.all(), B.objects.all())⟧\n", "How b("),
    (ATOMIC, "async def f():\n    with ⟦transaction.atomic()⟧, open(a) as b:\n        pass\n",
     "The block opens more than"),
    (ATOMIC, "async def f():\n    with ⟦transaction.atomic()⟧:\n        yield 1\n",
     "The block yields"),
    (ATOMIC, "async def f():\n    with ⟦transaction.atomic()⟧:\n        await a.post(b)\n",
     "The block awaits a.post, which is not only the ORM."),
    (ATOMIC, "async def f():\n    with ⟦transaction.atomic()⟧:\n        async with a:\n"
     "            pass\n", "The block has an async with"),
    (ATOMIC, "class A:\n    async def f(self):\n        with ⟦transaction.atomic()⟧:\n"
     "            super().f()\n", "The block asks super()"),
    (LOST, "async def f(a):\n    asyncio.create_task(⟦a.asave()⟧)\n", "The coroutine is handed on"),
    (LOST, "def f(a):\n    ⟦a.asave()⟧\n", "f is a sync function"),
    (PROTOCOL, "async def g():\n    yield 1\n\nasync def h():\n    async for a in g():\n"
     "        pass\n\nasync def f():\n    async with ⟦g()⟧:\n        pass\n",
     "app/views.py:5 uses g in another way."),
    (PROTOCOL, "async def f(a):\n    return ⟦a.title⟧\n", "What a.title should be is not sure."),
    ({**DIRECTOR, "outcome": "handled"}, "async def f(a):\n    return ⟦a.director⟧\n",
     "The code catches SynchronousOnlyOperation by name"),
    ({"kind": "blocking_call"}, "async def f(a):\n    ⟦sleep(1)⟧\n", "There is no rewrite for"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "code", "reason"), REFUSALS)
def test_refusal(keys, code, reason, tmp_path):
    """
    Where await is not allowed, callers would have to change or it is not sure, a sentence says so.
    """
    assert refusal(tmp_path, code, **keys).startswith(reason)


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_bytes(newline, mark, tmp_path):
    """
    Line ends, a byte order mark and the lack of a last line end survive.
    """
    code, hits = hits_of("async def f(a):\n    ⟦a.save()⟧  # ä\n    return a", **SAVE)
    raw = (mark + code.replace("\n", newline)).encode()
    (tmp_path / "app").mkdir()
    (tmp_path / "app/views.py").write_bytes(raw)

    source, text = plan(hits, tmp_path).texts["app/views.py"]

    assert text.encode(source.module.encoding) == raw.replace(b"a.save()", b"await a.asave()")


PERMISSION = (
    "from strawberry.permission import BasePermission\n\n\nclass Staff(BasePermission):\n"
    "    def has_permission(self, source, info, **kwargs):\n"
    "        return ⟦info.context.request.user.is_staff⟧\n"
)
USER = {"rule": "AG107", "access": "lazy_user", "in_async_def": False}


def test_permission(tmp_path):
    """
    A permission that only Strawberry asks becomes async.
    """
    text, _ = fixed(tmp_path, PERMISSION, **USER)

    assert text.endswith(
        "    async def has_permission(self, source, info, **kwargs):\n"
        "        return (await info.context.request.auser()).is_staff\n"
    )


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("class Admin(Staff):\n    pass\n", "Other permissions derive from Staff, and may not"),
        ("x = Staff().has_permission(1, 2)\n", "has_permission is a sync function that is called"),
        ("schema.execute_sync(query)\n", "The schema is executed without a loop, too"),
    ],
)
def test_permission_that_others_know(more, reason, tmp_path):
    """
    A coroutine that nobody awaits is true: where somebody else may ask, nothing is changed.
    """
    (tmp_path / "other.py").write_text(more)

    assert refusal(tmp_path, PERMISSION, **USER).startswith(reason)


def test_helper_of_a_field(tmp_path):
    """
    Where a function hit that a plain field of a Django type calls, the field is changed.
    """
    code = (
        "import strawberry\nimport strawberry_django\n\n\ndef name_of(film):\n"
        "    return ⟦film.director⟧.name\n\n\n@strawberry_django.type(Film)\nclass FilmType:\n"
        "    @strawberry.field\n    def director_name(self) -> str:\n        return name_of(self)\n"
    )
    names = ("app.views.name_of", "app.views.FilmType.director_name")
    frames = tuple(
        {"function": name, "file": "app/views.py", "line": 6, "in_app": True} for name in names
    )
    resolver = {"graphql_resolver": "app.views:FilmType.director_name", "frames": frames}

    text, _ = fixed(tmp_path, code, **FIELD, **resolver)

    assert text == (
        code.replace("⟦", "").replace("⟧", "").replace("import strawberry\n", "", 1)
    ).replace("@strawberry.field", "@strawberry_django.field")


def test_caller(tmp_path):
    """
    Where a sync function hit that an async one called, that call is moved to a thread.
    """
    code = (
        "def count(a):\n    return ⟦a.count()⟧\n\n\nasync def f(a):\n"
        "    return [count(a), await a.acount()]\n"
    )
    frames = (
        {"function": "app.views.count", "file": "app/views.py", "line": 2, "in_app": True},
        {"function": "app.views.f", "file": "app/views.py", "line": 6, "in_app": True},
    )
    keys = {"rule": "AG119", "orm_operation": "count", "in_async_def": False, "frames": frames}

    text, patch = fixed(tmp_path, code, **keys)
    (tmp_path / "app/views.py").write_text(text)

    assert "    return [await sync_to_async(count)(a), await a.acount()]\n" in text
    _, hits = hits_of(code, **keys)
    assert plan(hits, tmp_path).diff() == ""
    assert patch.refused == ()


def test_caller_of_a_generator_expression(tmp_path):
    """
    Where the caller is moved, the generator expression of the sync function stays one.
    """
    code = (
        "from asgiref.sync import sync_to_async as thread\n\n\ndef total(a):\n"
        "    return sum(b.c for d in a for b in ⟦d.all()⟧)\n\n\nasync def f(a):\n"
        "    return total(a)\n"
    )
    frames = (
        {"function": "app.views.total", "file": "app/views.py", "line": 5, "in_app": True},
        {"function": "app.views.f", "file": "app/views.py", "line": 9, "in_app": True},
    )
    keys = {**ROWS, "in_async_def": False, "frames": frames}

    text, patch = fixed(tmp_path, code, **keys)
    (tmp_path / "app/views.py").write_text(text)

    assert patch.refused == ()
    assert text == (
        code.replace("⟦", "")
        .replace("⟧", "")
        .replace("return total(a)", "return await thread(total)(a)")
    )
    _, hits = hits_of(code, **keys)
    assert plan(hits, tmp_path).diff() == ""


def test_odd_log(tmp_path):
    """
    A frame that makes no sense stops nothing.
    """
    frames = ({"function": "app.views.f", "file": 4, "line": "x", "in_app": True},)
    keys = {"rule": "AG119", "in_async_def": False, "frames": frames}

    said = refusal(tmp_path, "def f(a):\n    return ⟦a.count()⟧\n", **keys)

    assert said.endswith(".")


def test_plain_resolver(tmp_path):
    """
    The resolver of a plain type becomes async, unless the schema is also executed without a loop.
    """
    code = (
        "import strawberry\n\n\n@strawberry.type\nclass FilmType:\n    @strawberry.field\n"
        "    def name(self) -> str:\n        return ⟦self.director⟧.name\n"
    )
    text, _ = fixed(tmp_path, code, **DIRECTOR)
    (tmp_path / "other.py").write_text("schema.execute_sync(query)\n")

    assert "    async def name(self) -> str:\n        return (await sync_to_async(lambda" in text
    assert refusal(tmp_path, code, **DIRECTOR) == (
        "The schema is executed without a loop, too, where a resolver cannot await."
    )


HINTED = (
    "import strawberry_django\n\nschema = [DjangoOptimizerExtension]\n\n\n"
    "@strawberry_django.type(Film)\nclass FilmType:\n    @strawberry_django.field(only=[])\n"
    "    async def name(self) -> str:\n        return ⟦self.director⟧.name\n\n\n"
    "class Query:\n    films: list[FilmType] = strawberry_django.field()\n"
)
RESOLVER = {"graphql_resolver": "app.views:FilmType.name", "graphql_parent": "Query.films"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(only=[])", '(only=[], select_related=["director"])'),
        ('(select_related=["strand"])', '(select_related=["strand", "director"])'),
        ("", '(select_related=["director"])'),
    ],
)
def test_hint(old, new, tmp_path):
    """
    Where the optimizer reads it, the field of a Django type gets a hint, besides those it has.
    """
    code = HINTED.replace("(only=[])", old)

    text, _ = fixed(tmp_path, code, **DIRECTOR, **RESOLVER)
    (tmp_path / "app/views.py").write_text(text)

    assert f"    @strawberry_django.field{new}\n    async def name(self)" in text
    _, hits = hits_of(code, **DIRECTOR, **RESOLVER)
    assert plan(hits, tmp_path).diff() == ""


def test_hint_that_is_no_list(tmp_path):
    """
    A hint that is made somewhere else is left alone; the access goes to a thread.
    """
    code = HINTED.replace("(only=[])", "(select_related=HINTS)")

    text, _ = fixed(tmp_path, code, **DIRECTOR, **RESOLVER)

    assert "select_related=HINTS" in text
    assert "(await sync_to_async(lambda: self.director)()).name" in text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "class A:\n    async def load(self):\n        return 1\n\n"
            "    async def f(self):\n        a = self.load()\n        return ⟦a.title⟧\n",
            "        a = await self.load()\n",
        ),
        (
            "from app.films import load\n\n\nasync def f(self):\n    return ⟦load().title⟧\n",
            "    return (await load()).title\n",
        ),
        (
            "async def f(film):\n    return ⟦film.asave()⟧.pk\n",
            "    return (await film.asave()).pk\n",
        ),
    ],
)
def test_coroutine_of(before, after, tmp_path):
    """
    What is called is found in the class, in another module, or among Django's async methods.
    """
    (tmp_path / "app").mkdir()
    (tmp_path / "app/films.py").write_text("async def load():\n    return 1\n")

    text, _ = fixed(tmp_path, before, **PROTOCOL)

    assert after in text
