"""The real-life cases of the zoo, under both retries: the right answer, once, and told."""

import asyncio

import pytest

from async_guard import guarded, retrying
from async_guard.testing import capture_hits
from tests.testapp import services
from tests.testapp.models import Booking, LogEntry, Review
from tests.zoo import conftest as zoo
from tests.zoo import test_cases
from tests.zoo.case import Case, answer

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
]
programme = zoo.programme
CASES = {
    case.id: case
    for cases in vars(test_cases).values()
    if isinstance(cases, list)
    for case in cases
    if isinstance(case, Case)
}
BOTH = {
    "default_resolver_follows_a_foreign_key": (
        {"film": {"title": "Stalker", "director": {"name": "Tarkovsky"}}},
    ),
    "default_resolver_returns_a_manager": ({"director": {"films": [{"title": "Playtime"}]}},),
    "permission_evaluates_the_lazy_user": ({"takings": 100},),
    "permission_denies_on_any_exception": ({"membersNews": "Free popcorn"},),
    "default_resolver_of_a_subscription": [
        ({"reviews": {"text": "long", "film": {"title": "Stalker"}}},)
    ],
    "masked_error": ({"film": {"director": {"name": "Tarkovsky"}}},),
    "plain_field_on_a_django_type": (
        {"films": [{"directorName": "Tarkovsky"}, {"directorName": "Tati"}]},
    ),
}
RESUMED = {
    "async_resolver_follows_a_foreign_key": ({"film": {"directorName": "Tarkovsky"}},),
    "hasattr_on_a_reverse_one_to_one": ({"member": {"motto": "In the dark"}},),
    "cached_property_aggregates": ({"film": {"stars": 5.0}},),
    "service_three_calls_below_the_resolver": ({"film": {"memberPrice": 8.0}},),
    "log_call_renders_the_lazy_user": ({"logMe": "logged"},),
    "subscription_step": [({"reviewFeed": "start"},), ({"reviewFeed": "Stalker: long"},)],
    "mutation_fails_after_its_side_effects": ({"checkOut": {"number": "B-1"}},),
    "save_in_an_async_mutation": ({"addReview": "fine"},),
    "send_robust_hides_a_receiver": ({"view": "Stalker"},),
    "scalar_serialises_a_relation": ({"label": "Stalker (Tarkovsky)"},),
    "view_reads_the_lazy_user": (200, '{"staff": true}'),
    "view_reads_the_session": (200, '{"basket": []}'),
    "template_iterates_a_queryset": (
        200,
        "<ul>\n\n<li>Stalker</li>\n\n<li>Playtime</li>\n\n</ul>",
    ),
    "template_if_takes_the_other_branch": (200, '<h1>Stalker</h1>\n<a href="edit">edit</a>'),
    "stream_breaks_after_its_header": [
        200,
        b"title,director\n",
        b"Stalker,Tarkovsky\n",
        b"Playtime,Tati\n",
    ],
    "model_to_dict_reads_many_to_many": (200, '{"genres": 1}'),
    "database_cache": (200, '{"count": null}'),
    "response_schema_reads_many_to_many": (
        200,
        '[{"title": "Stalker", "genres": [{"name": "Drama"}]}, '
        '{"title": "Playtime", "genres": []}]',
    ),
}
SILENT = [name for name in CASES if name.endswith("_is_fine")]


async def healed(case, mode):
    with capture_hits() as hits, retrying(mode):
        found = await asyncio.wait_for(answer(case), 20)
    return found, {hit.outcome for hit in hits}


@pytest.mark.parametrize(
    ("mode", "name", "seen"),
    [
        *(("rerun", *row) for row in BOTH.items()),
        *(("resume", *row) for row in (BOTH | RESUMED).items()),
    ],
)
async def test_healed(mode, name, seen, programme):
    """
    The case gives the answer that was meant, and the log says that it was retried.
    """
    assert await healed(CASES[name], mode) == (seen, {"retried"})


@pytest.mark.parametrize("name", [name for name in RESUMED if name != "masked_error"])
async def test_beyond_rerun(name, programme):
    """
    Asynchronous code is not run again: the case is what it is without a retry.
    """
    found, outcomes = await healed(CASES[name], "rerun")

    assert found == CASES[name].seen
    assert "retried" not in outcomes


@pytest.mark.parametrize("mode", ["rerun", "resume"])
@pytest.mark.parametrize("name", SILENT)
async def test_silent(mode, name, programme):
    """
    What was fine stays as it is, and leaves no hit.
    """
    assert await healed(CASES[name], mode) == (CASES[name].seen, set())


async def test_side_effects_happen_once(programme):
    """
    A mutation that charges, writes and then hits does each of it once.
    """
    await healed(CASES["mutation_fails_after_its_side_effects"], "resume")
    await healed(CASES["save_in_an_async_mutation"], "resume")
    await healed(CASES["send_robust_hides_a_receiver"], "resume")

    assert len(services.CHARGED) == 1
    assert await Booking.objects.filter(number="B-1").acount() == 1
    assert await Review.objects.filter(text="fine").acount() == 1
    assert await LogEntry.objects.acount() == 1


async def test_library_in_a_guarded_task(programme):
    """
    A task that calls a library is healed when it is guarded.
    """
    case = CASES["library_writes_a_row"]
    guarded_case = Case(case.id, case.promise, guarded(case.drive), seen=None)

    found, outcomes = await healed(guarded_case, "resume")

    assert found != case.seen
    assert outcomes == {"retried"}
