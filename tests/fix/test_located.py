"""Which expression of the checkout a hit was at, and which call of an async function led there."""

from dataclasses import replace

import pytest

from async_guard.fix.planning import plan
from tests.fix.making import fixed, hits_of
from tests.fix.test_rewrites import GET, SAVE

CODE = "async def f(a):\n    ⟦a.save()⟧\n"


def refused(root, code, hits):
    """Return the sentences of a checkout with one file, in which nothing is changed."""
    (root / "app").mkdir()
    (root / "app/views.py").write_text(code)
    patch = plan(hits, root)
    assert patch.diff() == ""
    return [each.refusal for each in patch.results]


@pytest.mark.parametrize(
    ("code", "keys", "reason"),
    [
        (CODE, {"digest": None}, "The log does not say what the code of app.views.f was."),
        (
            "async def f(a):\n    a.g(⟦a.h(1⟧))\n",
            {},
            "What stands at app/views.py:2 is no expression of its own.",
        ),
        (CODE, {"text": "a.delete()"}, "app.views.f has changed since the log was written."),
        (CODE, {"end_line": 1}, "app.views.f has changed since the log was written."),
        (
            CODE,
            {"function": "other.models.f"},
            "app/views.py is not the module that other.models.f was in.",
        ),
        (
            "class A:\n    ⟦a: int⟧\n\n    async def f(self):\n        pass\n",
            {"on_stack": False, "digest": None, "text": "b: int"},
            "app.views.A has changed since the log was written.",
        ),
    ],
)
def test_not_located(code, keys, reason, tmp_path):
    """
    A hit whose expression is not sure to be the one is left alone.
    """
    code, [hit] = hits_of(code, **SAVE)

    assert refused(tmp_path, code, [replace(hit, **keys)]) == [reason]


def test_bracket_behind_the_last_code(tmp_path):
    """
    An expression may end behind the last line that has code, which is the last of the digest.
    """
    code = "async def f():\n    return ⟦A.objects.get(\n        pk=1,\n    )⟧\n"

    text, patch = fixed(tmp_path, code, **GET)

    assert patch.refused == ()
    assert text == "async def f():\n    return await A.objects.aget(\n        pk=1,\n    )\n"


def test_function_twice(tmp_path):
    """
    Of two functions of one name and one text, the lines tell which it was; if not, nobody can.
    """
    other = "else:\n    async def f(a):\n        a.save()\n"
    code, hits = hits_of(f"if x:\n    async def f(a):\n        ⟦a.save()⟧\n{other}", **SAVE)
    (tmp_path / "there").mkdir()
    (tmp_path / "moved").mkdir()

    text, _ = fixed(tmp_path / "there", code.replace("a.save()", "⟦a.save()⟧", 1), **SAVE)

    assert text == code.replace("a.save()", "await a.asave()", 1)
    assert refused(tmp_path / "moved", "\n" * 9 + code, hits) == [
        "app/views.py has app.views.f more than once."
    ]


def test_return_twice(tmp_path):
    """
    Of two equal statements of a function, the line tells which one the framework evaluated.
    """
    keys = {"rule": "AG106", "access": "queryset", "orm_operation": "iterate", "on_stack": False}

    code = (
        "async def f(a):\n    if a:\n        ⟦return A.objects.all()⟧\n    return A.objects.all()\n"
    )

    text, _ = fixed(tmp_path, code, **keys)

    assert text == (
        "async def f(a):\n    if a:\n        return [row async for row in A.objects.all()]\n"
        "    return A.objects.all()\n"
    )


def test_braces_of_an_f_string(tmp_path):
    """
    Python 3.12 and later name an expression of an f-string with its braces.
    """
    text, _ = fixed(tmp_path, 'async def f():\n    return f"⟦{A.objects.get(pk=1)}⟧"\n', **GET)

    assert text == 'async def f():\n    return f"{await A.objects.aget(pk=1)}"\n'


def test_main_module(tmp_path):
    """
    The function of a script is found by its file, as its module has no name.
    """
    text, _ = fixed(tmp_path, CODE, **SAVE, function="__main__.f")

    assert text == "async def f(a):\n    await a.asave()\n"


def test_undecodable_file(tmp_path):
    """
    A file that is not in the encoding that it names is refused.
    """
    code, hits = hits_of(f"# coding: latin-1\n{CODE}", **SAVE)

    said = refused(tmp_path, code.replace("latin-1", "nonsense"), hits)

    assert said == ["app/views.py cannot be parsed."]


