"""The tests of the retries once more, on MariaDB."""

import os
import socket
import subprocess
import sys

import pytest


def answers():
    try:
        socket.create_connection(("127.0.0.1", 3306), 2).close()
    except OSError:
        return False
    return True


@pytest.mark.mariadb
@pytest.mark.skipif(not answers(), reason="no MariaDB at 127.0.0.1:3306")
def test_retries_on_mariadb():
    """
    What is retried on SQLite and PostgreSQL is on MariaDB, too.
    """
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", os.path.dirname(__file__)],
        env={**os.environ, "ASYNC_GUARD_TEST_DB": "mariadb"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-8000:]
