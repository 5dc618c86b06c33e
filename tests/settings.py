"""Settings of the test project: a small cinema, on SQLite or on PostgreSQL."""

import os
import tempfile
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "only for tests, and long enough for an HMAC with SHA-256"
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "tests.urls"
ASGI_APPLICATION = "tests.asgi.application"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "rest_framework_simplejwt",
    "rest_framework_simplejwt.token_blacklist",
    "strawberry_django",
    "async_guard",
    "tests.testapp",
]
MIGRATION_MODULES = {"auth": None, "contenttypes": None, "sessions": None, "token_blacklist": None}

ASYNC_GUARD = {"ENABLED": False}

MIDDLEWARE = [
    "async_guard.middleware.AsyncGuardMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]

# One file per test run: threads can share it, and two runs at a time do not.
SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": Path(tempfile.gettempdir()) / "async_guard.sqlite3",
    "OPTIONS": {
        "timeout": 20,
        "init_command": "PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY",
    },
    "TEST": {"NAME": Path(tempfile.gettempdir()) / f"async_guard_test_{os.getpid()}.sqlite3"},
}
POSTGRES = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "postgres",
    "USER": "postgres",
    "HOST": "127.0.0.1",
    "PORT": 5432,
    "OPTIONS": {"options": "-c synchronous_commit=off"},
    "TEST": {"NAME": f"async_guard_test_{os.getpid()}"},
}
MARIADB = {
    "ENGINE": "django.db.backends.mysql",
    "NAME": "test",
    "USER": "root",
    "HOST": "127.0.0.1",
    "PORT": 3306,
    "TEST": {"NAME": f"async_guard_test_{os.getpid()}", "CHARSET": "utf8mb4"},
}
DATABASE = os.environ.get("ASYNC_GUARD_TEST_DB")
if DATABASE == "mariadb":
    import pymysql

    pymysql.version_info = (2, 2, 7, "final", 0)  # of mysqlclient, which Django asks for
    pymysql.install_as_MySQLdb()
DATABASES = {
    "default": {"postgres": POSTGRES, "mariadb": MARIADB}.get(DATABASE, SQLITE),
    "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},  # never connected to
}

CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "db": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cache_rows"},
}

# The second hasher makes passwords that Django upgrades at the next login.
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.MD5PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]

TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
STORAGES = {"default": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}

# As in production: a handler that swallows what it cannot format.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"tests.testapp": {"handlers": ["stderr"], "level": "INFO"}},
}