def test_other_files(tmp_path):
    """
    A file of the checkout that is broken, or a link to nowhere, does not stop the others.
    """
    (tmp_path / "broken.py").write_text("def load(:\n")
    (tmp_path / "encoded.py").write_text("# coding: nonsense\ndef load():\n    pass\n")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "films.py").write_text("async def load():\n    return 1\n")

    text, _ = fixed(
        tmp_path,
        "from films import load\n\n\nasync def f():\n    return ⟦load().title⟧\n",
        kind="async_protocol",
    )

    assert text == ("from films import load\n\n\nasync def f():\n    return (await load()).title\n")


# --- the call that led there -------------------------------------------------------------------


def frame(function, line, **more):
    known = {"function": f"app.views.{function}", "file": "app/views.py", "line": line}
    return {**known, "in_app": True, **more}


def called_from(root, async_code, *frames, name="count"):
    """Fix a hit in the sync function on line 2, called by the async code below it."""
    code = f"def {name}(a):\n    return ⟦a.count()⟧\n\n\n{async_code}"
    keys = {"rule": "AG119", "orm_operation": "count", "in_async_def": False}
    text, patch = fixed(root, code, **keys, frames=(frame(name, 2), *frames))
    return text, patch.results[0].refusal


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "return await count(a)",
            "The async function awaits the call already: it is another one that hits.",
        ),
        ("return await sync_to_async(count)(a)", "count is called in a thread already."),
    ],
)
def test_call_that_is_left(body, reason, tmp_path):
    """
    A call that cannot be told, or is moved already, is left as it is.
    """
    assert called_from(tmp_path, f"async def f(a, b):\n    {body}\n", frame("f", 6))[1] == reason


def test_made_object(tmp_path):
    """
    What ``__init__`` does is moved with the call of its class.
    """
    code = "class Page:\n    def __init__(self, a):\n        count(a)\n\n\n"

    text, said = called_from(
        tmp_path,
        f"{code}async def f(a):\n    return Page(a)\n",
        frame("Page.__init__", 7),
        frame("f", 11),
    )

    assert said is None
    assert text.endswith("async def f(a):\n    return await sync_to_async(Page)(a)\n")


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ('f"{a}, a film"', 'f"{await sync_to_async(str)(a)}, a film"'),
        ('f"{a} {b!r}"', 'await sync_to_async(lambda: f"{a} {b!r}")()'),
        ('f"{a:>9}"', 'await sync_to_async(lambda: f"{a:>9}")()'),
        ('f"{a} {await b}"', 'f"{await sync_to_async(str)(a)} {await b}"'),
    ],
)
def test_string_that_shows_an_object(body, after, tmp_path):
    """
    What a string shows is shown in a thread; the whole string, where it may be one or the other.
    """
    code = "async def f(a, b):\n    return "

    text, said = called_from(tmp_path, f"{code}{body}\n", frame("f", 6), name="__str__")

    assert said is None
    assert text.endswith(f"{code}{after}\n")


@pytest.mark.parametrize("body", ['f"{a}", f"{b}"', 'f"{a} {b} {c!r}" if f"{b}" else ""', "g(a)"])
def test_string_that_cannot_be_told(body, tmp_path):
    """
    Which of two strings showed the object is not known.
    """
    code = f"async def f(a, b, c):\n    return {body}\n"

    assert called_from(tmp_path, code, frame("f", 6), name="__str__")[1] == (
        "__str__ is a sync function: to await in it, its callers would have to change."
    )


def test_caller_that_is_gone(tmp_path):
    """
    A function that called and is not there any more cannot be changed.
    """
    said = called_from(tmp_path, "async def f(a):\n    return count(a)\n", frame("g", 6))[1]

    assert said == "app.views.g, which called it, is not in app/views.py any more."


def test_caller_twice(tmp_path):
    """
    Of two async functions of one name, the one on the line of the log is changed.
    """
    one = "async def f(a):\n    return count(a)\n"

    text, said = called_from(tmp_path, f"{one}\n\n{one}", frame("f", 10))

    assert said is None
    assert text.endswith(f"{one}\n\n{one.replace('count(a)', 'await sync_to_async(count)(a)')}")


def test_line_that_is_none(tmp_path):
    """
    A frame whose line is no number stops nothing but its own hit.
    """
    said = called_from(tmp_path, "async def f(a):\n    return count(a)\n", frame("f", "six"))[1]

    assert said == "It could not be rewritten: TypeError."
