"""Views that hit, for requests that must not notice how their hits are delivered."""

from django.contrib.auth.models import Group
from django.http import HttpResponse
from django.urls import path


async def swallow(times=1):
    for _ in range(times):
        try:
            list(Group.objects.all())
        except Exception:
            pass
    return times


async def view(request, times=1):
    return HttpResponse(str(await swallow(times)))


urlpatterns = [path("hit/", view), path("hit/<int:times>/", view)]
