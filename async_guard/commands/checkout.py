"""The checkout that a log is of: named with ``--root``, or the folder that the command runs in."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

from async_guard.logs.failures import CommandFailed
from async_guard.logs.proposal import Proposer, no_proposal
from async_guard.logs.repository import Repository, is_checkout


class Checkout(NamedTuple):
    """What the code adds to a report."""

    propose: Proposer = no_proposal
    repository: Repository | None = None
    note: str = ""
    """One sentence: why there are no patches."""


def add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        metavar="FOLDER",
        help="the checkout that patches are made for; default: here, if this is one",
    )


def root_of(named: str | None) -> Path:
    """
    Return the folder that ``--root`` names.

    Raises:
        CommandFailed: it is none.
    """
    root = Path(named or ".")
    if not root.is_dir():
        raise CommandFailed(f"{named} is no folder: --root names the checkout.")
    return root


def needed_root(named: str | None) -> Path:
    """
    Return the folder of the checkout, which there has to be.

    Raises:
        CommandFailed: there is none.
    """
    root = root_of(named)
    if named is None and not is_checkout(root):
        raise CommandFailed("this folder is no checkout: name it with --root.")
    return root


def checkout_of(named: str | None) -> Checkout:
    """Return the checkout; without one, or without libcst, nothing is proposed."""
    root = root_of(named)
    if named is None and not is_checkout(root):
        return Checkout(note="No patches: this folder is no checkout. Name it with --root.")
    repository = Repository(root)
    try:
        from async_guard.fix.proposal import Proposals
    except ImportError:
        note = "No patches: they need libcst (pip install 'async-guard[fix]')."
        return Checkout(repository=repository, note=note)
    return Checkout(Proposals(root), repository)
