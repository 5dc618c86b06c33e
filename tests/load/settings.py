"""The example project's settings, for a server that is to answer although nothing is mended."""

import os

from config import settings as example
from config.settings import *  # noqa: F403

ASYNC_GUARD = {
    **example.ASYNC_GUARD,
    "AUTO_RETRY": os.environ["LOAD_AUTO_RETRY"],
    "RETRY_DENY": os.environ.get("LOAD_RETRY_DENY", "").split(),
    "RETRY_RESET_S": 1,  # after the database was away, nobody wants to wait for half a minute
}

if pool_size := int(os.environ.get("LOAD_POOL", "0")):
    example.DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 1, "max_size": pool_size}}

ROOT_URLCONF = "tests.load.urls"

# A login is to cost what the database costs, not what a good hash does.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
