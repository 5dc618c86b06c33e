"""
Every rule has a page, and the page is right: its failing code hits, its fix does not.

A block of a page is a module; the last ``async def`` in it is called, with a request if it asks
for one. It is compiled under the page's own path and line, so hits point into the page.
"""

import ast
import inspect
import re
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import django
import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.contrib.auth import logout
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.contrib.messages.storage.session import SessionStorage
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.cache import caches
from django.core.files.base import ContentFile
from django.db import connections, transaction
from django.http import HttpResponse
from django.shortcuts import get_list_or_404, render
from django.test import AsyncRequestFactory, Client

from async_guard import guarded, retrying
from async_guard.advice import RULES
from async_guard.testing import capture_hits
from tests.testapp.forms import ReviewForm
from tests.testapp.models import Booking, Director, Film, Genre, Membership
from tests.zoo import conftest as zoo
from tests.zoo.case import Case, answer, collect_what_was_left_open

programme = zoo.programme
FOLDER = Path(__file__).parent.parent / "docs" / "rules"
PATHS = sorted(FOLDER.glob("AG*.md"))
BLOCK = re.compile(r"^## (?P<heading>[^\n]+)\n\n```python\n(?P<source>.*?)^```$", re.M | re.S)
FAILING, FIX, FIX_61 = "Failing code", "Fix", "Fix on Django 6.1"
KINDS = {
    "AG113": {"n_plus_one"},
    "AG114": {"async_to_sync_in_loop"},
    "AG122": {"sync_orm", "transaction_across_await"},
}


RETRIED = {"AG122": {"AG105", "AG110"}}
"""Rules of what only a retry makes possible, and the rules of what was retried."""


def retried(rule):
    return retrying("resume") if rule in RETRIED else nullcontext()


@dataclass(frozen=True)
class Block:
    """A piece of code on a page."""

    path: Path
    heading: str
    line: int
    source: str

    def __str__(self):
        return f"{self.path.stem} {self.heading}"

    @property
    def rule(self):
        return self.path.stem

    def load(self, monkeypatch):
        """Return the function that the block is about."""
        name = f"docs.rules.{self.rule}_{self.heading.split()[0]}"
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)  # Strawberry looks names up there
        code = "\n" * (self.line - 1) + self.source
        exec(compile(code, str(self.path), "exec"), vars(module))
        names = [n.name for n in ast.parse(code).body if isinstance(n, ast.AsyncFunctionDef)]
        return vars(module)[names[-1]]


def blocks_of(path):
    text = path.read_text("utf-8")
    return {
        found["heading"]: Block(
            path, found["heading"], text.count("\n", 0, found.start("source")) + 1, found["source"]
        )
        for found in BLOCK.finditer(text)
    }


PAGES = {path.stem: blocks_of(path) for path in PATHS}
FAILURES = [pytest.param(blocks[FAILING], id=rule) for rule, blocks in PAGES.items()]
NEEDS_61 = pytest.mark.skipif(django.VERSION < (6, 1), reason="fetch modes need Django 6.1")
FIXES = [
    pytest.param(block, id=str(block), marks=NEEDS_61 if heading == FIX_61 else ())
    for blocks in PAGES.values()
    for heading, block in blocks.items()
    if heading != FAILING
]


# --- the pages ----------------------------------------------------------------------------------


def test_pages_and_rules():
    """
    Every rule has a page with its title, and every page has a rule.
    """
    titles = [path.read_text("utf-8").splitlines()[0] for path in PATHS]

    assert titles == sorted(f"# {rule.id}: {rule.title}" for rule in RULES)


def test_index():
    """
    The index lists every rule with its title and links to its page.
    """
    rows = re.findall(r"^\| \[.*$", (FOLDER / "README.md").read_text("utf-8"), re.M)

    assert rows == sorted(f"| [{rule.id}]({rule.id}.md) | {rule.title} |" for rule in RULES)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_sections(path):
    """
    A page says what happened, shows both codes, and why, with a link to the documentation.
    """
    text = path.read_text("utf-8")
    headings = re.findall(r"^## (.+)$", text, re.M)
    why = text.split("## Why")[1].split("## ")[0]

    assert [each for each in headings if each not in (FIX_61, "Watch out")] == [
        "What happened",
        FAILING,
        FIX,
        "Why",
    ]
    assert {FAILING, FIX} <= set(PAGES[path.stem])
    assert re.search(r"\(https://(docs\.djangoproject\.com|strawberry\.rocks)/", why)


@pytest.mark.parametrize("path", [*PATHS, FOLDER / "README.md"], ids=lambda path: path.stem)
def test_links_between_pages(path):
    """
    A link to another page leads to a page.
    """
    links = re.findall(r"\]\((?!https://)([^)]+)\)", path.read_text("utf-8"))

    assert [link for link in links if not (FOLDER / link).is_file()] == []


# --- their code ---------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def new_request(programme):
    """Makes requests of a user with something in the session; films are as many as an N+1 needs."""
    key = await sync_to_async(_add_films_and_session)()

    def make():
        request = AsyncRequestFactory().get("/")
        request.COOKIES["sessionid"] = key
        SessionMiddleware(HttpResponse).process_request(request)
        AuthenticationMiddleware(HttpResponse).process_request(request)
        return request

    return make


