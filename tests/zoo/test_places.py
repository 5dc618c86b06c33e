"""
Where sync code hides in an async project, and who keeps its refusal to himself.

Where the access is marked in ``tests/testapp`` with ``<- the access [tag]``, there the hit must
point.
"""

import asyncio
from contextlib import nullcontext

import pytest
from structlog.testing import capture_logs

from async_guard.testing import capture_hits
from tests.testapp import consumers, tasks
from tests.testapp.models import Director, Film
from tests.testapp.schema import schema
from tests.zoo.case import (
    Case,
    answer,
    asgi,
    collect_what_was_left_open,
    execute,
    gql,
    hit,
    http,
    params,
    socket,
    stream,
    told,
    unseen_by_pytest,
)

pytestmark = pytest.mark.asyncio

REFUSED = "SynchronousOnlyOperation"
DIRECTOR = "testapp.Film.director"
GRAPHQL = [
    Case(
        "field_extension",
        "A field extension runs around the resolver.",
        gql('{ film(title: "Stalker") { billing } }'),
        seen=({"film": None}, "film.billing"),
        told=hit("forward_relation", DIRECTOR, "field_extension"),
    ),
    Case(
        "async_field_extension",
        "An async field extension may read lazily, too.",
        gql('{ film(title: "Stalker") { credit } }'),
        seen=({"film": None}, "film.credit"),
        told=hit("forward_relation", "testapp.Film.curator", "async_field_extension"),
    ),
    Case(
        "data_loader",
        "A DataLoader's function runs for several fields, in none of them.",
        gql('{ film(title: "Stalker") { studio { name } } }'),
        seen=({"film": {"studio": None}}, "film.studio"),
        told=hit("queryset", None, "load_studios"),
    ),
    Case(
        "async_permission",
        "An async permission may read lazily, too.",
        gql("{ membersOffer }", user="ada"),
        seen=({"membersOffer": None}, "membersOffer"),
        told=hit("reverse_one_to_one", "auth.User.membership", "is_member"),
    ),
    Case(
        "on_operation",
        "An extension logs the operation when it is over.",
        gql("{ openingHours }", path="/graphql/logging/"),
        seen=(None, "?"),
        told=hit("queryset", None, "on_operation"),
    ),
    Case(
        "on_execute",
        "An extension prepares what the resolvers need.",
        gql("{ openingHours }", path="/graphql/counting/"),
        seen=(None, "?"),
        told=hit("queryset", None, "on_execute"),
    ),
    Case(
        "get_results",
        "An extension adds to the response.",
        gql("{ openingHours }", path="/graphql/reporting/"),
        seen=REFUSED,
        told=hit("queryset", None, "get_results"),
    ),
    Case(
        "get_context",
        "The view builds the context of every operation.",
        gql("{ openingHours }", path="/graphql/eager/", user="ada"),
        seen=REFUSED,
        told=hit("lazy_user", "request.user", "get_context"),
    ),
    Case(
        "schema_without_the_extension",
        "The probe needs no extension to see a resolver's line.",
        gql('{ film(title: "Stalker") { directorName } }', path="/graphql/unguarded/"),
        seen=({"film": None}, "film.directorName"),
        told=hit("forward_relation", DIRECTOR, "director_name"),
    ),
    Case(
        "default_resolver_without_the_extension",
        "Nor to see the annotation of a field.",
        gql('{ film(title: "Stalker") { director { name } } }', path="/graphql/unguarded/"),
        seen=({"film": None}, "film.director"),
        told=hit("forward_relation", DIRECTOR, "film_director", on_stack=False),
    ),
    Case(
        "schema_without_a_view",
        "An operation that no view runs is an operation all the same.",
        execute(schema, '{ film(title: "Stalker") { director { name } } }'),
        seen=({"film": None}, "film.director"),
        told=hit("forward_relation", DIRECTOR, "film_director", on_stack=False),
    ),
    Case(
        "streamed_query",
        "A transport that streams runs queries, too.",
        stream(schema, '{ film(title: "Stalker") { directorName } }'),
        seen=[({"film": None}, "film.directorName")],
        told=hit("forward_relation", DIRECTOR, "director_name"),
    ),
    Case(
        "comprehension",
        "A comprehension is part of the function that it stands in.",
        gql('{ film(title: "Stalker") { neighbours } }'),
        seen=({"film": None}, "film.neighbours"),
        told=hit("forward_relation", DIRECTOR, "neighbours"),
    ),
    Case(
        "another_exception_from_it",
        "An error that was raised from the refusal tells of it.",
        gql('{ film(title: "Stalker") { directorOrError } }'),
        seen=({"film": {"directorOrError": None}}, "film.directorOrError"),
        told=hit("forward_relation", DIRECTOR, "director_or_error"),
    ),
    Case(
        "asend_robust_hides_a_receiver",
        "An async receiver may save without await.",
        gql('{ book(title: "Stalker") }'),
        seen=({"book": "Stalker"},),
        told=hit("instance_write", None, "log_booking", "swallowed"),
    ),
    Case(
        "bare_except",
        "A bare except makes it a silent null.",
        gql('{ film(title: "Stalker") { directorOrNothing } }'),
        seen=({"film": {"directorOrNothing": None}},),
        told=hit("forward_relation", DIRECTOR, "director_or_nothing", "swallowed"),
    ),
    Case(
        "suppress",
        "So does contextlib.suppress().",
        gql('{ film(title: "Stalker") { directorIfAny } }'),
        seen=({"film": {"directorIfAny": None}},),
        told=hit("forward_relation", DIRECTOR, "director_if_any", "swallowed"),
    ),
    Case(
        "except_by_name",
        "Who catches SynchronousOnlyOperation by name knows what he does.",
        gql('{ film(title: "Stalker") { directorByName } }'),
        seen=({"film": {"directorByName": "Tarkovsky"}},),
        told=hit("forward_relation", DIRECTOR, "director_by_name", "handled"),
    ),
]
VIEWS = [
    Case(
        "class_based_view",
        "A method that the async handler calls runs on the loop.",
        http("/films/Stalker/class/"),
        seen=REFUSED,
        told=hit("forward_relation", DIRECTOR, "class_based_view"),
    ),
    Case(
        "statement_of_several_lines",
        "Of a statement the line with the access is named.",
        http("/as-json/"),
        seen=REFUSED,
        told=hit("forward_relation", DIRECTOR, "as_json"),
    ),
    Case(
        "view_with_a_fallback",
        "A view that catches everything answers with something else.",
        http("/with-fallback/"),
        seen=(200, "unknown"),
        told=hit("forward_relation", DIRECTOR, "with_fallback", "swallowed"),
    ),
    Case(
        "view_raises_again",
        "A view may look at the exception and pass it on.",
        http("/logged-and-raised/"),
        seen=REFUSED,
        told=hit("forward_relation", DIRECTOR, "logged_and_raised"),
    ),
    Case(
        "real_asgi_application",
        "A request that came over ASGI is answered with 500.",
        asgi("/films/"),
        seen=500,
        told=hit("queryset", None, "listing", on_stack=False),
    ),
    Case(
        "middleware",
        "Async middleware reads the lazy user before any view.",
        http("/films/Stalker/sync/", user="ada", middleware="greet"),
        seen=REFUSED,
        told=hit("lazy_user", "request.user", "greet"),
    ),
    Case(
        "middleware_swallows",
        "Careful middleware never greets anyone by name.",
        http("/films/Stalker/sync/", user="ada", middleware="greet_if_possible"),
        seen=(200, "Stalker by Tarkovsky"),
        told=hit("lazy_user", "request.user", "greet_if_possible", "swallowed"),
    ),
    Case(
        "sync_middleware",
        "Sync middleware runs in a thread.",
        http("/films/Stalker/sync/", user="ada", middleware="greet_in_thread"),
        seen=(200, "Stalker by Tarkovsky"),
    ),
    Case(
        "str_in_an_f_string",
        "__str__ of a model follows a relation.",
        http("/titled/"),
        seen=REFUSED,
        told=hit("forward_relation", "testapp.Screening.film", "screening_str"),
    ),
    Case(
        "repr_in_a_log_call",
        "logging loses the record; it fails to print the arguments and fails to say so.",
        unseen_by_pytest(http("/logged/")),
        seen=(200, "logged"),
        told=hit("forward_relation", "testapp.Review.film", "review_repr", "swallowed") * 2,
    ),
    Case(
        "full_clean",
        "Validation looks up foreign keys.",
        http("/clean-review/"),
        seen=REFUSED,
        told=hit("validation", None, "full_clean"),
    ),
    Case(
        "paginator",
        "A paginator counts.",
        http("/paginated/"),
        seen=REFUSED,
        told=hit("queryset", None, "paginator"),
    ),
    Case(
        "authenticate",
        "authenticate() asks every backend.",
        http("/log-in/"),
        seen=REFUSED,
        told=hit("auth", None, "authenticate"),
    ),
    Case(
        "password_upgrade",
        "check_password() saves a password whose hash is out of date.",
        http("/check-password/"),
        seen=REFUSED,
        told=hit("instance_write", None, "check_password"),
    ),
    Case(
        "write_to_database_cache",
        "A cache in the database is written by a query.",
        http("/write-to-cache/"),
        seen=REFUSED,
        told=hit("cache", None, "write_to_cache"),
    ),
    Case(
        "content_type",
        "A content type is looked up once per process, by whoever comes first.",
        http("/content-type/"),
        seen=REFUSED,
        told=hit("content_type", None, "content_type"),
    ),
    Case(
        "template_inheritance",
        "The child template is named.",
        http("/render/child/"),
        seen=REFUSED,
        told=hit("related_manager", "testapp.Film.reviews", "child_template", on_stack=False),
    ),
    Case(
        "form_in_a_view",
        "The templates of Django's own forms are not the project's: its line is named.",
        http("/blank-review-form/"),
        seen=REFUSED,
        told=hit("queryset", None, "blank_review_form"),
    ),
    Case(
        "form_in_a_template",
        "The project's template that shows the form is named.",
        http("/review-page/"),
        seen=REFUSED,
        told=hit("queryset", None, "form_template", on_stack=False),
    ),
    Case(
        "login_required_mixin",
        "A mixin asks before any method of the view runs: its class is named.",
        http("/cloakroom/", user="ada"),
        seen=REFUSED,
        told=hit("lazy_user", "request.user", "login_required_mixin", on_stack=False),
    ),
    Case(
        "template_include",
        "The included template is named.",
        http("/render/including/"),
        seen=REFUSED,
        told=hit("forward_relation", DIRECTOR, "included_template", on_stack=False),
    ),
    Case(
        "template_tag",
        "The project's own tag is Python, and named by its line.",
        http("/render/tagged/"),
        seen=REFUSED,
        told=hit("queryset", None, "film_count"),
    ),
    Case(
        "async_to_sync",
        "asgiref refuses to wait for a coroutine on the loop that must run it.",
        http("/notified/"),
        seen="RuntimeError",
        told=hit("async_to_sync", None, "notify", kind="async_to_sync_in_loop"),
    ),
]
TASKS = [
    Case(
        "task_with_queries_in_threads",
        "Queries that were moved to a thread change nothing for the one that was not.",
        tasks.director_after_prefetch,
        seen=REFUSED,
        told=hit("forward_relation", DIRECTOR, "director_after_prefetch"),
    ),
    Case(
        "awaited_task",
        "Who awaits a task gets its exception.",
        tasks.director_in_task,
        seen=REFUSED,
        told=hit("forward_relation", DIRECTOR, "director_of"),
    ),
    Case(
        "forgotten_task",
        "A task that nobody awaits answers for itself; asyncio logs what it raised.",
        tasks.director_in_forgotten_task,
        seen="done",
        told=hit("forward_relation", DIRECTOR, "director_of"),
    ),
    Case(
        "gather_returns_exceptions",
        "gather() returns the refusal, and the list comprehension drops it.",
        tasks.directors_that_work,
        seen=[],
        told=hit("forward_relation", DIRECTOR, "director_of", "swallowed"),
    ),
    Case(
        "task_group",
        "A task group raises a group.",
        tasks.director_in_task_group,
        seen="ExceptionGroup",
        told=hit("forward_relation", DIRECTOR, "director_of"),
    ),
    Case(
        "except_star",
        "except* swallows a group as except does one exception.",
        tasks.director_if_group_succeeds,
        seen="done",
        told=hit("forward_relation", DIRECTOR, "director_of", "swallowed"),
        later="outside an operation nobody follows the group that a task's exception is in",
    ),
    Case(
        "call_soon",
        "The loop logs what its callback raised and goes on.",
        tasks.count_soon,
        seen=[],
        told=hit("queryset", None, "count_soon", "swallowed"),
    ),
    Case(
        "done_callback",
        "So it does with the callback of a task.",
        tasks.count_when_done,
        seen=[],
        told=hit("queryset", None, "count_when_done", "swallowed"),
    ),
    Case(
        "consumer",
        "A consumer runs on the loop as long as its socket is open.",
        socket(consumers.box_office, "Stalker"),
        seen=REFUSED,
        told=hit("forward_relation", DIRECTOR, "box_office"),
    ),
]
CASES = GRAPHQL + VIEWS + TASKS


