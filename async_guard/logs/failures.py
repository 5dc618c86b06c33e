"""What ends a command: each message is one sentence for people."""

from __future__ import annotations

from async_guard.errors import AsyncGuardError


class CommandFailed(AsyncGuardError):
    """Wrong use, or input that cannot be read; exit status 2."""


class MissingExtra(CommandFailed):
    """An optional package that the command needs."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}: pip install 'async-guard[{extra}]'")

    def __reduce__(self) -> tuple[type[CommandFailed], tuple[str]]:
        """Travel between processes as the sentence that it is."""
        return CommandFailed, (str(self),)


def printable(text: str) -> str:
    """Return *text*, the name of a file perhaps, without what would move a terminal's cursor."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
