"""
From the log to a patch: finds the expression of each hit in the checkout and rewrites it.

Nothing else of async_guard imports this package, because it needs libcst. What cannot be rewritten
safely is refused, with the reason.
"""

try:
    import libcst  # noqa: F401
except ImportError as error:
    raise ImportError("fix needs libcst: pip install 'async-guard[fix]'") from error

from async_guard.fix.command import run
from async_guard.fix.patch import Patch, Result
from async_guard.fix.planning import plan

__all__ = ["Patch", "Result", "plan", "run"]
