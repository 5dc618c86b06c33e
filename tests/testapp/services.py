"""What lies three calls below a resolver."""

from asgiref.sync import async_to_sync

from tests.testapp.models import Ticket

CHARGED = []


def _studio_of(film):
    return film.director.studio  # <- the access [studio_of]


def _discount_for(film):
    return 2 if _studio_of(film) else 0


def member_price(film):
    return film.ticket_price - _discount_for(film)


def charge_card(amount):
    CHARGED.append(amount)


def booking_total(booking):
    tickets = Ticket.objects.filter(booking=booking)
    return sum(ticket.seats for ticket in tickets)  # <- the access [booking_total]


async def _push(text):
    return len(text)


def notify(film):
    return async_to_sync(_push)(film.title)  # <- the access [notify]
