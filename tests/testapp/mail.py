import time

from django.core.mail.backends.base import BaseEmailBackend


class SlowBackend(BaseEmailBackend):
    """A mail server that takes its time."""

    def send_messages(self, email_messages):
        time.sleep(0.05)
        return len(email_messages)
