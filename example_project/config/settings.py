import os
from datetime import timedelta
from pathlib import Path

from config.logs import configure_structlog, logging_settings

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = os.environ.get("EXAMPLE_DEBUG", "1") == "1"
SECRET_KEY = os.environ.get("SECRET_KEY", "only-for-the-example-project-never-deploy-it")
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = [
    "async_guard",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "rest_framework_simplejwt.token_blacklist",
    "strawberry_django",
    "users",
    "auth_api",
    "otps",
]

MIDDLEWARE = [
    "async_guard.middleware.AsyncGuardMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]

ASYNC_GUARD = {
    "LOG_FILE": os.environ.get("ASYNC_GUARD_LOG_FILE"),
    "SUMMARY_INTERVAL_S": float(os.environ.get("ASYNC_GUARD_SUMMARY_INTERVAL_S", "60")),
    "EXPOSE_IN_RESPONSE": DEBUG,
}

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"

if "POSTGRES_DB" in os.environ:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ["POSTGRES_DB"],
            "USER": os.environ.get("POSTGRES_USER", ""),
            "PASSWORD": os.environ.get("POSTGRES_PASSWORD", ""),
            "HOST": os.environ.get("POSTGRES_HOST", ""),
            "PORT": os.environ.get("POSTGRES_PORT", ""),
        }
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ.get("EXAMPLE_DB", BASE_DIR / "db.sqlite3"),
            # Several worker processes write: take turns instead of failing at once.
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
    }

AUTH_USER_MODEL = "users.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=5),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=1),
}
OTP_LIFETIME = timedelta(minutes=10)

configure_structlog()
LOGGING = logging_settings()