@pytest.mark.parametrize("case", params(CASES))
async def test_hit(case, programme):
    """
    Every place leaves exactly the hit that its case describes.
    """
    with capture_hits() as hits:
        await answer(case)

    assert told(hits) == case.told, case.promise


@pytest.mark.parametrize("watch", [nullcontext, capture_hits], ids=["alone", "guarded"])
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_answer(case, watch, programme):
    """
    The guard changes nothing for the client.
    """
    with watch():
        assert await answer(case) == case.seen


async def test_handled_is_not_logged(programme):
    """
    A hit that the code handles by name is counted, and not logged.
    """
    case = Case("", "", gql('{ film(title: "Stalker") { directorByName } }'), seen=None)

    with capture_logs() as logs, capture_hits() as hits:
        await answer(case)

    assert [each.outcome for each in hits] == ["handled"]
    assert [each for each in logs if each["event"] == "async_guard.hit"] == []


async def test_raised_is_logged(programme):
    """
    A hit that nobody handles is one event in the log, with the keys of the hit.
    """
    case = Case("", "", gql('{ film(title: "Stalker") { directorName } }'), seen=None)

    with capture_logs() as logs, capture_hits() as hits:
        await answer(case)

    [event] = [each for each in logs if each["event"] == "async_guard.hit"]
    assert event["async_guard.hit_id"] == hits[0].hit_id
    assert event["async_guard.relation"] == DIRECTOR


