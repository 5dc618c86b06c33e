from django import template

from tests.testapp.models import Film

register = template.Library()


@register.simple_tag
def film_count():
    return Film.objects.count()  # <- the access [film_count]
