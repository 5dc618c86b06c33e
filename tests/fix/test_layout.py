"""Imports that a rewrite needs or leaves behind: where a sorter has them, with no line lost."""

import pytest

from tests.fix.making import fixed, refusal
from tests.fix.test_rewrites import LIBRARY

NEW = "from asgiref.sync import sync_to_async\n"
BODY = "\n\nasync def f():\n    return ⟦lib.go(1)⟧\n"
MOVED = "\n\nasync def f():\n    return await sync_to_async(lib.go)(1)\n"

ADDED = [
    ("after __future__", "from __future__ import annotations\n", "{0}\n" + NEW),
    (
        "a section of its own",
        "from __future__ import annotations\n\nimport os\n",
        "{0}\n" + NEW,
    ),
    ("before relative imports", "from . import films\n", NEW + "\n{0}"),
    ("beside a star", "from asgiref.sync import *\n", "{0}" + NEW),
    ("there already", NEW, "{0}"),
    (
        "among other names",
        "from asgiref.sync import ThreadSensitiveContext, async_to_sync\n",
        "from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async\n",
    ),
    ("after the docstring", '"""Views."""\n', "{0}\n" + NEW),
    (
        "after the docstring, before code",
        '"""Views."""\nX = 1\n',
        '"""Views."""\n\n' + NEW + "\nX = 1\n",
    ),
    ("before code", "X = 1\n", NEW + "\n{0}"),
    (
        "before imports that are tried",
        "try:\n    import x\nexcept ImportError:\n    x = None\n",
        NEW + "\n{0}",
    ),
    (
        "first of a section",
        "import os\n\nfrom zlib2 import x\n",
        "import os\n\n" + NEW + "from zlib2 import x\n",
    ),
    (
        "first of a section with a comment",
        "import os\n\n# fast\nfrom zlib2 import x\n",
        "import os\n\n" + NEW + "# fast\nfrom zlib2 import x\n",
    ),
    (
        "first of a section without a line above",
        "import os\nfrom zlib2 import x\n",
        "import os\n\n" + NEW + "from zlib2 import x\n",
    ),
]


@pytest.mark.parametrize(("before", "after"), [pytest.param(*row[1:], id=row[0]) for row in ADDED])
def test_added(before, after, tmp_path):
    """
    An import is added where it belongs, once, and what is there keeps its lines.
    """
    text, _ = fixed(tmp_path, before + BODY, **LIBRARY)

    assert text == after.format(before) + MOVED


def test_there_by_another_name(tmp_path):
    """
    What the file calls by another name is called by that.
    """
    before = "from asgiref.sync import sync_to_async as moved\n"

    text, _ = fixed(tmp_path, before + BODY, **LIBRARY)

    assert text == before + MOVED.replace("sync_to_async", "moved")


DROPPED = [
    (
        "beside a star",
        "from os import *\nfrom asgiref.sync import async_to_sync\n",
        "from os import *\n",
    ),
    (
        "below a comment",
        "# threads\nfrom asgiref.sync import async_to_sync\nimport os\n",
        "# threads\nimport os\n",
    ),
    (
        "one of several",
        "from asgiref.sync import async_to_sync, sync_to_async\n",
        "from asgiref.sync import sync_to_async\n",
    ),
]


@pytest.mark.parametrize(
    ("before", "after"), [pytest.param(*row[1:], id=row[0]) for row in DROPPED]
)
def test_dropped(before, after, tmp_path):
    """
    An import that nothing uses any more goes, and the comment above it stays.
    """
    body = "\n\nasync def f():\n    return {}\n"

    text, _ = fixed(tmp_path, before + body.format("⟦async_to_sync(g)(1)⟧"), rule="AG114")

    assert text == after + body.format("await g(1)")


@pytest.mark.parametrize(
    "taken",
    [
        "def sync_to_async(function):\n    return function\n",
        "class sync_to_async:\n    pass\n",
        "from channels.db import database_sync_to_async as sync_to_async\n",
        "from app.threads import sync_to_async\n",
        "async def g(sync_to_async):\n    pass\n",
    ],
)
def test_name_that_is_taken(taken, tmp_path):
    """
    What the file calls by the name of an import would be called in its place.
    """
    code = f"{taken}\n\nasync def f(a):\n    return ⟦lib.load(a)⟧\n"

    assert refusal(tmp_path, code, **LIBRARY) == (
        "app/views.py means something else by sync_to_async."
    )


def test_name_of_a_method(tmp_path):
    """
    A method of that name, and the same import in a function, are no other thing.
    """
    code = (
        "class A:\n    def sync_to_async(self):\n        from asgiref.sync import sync_to_async\n\n"
        "        return sync_to_async\n\n\nasync def f(a):\n    return ⟦lib.load(a)⟧\n"
    )

    text, patch = fixed(tmp_path, code, **LIBRARY)

    assert patch.refused == ()
    assert text.endswith("    return await sync_to_async(lib.load)(a)\n")
