import logging

from django.contrib.auth import authenticate
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.cache import caches
from django.core.files.base import ContentFile
from django.core.mail import EmailMessage
from django.core.paginator import Paginator
from django.forms.models import model_to_dict
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views import View
from strawberry.django.views import AsyncGraphQLView

from tests.testapp import services
from tests.testapp.forms import ReviewForm
from tests.testapp.loaders import Context
from tests.testapp.mail import SlowBackend
from tests.testapp.models import Film, Membership, Review, Screening, Studio

log = logging.getLogger(__name__)


class GraphQLView(AsyncGraphQLView):
    async def get_context(self, request, response):
        return Context(request=request, response=response)


class EagerGraphQLView(AsyncGraphQLView):
    async def get_context(self, request, response):
        return {"request": request, "staff": request.user.is_staff}  # <- the access [get_context]


async def whoami(request):
    return JsonResponse({"staff": request.user.is_staff})  # <- the access [whoami]


async def basket(request):
    return JsonResponse({"basket": request.session.get("basket", [])})  # <- the access [basket]


async def listing(request):
    return render(request, "testapp/listing.html", {"films": Film.objects.all()})


async def page(request, title):
    film = await Film.objects.aget(title=title)
    viewer = await User.objects.aget(username="ada")
    return render(request, "testapp/page.html", {"film": film, "viewer": viewer})


async def render_film(request, template):
    film = await Film.objects.aget(title="Stalker")
    return render(request, f"testapp/{template}.html", {"film": film})


async def export(request):
    async def rows():
        yield b"title,director\n"
        async for film in Film.objects.order_by("pk"):
            yield f"{film.title},{film.director.name}\n".encode()  # <- the access [export]

    return StreamingHttpResponse(rows(), content_type="text/csv")


async def sync_export(request):
    def rows():
        for film in Film.objects.order_by("pk"):
            yield f"{film.title}\n".encode()

    return StreamingHttpResponse(rows(), content_type="text/csv")  # <- the access [sync_export]


async def as_dict(request, title):
    film = await Film.objects.aget(title=title)
    return JsonResponse({"genres": len(model_to_dict(film)["genres"])})  # <- the access [as_dict]


async def upload_photo(request):
    membership = await Membership.objects.aget(user__username="ada")
    membership.photo.save("ada.txt", ContentFile(b"photo"))  # <- the access [upload_photo]
    return JsonResponse({"photo": membership.photo.name})


async def cached_count(request):
    count = caches["db"].get("film-count")  # <- the access [cached_count]
    return JsonResponse({"count": count})


async def write_to_cache(request):
    caches["db"].set("film-count", 2)  # <- the access [write_to_cache]
    return HttpResponse()


async def mail(request):
    message = EmailMessage("Programme", "Stalker", "a@example.com", ["b@example.com"])
    SlowBackend().send_messages([message])  # <- the access [mail]
    return HttpResponse("sent")


async def review_form(request):
    form = ReviewForm(data={"film": "1", "text": "fine"})
    if form.is_valid():  # <- the access [review_form]
        return HttpResponse("fine")
    return HttpResponse("not fine", status=400)


async def blank_review_form(request):
    return HttpResponse(ReviewForm().as_p())  # <- the access [blank_review_form]


async def review_page(request):
    return render(request, "testapp/form.html", {"form": ReviewForm()})


class Cloakroom(LoginRequiredMixin, View):  # <- the access [login_required_mixin]
    async def get(self, request):
        return HttpResponse("Your coat, please.")


async def clean_review(request):
    film = await Film.objects.aget(title="Stalker")
    review = Review(film_id=film.pk, user_id=1, text="fine")
    review.full_clean()  # <- the access [full_clean]
    return HttpResponse("clean")


async def paginated(request):
    films = Paginator(Film.objects.order_by("pk"), 10).page(1)  # <- the access [paginator]
    return HttpResponse(len(films))


async def log_in(request):
    user = authenticate(request, username="ada", password="secret")  # <- the access [authenticate]
    return HttpResponse(user)


async def check_password(request):
    user = await User.objects.aget(username="ada")
    return HttpResponse(user.check_password("secret"))  # <- the access [check_password]


async def content_type(request):
    found = ContentType.objects.get_for_model(Studio)  # <- the access [content_type]
    return HttpResponse(found.model)


async def titled(request):
    screening = await Screening.objects.afirst()
    return HttpResponse(f"Tonight: {screening}")


async def logged(request):
    review = await Review.objects.afirst()
    log.info("published %r", review)
    return HttpResponse("logged")


async def notified(request):
    film = await Film.objects.aget(title="Stalker")
    return HttpResponse(services.notify(film))


async def with_fallback(request):
    film = await Film.objects.aget(title="Stalker")
    try:
        director = film.director.name  # <- the access [with_fallback]
    except Exception:
        director = "unknown"
    return HttpResponse(director)


async def logged_and_raised(request):
    film = await Film.objects.aget(title="Stalker")
    try:
        director = film.director.name  # <- the access [logged_and_raised]
    except Exception:
        log.warning("no director")
        raise
    finally:
        log.info("looked for a director")
    return HttpResponse(director)


async def as_json(request):
    film = await Film.objects.aget(title="Stalker")
    return JsonResponse(
        {
            "title": film.title,
            "director": film.director.name,  # <- the access [as_json]
        }
    )


class FilmView(View):
    async def get(self, request, title):
        self.film = await Film.objects.aget(title=title)
        return JsonResponse(self.context())

    def context(self):
        return {"director": self.film.director.name}  # <- the access [class_based_view]


def sync_page(request, title):
    film = Film.objects.get(title=title)
    return HttpResponse(f"{film.title} by {film.director.name}")


def sync_listing(request):
    names = []
    for film in Film.objects.order_by("pk"):
        names.append(film.director.name)  # <- the access [sync_listing]
    return HttpResponse(", ".join(names))
