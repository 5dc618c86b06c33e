"""What is not Python and not here by itself; in CI that it is missing must not go unseen."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import jsonschema
import pytest

FOLDER = Path(__file__).parents[2] / ".npm"
SARIF = "sarif-2.1.0.schema.json"


def fetched(name: str) -> str:
    """Return a file that ``make fetched`` brings."""
    path = FOLDER / name
    if not path.exists():
        missing(f"needs {name}: make fetched")
    return path.read_text("utf-8")


def missing(what: str) -> NoReturn:
    """Skip the test; where CI runs, fail it, unless CI has said that it can't be had."""
    if os.environ.get("CI") and not os.environ.get("ASYNC_GUARD_NOT_FETCHED"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


@cache
def sarif_validator() -> jsonschema.Draft202012Validator:
    """Return what checks against the schema of OASIS."""
    return jsonschema.Draft202012Validator(json.loads(fetched(SARIF)))


def check_sarif(log: dict[str, Any]) -> None:
    """Check *log* where the schema is; one test says where it is not."""
    if (FOLDER / SARIF).exists():
        sarif_validator().validate(log)
