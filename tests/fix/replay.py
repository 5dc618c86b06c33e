"""
Drives every case of the zoo, and writes what it answered and the hits that it left.

Not a test: the tests run it in processes of their own, before and after the fix, in a copy.
"""

import json
import os
from pathlib import Path

import pytest

from async_guard.testing import capture_hits
from tests.zoo import conftest as zoo
from tests.zoo import test_cases, test_places
from tests.zoo.case import answer, collect_what_was_left_open

programme = zoo.programme
CASES = [*test_cases.CASES, *test_places.CASES]
pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_case(case, programme):
    """
    Write one line: the case, its answer, its hits.
    """
    with capture_hits() as hits:
        seen = await answer(case)
    await collect_what_was_left_open()
    line = {"case": case.id, "answer": repr(seen), "hits": [hit.to_dict() for hit in hits]}
    with Path(os.environ["REPLAY"]).open("a") as file:
        file.write(json.dumps(line) + "\n")
