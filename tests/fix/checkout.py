"""A checkout of its own for a test: a git repository with files in it."""

import subprocess
from pathlib import Path

IDENTITY = ["-c", "user.name=test", "-c", "user.email=test@example.com"]


def git(root: Path, *command: str) -> str:
    done = subprocess.run(
        ["git", *IDENTITY, *command], cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout


def commit(root: Path) -> None:
    """Put all that is in the folder under version control."""
    if not (root / ".git").exists():
        git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "as it is")