# --- on whose behalf ----------------------------------------------------------------------------


async def origins(*drives):
    """Return what the hits of all drives at once tell of where they come from."""
    with capture_hits() as hits:
        await asyncio.gather(*(answer(Case("", "", drive, seen=None)) for drive in drives))
    events = [each.to_dict() for each in hits]
    assert "Stalker" not in repr(events)  # an argument is a value
    return [{key: value for key, value in each.items() if key in ORIGIN} for each in events]


ORIGIN = {
    "graphql.operation.name",
    "graphql.operation.type",
    "async_guard.graphql.field",
    "async_guard.graphql.path",
    "async_guard.graphql.parent",
    "http.request.method",
    "http.route",
    "async_guard.view",
}


async def test_origin_of_a_field(programme):
    """
    The hit of a field names its operation, its path without indexes, its parent and its view.
    """
    query = "query Tonight { filmsWithReviews { director { name } } }"

    [origin, *_] = await origins(gql(query))

    assert origin == {
        "graphql.operation.name": "Tonight",
        "graphql.operation.type": "query",
        "async_guard.graphql.field": "FilmType.director",
        "async_guard.graphql.path": "filmsWithReviews[].director",
        "async_guard.graphql.parent": "Query.filmsWithReviews",
        "http.request.method": "POST",
        "http.route": "graphql/",
        "async_guard.view": "tests.testapp.views:GraphQLView",
    }


