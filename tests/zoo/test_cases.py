"""
What projects do in async code, a case each: the client's answer and the hit that it leaves.

Where the access is marked in ``tests/testapp`` with ``<- the access [tag]``, there the hit must
point.
"""

from contextlib import nullcontext

import pytest

from async_guard.testing import capture_hits
from tests.testapp import tasks
from tests.testapp.schema import schema
from tests.zoo.case import Case, answer, asgi, gql, hit, http, params, subscription, told

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
]

REFUSED = "SynchronousOnlyOperation"
DIRECTOR = "testapp.Film.director"
GRAPHQL = [
    Case(
        "default_resolver_follows_a_foreign_key",
        "A field without a resolver is named by its annotation.",
        gql('{ film(title: "Stalker") { title director { name } } }'),
        seen=({"film": None}, "film.director"),
        told=hit("forward_relation", DIRECTOR, "film_director", on_stack=False),
    ),
    Case(
        "async_resolver_follows_a_foreign_key",
        "A lazy relation in an async resolver is named by its line.",
        gql('{ film(title: "Stalker") { directorName } }'),
        seen=({"film": None}, "film.directorName"),
        told=hit("forward_relation", DIRECTOR, "director_name"),
    ),
    Case(
        "default_resolver_returns_a_manager",
        "A related manager is no list: GraphQL cannot iterate it.",
        gql('{ director(name: "Tati") { films { title } } }'),
        seen=({"director": None}, "director.films"),
        told=hit(
            "related_manager",
            "testapp.Director.films",
            "director_films",
            kind="async_protocol",
            on_stack=False,
        ),
        later="async_protocol is not watched yet",
    ),
    Case(
        "hasattr_on_a_reverse_one_to_one",
        "hasattr() asks the database and lets its refusal through.",
        gql('{ member(username: "ada") { motto } }'),
        seen=({"member": {"motto": None}}, "member.motto"),
        told=hit("reverse_one_to_one", "auth.User.membership", "motto"),
    ),
    Case(
        "cached_property_aggregates",
        "The property of the model is named, not the resolver that reads it.",
        gql('{ film(title: "Stalker") { stars } }'),
        seen=({"film": {"stars": None}}, "film.stars"),
        told=hit("related_manager", "testapp.Film.reviews", "average_stars"),
    ),
    Case(
        "service_three_calls_below_the_resolver",
        "The innermost line of the project is named.",
        gql('{ film(title: "Stalker") { memberPrice } }'),
        seen=({"film": None}, "film.memberPrice"),
        told=hit("forward_relation", DIRECTOR, "studio_of"),
    ),
    Case(
        "log_call_renders_the_lazy_user",
        "Logging request.user loads it, in the middle of the log call.",
        gql("{ logMe }", user="ada"),
        seen=({"logMe": None}, "logMe"),
        told=hit("lazy_user", "request.user", "log_me"),
    ),
    Case(
        "deferred_column_of_a_foreign_key",
        "A column that only() left out is read one by one.",
        gql('{ film(title: "Stalker", slim: true) { directorKey } }'),
        seen=({"film": None}, "film.directorKey"),
        told=hit("deferred_field", "testapp.Film.director_id", "director_key"),
    ),
    Case(
        "permission_evaluates_the_lazy_user",
        "A sync permission fails for who is logged in.",
        gql("{ takings }", user="ada"),
        seen=({"takings": None}, "takings"),
        told=hit("lazy_user", "request.user", "is_staff"),
    ),
    Case(
        "permission_lets_strangers_through",
        "The same permission works for who has no session.",
        gql("{ takings }"),
        seen=({"takings": None}, "takings"),
    ),
    Case(
        "permission_denies_on_any_exception",
        "A permission that catches everything turns away a member.",
        gql("{ membersNews }", user="ada"),
        seen=({"membersNews": None}, "membersNews"),
        told=hit("lazy_user", "request.user", "has_membership", "swallowed"),
    ),
    Case(
        "subscription_step",
        "A subscription breaks in the middle.",
        subscription(schema, "subscription { reviewFeed }"),
        seen=[({"reviewFeed": "start"},), (None, "?")],
        told=hit("forward_relation", "testapp.Review.film", "review_feed"),
    ),
    Case(
        "default_resolver_of_a_subscription",
        "A field below a subscription is named by its annotation.",
        subscription(schema, "subscription { reviews { text film { title } } }"),
        seen=[(None, "reviews.film")],
        told=hit("forward_relation", "testapp.Review.film", "review_film", on_stack=False),
    ),
    Case(
        "atomic_in_an_async_mutation",
        "A transaction does not start in async code.",
        gql('mutation { rename(title: "Stalker", to: "The Zone") }'),
        seen=({"rename": None}, "rename"),
        told=hit("transaction", None, "rename"),
    ),
    Case(
        "mutation_fails_after_its_side_effects",
        "The mutation has written and charged when the service reads lazily.",
        gql('mutation { checkOut(title: "Stalker", username: "ada") { number } }'),
        seen=({"checkOut": None}, "checkOut"),
        told=hit("queryset", None, "booking_total"),
    ),
    Case(
        "save_in_an_async_mutation",
        "save() has an async twin.",
        gql('mutation { addReview(data: {film: "Playtime", user: "ada"}) }'),
        seen=({"addReview": None}, "addReview"),
        told=hit("instance_write", None, "add_review"),
    ),
    Case(
        "send_robust_hides_a_receiver",
        "A signal that is sent robustly loses the log entry without a word.",
        gql('{ view(title: "Stalker") }'),
        seen=({"view": "Stalker"},),
        told=hit("queryset", None, "log_view", "swallowed"),
    ),
    Case(
        "is_type_of_reads_a_relation",
        "Finding the type of a union's member may ask the database.",
        gql("{ publications { ... on PrintType { title } ... on RestorationType { year } } }"),
        seen=(None, "publications.0"),
        told=hit("reverse_one_to_one", "testapp.Film.restoration", "is_type_of"),
    ),
    Case(
        "scalar_serialises_a_relation",
        "A scalar's serialiser runs after the resolver.",
        gql('{ label(title: "Stalker") }'),
        seen=({"label": None}, "label"),
        told=hit("forward_relation", DIRECTOR, "label"),
    ),
    Case(
        "masked_error",
        "MaskErrors hides the refusal from the client and from the team.",
        gql('{ film(title: "Stalker") { director { name } } }', path="/graphql/masked/"),
        seen=({"film": None}, "film.director"),
        told=hit("forward_relation", DIRECTOR, "film_director", "swallowed", on_stack=False),
    ),
]
DJANGO_TYPES = [
    Case(
        "optimizer_defers_a_column",
        "The optimizer fetched what the query names; an async field needs one column more.",
        gql("{ films { strandKey } }", path="/graphql/django/"),
        seen=(
            {"films": [{"strandKey": None}, {"strandKey": None}]},
            "films.0.strandKey",
            "films.1.strandKey",
        ),
        told=hit("deferred_field", "testapp.Film.strand_id", "strand_key") * 2,
    ),
    Case(
        "plain_field_on_a_django_type",
        "strawberry.field on a strawberry_django type runs on the loop.",
        gql("{ films { directorName } }", path="/graphql/django/"),
        seen=(None, "films.0.directorName"),
        told=hit("forward_relation", DIRECTOR, "plain_field_director"),
    ),
]
VIEWS = [
    Case(
        "view_reads_the_lazy_user",
        "request.user is loaded by its first attribute.",
        http("/whoami/", user="ada"),
        seen=REFUSED,
        told=hit("lazy_user", "request.user", "whoami"),
    ),
    Case(
        "view_reads_the_session",
        "A session in the database is loaded by its first key.",
        http("/basket/", user="ada"),
        seen=REFUSED,
        told=hit("session", "request.session", "basket"),
    ),
    Case(
        "template_iterates_a_queryset",
        "The tag of the template is named, not the view that renders it.",
        http("/films/"),
        seen=REFUSED,
        told=hit("queryset", None, "listing", on_stack=False),
    ),
    Case(
        "template_if_takes_the_other_branch",
        "An {% if %} swallows the refusal and takes its else branch.",
        http("/films/Stalker/"),
        seen=(200, "<h1>Stalker</h1>\nread only"),
        told=hit("forward_relation", "testapp.Film.curator", "page", "swallowed", on_stack=False),
    ),
    Case(
        "stream_breaks_after_its_header",
        "A streaming response fails when its status has long been sent.",
        asgi("/export/"),
        seen=[200, b"title,director\n", REFUSED],
        told=hit("forward_relation", DIRECTOR, "export"),
    ),
    Case(
        "stream_from_a_sync_generator",
        "Under ASGI, Django buffers all of a sync generator.",
        asgi("/sync-export/"),
        seen=[200, b"Stalker\n", b"Playtime\n"],
        told=hit("io", None, "sync_export", "allowed", kind="blocking_call"),
        later="blocking_call is not watched yet",
    ),
    Case(
        "model_to_dict_reads_many_to_many",
        "model_to_dict() evaluates every many-to-many field.",
        http("/films/Stalker/dict/"),
        seen=REFUSED,
        told=hit("many_to_many", "testapp.Film.genres", "as_dict"),
    ),
    Case(
        "file_is_saved_before_the_model",
        "The upload is on disk when the row that names it is refused.",
        http("/upload-photo/"),
        seen=REFUSED,
        told=hit("instance_write", None, "upload_photo"),
    ),
    Case(
        "database_cache",
        "A cache in the database is a query.",
        http("/cached-count/"),
        seen=REFUSED,
        told=hit("cache", None, "cached_count"),
    ),
    Case(
        "mail_is_sent_on_the_loop",
        "A slow mail server stops every other request.",
        http("/mail/"),
        seen=(200, "sent"),
        told=hit("io", None, "mail", "allowed", kind="blocking_call"),
        later="blocking_call is not watched yet",
    ),
    Case(
        "form_validates_a_model_choice",
        "is_valid() asks the database for the chosen object.",
        http("/review-form/"),
        seen=REFUSED,
        told=hit("queryset", None, "review_form"),
    ),
    Case(
        "response_schema_reads_many_to_many",
        "Pydantic hides the refusal in a ValidationError.",
        http("/ninja/films"),
        seen="ValidationError",
        told=hit("many_to_many", "testapp.Film.genres", "ninja_films", "swallowed", on_stack=False)
        * 2,
    ),
]
TASKS = [
    Case(
        "gather_of_queries_is_serial",
        "Five queries at once run one after the other in one thread.",
        tasks.five_at_once,
        seen=5,
        told=hit("queryset", None, "five_at_once", "allowed", kind="blocking_call"),
        later="queries that wait for each other are not watched yet",
    ),
    Case(
        "transaction_held_across_an_await",
        "Tasks that share a connection share its transaction.",
        tasks.interleaved_transactions,
        seen=[],
        told=hit(
            "transaction",
            None,
            "interleaved_transactions",
            "allowed",
            kind="transaction_across_await",
        ),
        later="transaction_across_await is not watched yet",
    ),
    Case(
        "library_writes_a_row",
        "A token library writes to its own tables.",
        tasks.issue_token,
        seen=REFUSED,
        told=hit("queryset", None, "issue_token"),
    ),
    Case(
        "async_generator_as_a_context_manager",
        "An async generator needs asynccontextmanager.",
        tasks.count_in_session,
        seen="TypeError",
        told=hit("coroutine", None, "count_in_session", kind="async_protocol"),
        later="async_protocol is not watched yet",
    ),
    Case(
        "sync_to_async_of_a_coroutine_function",
        "sync_to_async() takes sync functions only.",
        tasks.count_in_thread,
        seen="TypeError",
        told=hit("coroutine", None, "count_in_thread", kind="async_protocol"),
        later="async_protocol is not watched yet",
    ),
    Case(
        "coroutine_is_never_awaited",
        "A save without await is lost.",
        tasks.save_without_await,
        seen=0,
        told=hit("coroutine", None, "save_without_await", "allowed", kind="unawaited_coroutine"),
        later="unawaited_coroutine is not watched yet",
    ),
    Case(
        "callback_of_the_loop",
        "The loop logs what its callback raised and goes on.",
        tasks.count_later,
        seen=[],
        told=hit("queryset", None, "count_later", "swallowed"),
    ),
]
CONTROLS = [
    Case(
        "select_related_is_fine",
        "What was joined or prefetched is read without a query.",
        gql(
            '{ film(title: "Stalker", joined: true)'
            " { title director { name studio { name } } directorName genreNames } }"
        ),
        seen=(
            {
                "film": {
                    "title": "Stalker",
                    "director": {"name": "Tarkovsky", "studio": {"name": "Mosfilm"}},
                    "directorName": "Tarkovsky",
                    "genreNames": ["Drama"],
                }
            },
        ),
    ),
    Case(
        "evaluation_in_a_thread_is_fine",
        "A queryset that a worker thread evaluated is a list.",
        gql("{ filmsWithReviews { title reviewTexts } }"),
        seen=(
            {
                "filmsWithReviews": [
                    {"title": "Stalker", "reviewTexts": ["long"]},
                    {"title": "Playtime", "reviewTexts": []},
                ]
            },
        ),
    ),
    Case(
        "strawberry_django_field_is_fine",
        "strawberry_django runs its fields in threads and joins what they name.",
        gql(
            "{ films { title joinedDirectorName director { studio { name } } } }",
            path="/graphql/django/",
        ),
        seen=(
            {
                "films": [
                    {
                        "title": "Stalker",
                        "joinedDirectorName": "Tarkovsky",
                        "director": {"studio": {"name": "Mosfilm"}},
                    },
                    {
                        "title": "Playtime",
                        "joinedDirectorName": "Tati",
                        "director": {"studio": None},
                    },
                ]
            },
        ),
    ),
    Case(
        "sync_view_is_fine",
        "Under ASGI, a sync view runs in a thread.",
        http("/films/Stalker/sync/"),
        seen=(200, "Stalker by Tarkovsky"),
    ),
    Case(
        "plain_thread_is_fine",
        "asyncio.to_thread() leaves the loop.",
        tasks.first_director_in_thread,
        seen="Tarkovsky",
    ),
    Case(
        "resolver_without_queries_is_fine",
        "A resolver that asks nobody is not even looked at.",
        gql("{ openingHours }"),
        seen=({"openingHours": "18:00 to 24:00"},),
    ),
]
CASES = GRAPHQL + DJANGO_TYPES + VIEWS + TASKS + CONTROLS


@pytest.mark.parametrize("case", params(CASES))
async def test_hit(case, programme):
    """
    Every case leaves exactly the hit that it describes, and a control leaves none.
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


async def test_queryset_behind_a_connection(programme):
    """
    A queryset that GraphQL iterates is a hit where Django refuses it, and none where it works.
    """
    case = Case("", "", gql("{ filmNodes(first: 1) { edges { node { title } } } }"), seen=None)

    with capture_hits() as hits:
        data, *errors = await answer(case)

    if errors:
        assert told(hits) == hit("queryset", None, "film_nodes", on_stack=False)
    else:
        assert data == {"filmNodes": {"edges": [{"node": {"title": "Stalker"}}]}}
        assert hits == []
