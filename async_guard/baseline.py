"""
The problems that are known and put up with: a file of sorted JSON, one line per fingerprint.

No counts and no dates, so that it changes only when a problem comes or goes, and branches merge.
``version`` sorts last, so every fingerprint's line ends in a comma.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from async_guard.errors import AsyncGuardError

_VERSION = ("version", 1)


class BaselineError(AsyncGuardError):
    """The file is no baseline; the message says which and why."""


def read_baseline(path: Path) -> dict[str, str]:
    """Return the known fingerprints and what they stand for; none where there is no file yet."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BaselineError(f"The baseline {path} cannot be read: {error}.") from error
    if not isinstance(found, dict) or found.pop(_VERSION[0], None) != _VERSION[1]:
        raise BaselineError(f"{path} is no baseline of version {_VERSION[1]}.")
    return {key: str(what) for key, what in found.items()}


def write_baseline(path: Path, known: Mapping[str, str]) -> None:
    """Write the fingerprints, sorted."""
    text = json.dumps({**known, **dict([_VERSION])}, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(f"{text}\n", "utf-8")
