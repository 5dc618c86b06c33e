"""
Drives every case of the zoo, every page of a rule and all of the corpus; writes what came of it.

Not a test: the tests run it in processes of their own, before and after the fix, in a copy.
"""

import gc
import importlib
import inspect
import json
import os
from pathlib import Path

import pytest

from async_guard.testing import capture_hits
from tests import test_rules
from tests.zoo import conftest as zoo
from tests.zoo import test_cases, test_places
from tests.zoo.case import answer, collect_what_was_left_open

programme = zoo.programme
new_request = test_rules.new_request
FOLDER = Path(__file__).parent
IS_ALLOWED = "DJANGO_ALLOW_ASYNC_UNSAFE" in os.environ
pytestmark = [pytest.mark.asyncio, pytest.mark.filterwarnings("ignore")]
CASES = [case for case in [*test_cases.CASES, *test_places.CASES] if case.told and not case.later]


def functions(folder):
    """Return the async functions of the modules in a folder that are to be called."""
    found = []
    for path in sorted((FOLDER / folder).glob("[!_]*.py")):
        module = importlib.import_module(f"tests.fix.{folder}.{path.stem}")
        own = [each for each in vars(module).values() if is_own(each, module)]
        found += own[-1:] if folder == "pages" else own
    return found


def is_own(value, module):
    return inspect.iscoroutinefunction(value) and value.__module__ == module.__name__


FUNCTIONS = [*functions("pages"), *functions("corpus")]
gc.freeze()  # collecting after every case is quick then


def name_of(function):
    return f"{function.__module__.split('.')[-1]}.{function.__name__}"


def tell(case, seen, hits):
    line = {"case": case, "answer": repr(seen), "hits": [hit.to_dict() for hit in hits]}
    with Path(os.environ["REPLAY"]).open("a") as file:
        file.write(json.dumps(line) + "\n")


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_zoo(case, programme):
    """
    Write one line: the case, its answer, its hits.
    """
    with capture_hits() as hits:
        seen = await answer(case)
    if IS_ALLOWED:
        await collect_what_was_left_open()
    tell(f"zoo.{case.id}", seen, hits)


@pytest.mark.parametrize("function", FUNCTIONS, ids=name_of)
async def test_function(function, new_request, monkeypatch):
    """
    Write one line for a function of a page or of the corpus.
    """
    with capture_hits() as hits:
        if IS_ALLOWED:
            monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE")
            seen = await test_rules.answer_without_django(function, new_request, monkeypatch)
        else:
            seen = await test_rules.answer_of(function, new_request)
    tell(name_of(function), seen, hits)
