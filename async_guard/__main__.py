"""``python -m async_guard``: the same as ``async-guard``."""

import sys

from async_guard.cli import main

if __name__ == "__main__":
    sys.exit(main())
