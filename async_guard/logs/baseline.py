"""
The problems that are known and put up with: a file of sorted JSON, one line per fingerprint.

No counts and no dates, so that it changes only when a problem comes or goes, and branches merge.
``version`` sorts last, so every fingerprint's line ends in a comma.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from async_guard.logs.events import clean
from async_guard.logs.failures import CommandFailed
from async_guard.logs.output import write_file

VERSION_KEY, VERSION = "version", 1
DEFAULT_PATH = "async-guard-baseline.json"


@dataclass(frozen=True)
class Baseline:
    """Fingerprints, and in words what they stand for."""

    known: Mapping[str, str]


def load_baseline(path: str) -> Baseline:
    """
    Read a baseline.

    Raises:
        CommandFailed: it is not there, or no baseline.
    """
    try:
        with open(path, encoding="utf-8") as file:
            raw = json.load(file)
    except OSError as error:
        raise CommandFailed(f"The baseline {path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise CommandFailed(f"The baseline {path} is not JSON: {error}.") from error
    version = raw.pop(VERSION_KEY, None) if isinstance(raw, dict) else None
    if version != VERSION or isinstance(version, bool):
        raise CommandFailed(f"{path} is no baseline of version {VERSION}.")
    for key, what in raw.items():
        if not isinstance(what, str):
            raise CommandFailed(f"The baseline {path} is damaged: {key!r} stands for no text.")
    return Baseline({clean(key): clean(what) for key, what in raw.items()})


def save_baseline(path: str, baseline: Baseline) -> None:
    """Write *baseline* as a whole or not at all; a link goes on to lead to it."""
    write_file(os.path.realpath(path) if os.path.isfile(path) else path, dumped(baseline))


def dumped(baseline: Baseline) -> str:
    entries = {**baseline.known, VERSION_KEY: VERSION}
    return json.dumps(entries, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
