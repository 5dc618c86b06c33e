"""Has the lines of a process that a test starts counted, where those of the tests are."""

import os
from pathlib import Path

from coverage import Coverage

CONFIG = Path(__file__).with_suffix(".ini")


def _data_file() -> str | None:
    """Return where this process writes what it has counted; asked before a test changes folder."""
    counting = Coverage.current()
    return os.path.abspath(str(counting.get_option("run:data_file"))) if counting else None


_DATA_FILE = _data_file()


def counted() -> dict[str, str]:
    """Return what to add to the environment of a process; nothing where nobody counts."""
    if _DATA_FILE is None:
        return {}
    return {"COVERAGE_PROCESS_START": str(CONFIG), "COVERAGE_FILE": _DATA_FILE}
