"""Settings for Django's tests, which bring most of what they need themselves."""

import os

import django

# What is no setting is in lower case: a test of Django's writes every setting into a file.
run = os.environ.get("DJANGO_SUITE_RUN", "0")
"""Names the databases on a server, so that two runs do not share them."""


def postgres(alias: str) -> dict[str, object]:
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": "127.0.0.1",
        "PORT": 5432,
        "TEST": {"NAME": f"django_suite_{run}_{alias}"},
    }


def sqlite(alias: str) -> dict[str, object]:
    return {"ENGINE": "django.db.backends.sqlite3"}  # in memory


make = {"postgres": postgres, "sqlite": sqlite}[os.environ.get("DJANGO_SUITE_DATABASE", "sqlite")]
DATABASES = {alias: make(alias) for alias in ("default", "other")}

SECRET_KEY = "django_tests_secret_key"  # a test looks for it
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
if django.VERSION < (6, 0):
    DEFAULT_AUTO_FIELD = "django.db.models.AutoField"  # as its tests expect
USE_TZ = False

TEST_RUNNER = "tests.django_suite.runner.Runner"
ASYNC_GUARD = {"ENABLED": False, "BURST": 1}
