from django.dispatch import Signal, receiver

from tests.testapp.models import LogEntry

film_viewed = Signal()
film_booked = Signal()


@receiver(film_viewed, dispatch_uid="testapp.log_view")
def log_view(sender, film, **kwargs):
    LogEntry.objects.create(text=f"viewed {film.title}")  # <- the access [log_view]


@receiver(film_booked, dispatch_uid="testapp.log_booking")
async def log_booking(sender, film, **kwargs):
    LogEntry(text=f"booked {film.title}").save()  # <- the access [log_booking]