async def test_origin_of_a_view(programme):
    """
    The hit of a view names the pattern of the URL, never the URL.
    """
    assert await origins(http("/films/Stalker/class/")) == [
        {
            "http.request.method": "GET",
            "http.route": "films/<title>/class/",
            "async_guard.view": "tests.testapp.views:FilmView",
        }
    ]


async def test_origins_at_the_same_time(programme):
    """
    Requests that run at once keep their origins apart.
    """
    names = [f"Number{number}" for number in range(5)]
    query = 'query %s { film(title: "Stalker") { directorName } }'

    found = await origins(*(gql(query % name) for name in names))

    assert sorted(each["graphql.operation.name"] for each in found) == names


# --- allowed by Django, but the loop waits ----------------------------------------------------

ALLOWED = [
    Case(
        "relation",
        "A lazy relation blocks the loop.",
        http("/films/Stalker/class/"),
        seen=(200, '{"director": "Tarkovsky"}'),
        told=hit("forward_relation", DIRECTOR, "class_based_view", "allowed", kind="blocking_orm"),
    ),
    Case(
        "lazy_user",
        "The lazy user blocks the loop twice: for the session and for the user.",
        http("/whoami/", user="ada"),
        seen=(200, '{"staff": true}'),
        told=hit("lazy_user", "request.user", "whoami", "allowed", kind="blocking_orm") * 2,
    ),
    Case(
        "default_resolver",
        "A default resolver blocks the loop.",
        gql('{ film(title: "Stalker") { director { name } } }'),
        seen=({"film": {"director": {"name": "Tarkovsky"}}},),
        told=hit(
            "forward_relation",
            DIRECTOR,
            "film_director",
            "allowed",
            kind="blocking_orm",
            on_stack=False,
        ),
    ),
]