def _add_films_and_session():
    for number in range(5):
        director = Director.objects.create(name=f"Director {number}")
        Film.objects.create(title=f"Film {number}", director=director)
    client = Client()
    client.force_login(User.objects.get(username="ada"))
    session = client.session
    session["basket"] = ["Stalker"]
    session.save()
    return session.session_key


def call(function, new_request):
    wants_request = bool(inspect.signature(function).parameters)
    return function(new_request()) if wants_request else function()


def readable(result):
    return result.text if isinstance(result, HttpResponse) else result


async def answer_of(function, new_request):
    """Call it as a server does: in a task of its own."""
    case = Case("", "", lambda: call(function, new_request), seen=None)
    return readable(await answer(case))


async def answer_without_django(function, new_request, monkeypatch):
    """Return what code would answer if Django and asgiref let it do what it must not do."""
    if "async_to_sync" in function.__code__.co_names:
        return await sync_to_async(run_without_a_loop)(function())

    async def drive():
        try:
            return await call(function, new_request)
        finally:
            connections.close_all()

    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    result = await answer(Case("", "", drive, seen=None))
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE")
    await collect_what_was_left_open()
    return readable(result)


def run_without_a_loop(coroutine):
    """Run a coroutine that awaits nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it awaits something")


@pytest.mark.asyncio
@pytest.mark.parametrize("block", FAILURES)
async def test_failing_code(block, new_request, monkeypatch):
    """
    The failing code hits the rule of its page, and no other.
    """
    function = block.load(monkeypatch)

    with capture_hits() as hits, retried(block.rule):
        await answer_of(guarded(function) if block.rule in RETRIED else function, new_request)

    assert hits
    assert {hit.rule for hit in hits} - RETRIED.get(block.rule, set()) == {block.rule}
    assert {hit.kind for hit in hits} == KINDS.get(block.rule, {"sync_orm"})


@pytest.mark.asyncio
@pytest.mark.parametrize("block", FIXES)
async def test_fix(block, new_request, monkeypatch):
    """
    The fix leaves no hit and answers what the failing code was meant to answer.
    """
    function = block.load(monkeypatch)
    failing = PAGES[block.rule][FAILING].load(monkeypatch)

    with capture_hits() as hits:
        fixed = await answer_of(function, new_request)
    meant = await answer_without_django(failing, new_request, monkeypatch)

    assert hits == []
    assert fixed == meant
    assert fixed


# --- what else the pages mention ----------------------------------------------------------------


async def add_a_genre(request):
    film = await Film.objects.afirst()
    film.genres.add(await Genre.objects.aget())


async def length(request):
    return len(Film.objects.all())


async def truth(request):
    return "some" if Film.objects.all() else "none"


async def membership(request):
    return await Film.objects.afirst() in Film.objects.all()


async def index(request):
    return Film.objects.order_by("pk")[0]


async def rows_of_raw_sql(request):
    return list(Film.objects.raw("SELECT * FROM testapp_film"))


async def filter_by_user(request):
    return await Booking.objects.filter(customer=request.user).acount()


async def list_or_404(request):
    return get_list_or_404(Film)


async def item_of_the_session(request):
    return request.session["basket"]


async def key_in_the_session(request):
    return "basket" in request.session


async def save_the_session(request):
    request.session.save()


async def messages_of_the_session(request):
    request._messages = SessionStorage(request)
    return list(get_messages(request))


async def decorated(request):
    @transaction.atomic
    async def change():
        """An ``async def`` is not what the decorator is for."""

    await change()


async def password(request):
    user = await User.objects.aget(username="ada")
    return user.check_password("secret")


async def photo(request):
    member = await Membership.objects.aget()
    member.photo.save("ada.txt", ContentFile(b"photo"))


async def key_in_the_cache(request):
    return "greeting" in caches["db"]


async def permission(request):
    user = await User.objects.aget(username="ada")
    return user.has_perm("testapp.add_film")


async def log_out(request):
    logout(request)


async def form_in_a_view(request):
    return HttpResponse(str(ReviewForm()))


async def form_in_a_template(request):
    return render(request, "testapp/form.html", {"form": ReviewForm()})


async def read_a_property(request):
    film = await Film.objects.afirst()
    return film.average_stars


MENTIONED = [
    ("AG105", add_a_genre),
    ("AG106", length),
    ("AG106", truth),
    ("AG106", membership),
    ("AG106", index),
    ("AG106", rows_of_raw_sql),
    ("AG107", filter_by_user),
    ("AG108", list_or_404),
    ("AG109", item_of_the_session),
    ("AG109", key_in_the_session),
    ("AG109", save_the_session),
    ("AG121", decorated),
    ("AG111", messages_of_the_session),
    ("AG111", form_in_a_view),
    ("AG111", password),
    ("AG111", photo),
    ("AG115", key_in_the_cache),
    ("AG117", permission),
    ("AG117", log_out),
    ("AG118", form_in_a_template),
    ("AG119", read_a_property),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("rule", "function"),
    [pytest.param(*row, id=row[1].__name__) for row in MENTIONED],
)
async def test_mentioned(rule, function, new_request):
    """
    What a page mentions besides its example hits the rule of the page.
    """
    with capture_hits() as hits:
        await answer_of(function, new_request)

    assert [hit.rule for hit in hits] == [rule]
