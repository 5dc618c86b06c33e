from django.apps import AppConfig


class CinemaConfig(AppConfig):
    """A repertory cinema, with the mistakes that real projects make."""

    name = "tests.testapp"
    label = "testapp"

    def ready(self):
        from tests.testapp import signals  # noqa: F401