@pytest.mark.parametrize("case", params(ALLOWED))
async def test_allowed(case, programme, monkeypatch):
    """
    Where DJANGO_ALLOW_ASYNC_UNSAFE lets a query pass, the hit says how long the loop was blocked.
    """
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

    with capture_hits() as hits:
        seen = await answer(case)
    await collect_what_was_left_open()

    assert seen == case.seen
    assert told(hits) == case.told
    assert all(each.duration_ms > 0 for each in hits)


# --- allowed, but a query for every row -------------------------------------------------------

LOADS = [
    Case(
        "strawberry_django_field",
        "The field's thread loads the director of every film.",
        gql("{ films { lazyDirectorName } }", path="/graphql/django/"),
        seen=None,
        told=hit("forward_relation", DIRECTOR, "lazy_director_name", "allowed", kind="n_plus_one"),
    ),
    Case(
        "sync_view",
        "A sync view loads the director of every film.",
        http("/sync-listing/"),
        seen=None,
        told=hit("forward_relation", DIRECTOR, "sync_listing", "allowed", kind="n_plus_one"),
    ),
    Case(
        "sync_to_async",
        "A function in a worker thread loads the director of every film.",
        tasks.directors_in_thread,
        seen=None,
        told=hit("forward_relation", DIRECTOR, "directors_in_thread", "allowed", kind="n_plus_one"),
    ),
]


async def add_films(count):
    for number in range(count):
        director = await Director.objects.acreate(name=f"Director {number}")
        await Film.objects.acreate(title=f"Film {number}", director=director)


@pytest.mark.parametrize("total", [5, 8])
@pytest.mark.parametrize("case", params(LOADS))
async def test_loads(case, total, programme):
    """
    Many loads of one relation from one line in one operation are one hit with their number.
    """
    await add_films(total - 2)

    with capture_hits() as hits:
        await answer(case)

    assert told(hits) == case.told
    assert [each.count for each in hits] == [total]


@pytest.mark.parametrize("case", params(LOADS))
async def test_few_loads(case, programme):
    """
    Below the threshold lazy loads in a thread are nobody's business.
    """
    await add_films(2)

    with capture_hits() as hits:
        await answer(case)

    assert hits == []
