"""What a summary says of hits that were only counted."""

import pytest
from django.test import override_settings

import async_guard
from tests.delivery.process import read_events
from tests.integrations.driving import execute, post
from tests.testapp.django_schema import django_schema

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.usefixtures("films"),
    pytest.mark.urls("tests.urls"),
]


async def test_advice_of_what_was_logged(tmp_path):
    """
    A summary gives the rule and the advice of the hit that was logged, of which more was known.
    """
    path = tmp_path / "hits.jsonl"
    with override_settings(ASYNC_GUARD={"LOG_FILE": path, "BURST": 1}), async_guard.guarded():
        for _ in range(2):
            await execute(django_schema, "{ films { directorName } }")
        assert async_guard.flush()

    hit, summary = read_events(path)
    assert (hit["event"], summary["event"]) == ("async_guard.hit", "async_guard.summary")
    assert hit["async_guard.rule"] == "AG102"
    for key in ("async_guard.rule", "async_guard.advice", "async_guard.docs"):
        assert summary[key] == hit[key]


@pytest.mark.parametrize("more", [{}, {"EXPOSE_IN_RESPONSE": "force"}], ids=["alone", "exposed"])
async def test_names_no_operation(tmp_path, more):
    """
    A summary stands for many hits, so it names neither an operation nor a field nor a request.
    """
    path = tmp_path / "hits.jsonl"
    changed = override_settings(ASYNC_GUARD={"LOG_FILE": path, "BURST": 1, **more})
    with changed, async_guard.guarded():
        for _ in range(2):
            await post("/graphql/django/", "{ films { directorName } }")
        assert async_guard.flush()

    hit, summary = read_events(path)
    assert hit["message"].startswith("Film.directorName read Film.director while")
    assert summary["message"].startswith("Film.director_name read Film.director while")
    assert sorted(hit.keys() - summary.keys()) == [
        "async_guard.frames",
        "async_guard.graphql.field",
        "async_guard.graphql.parent",
        "async_guard.graphql.path",
        "async_guard.graphql.plain_field_on_django_type",
        "async_guard.graphql.resolver",
        "async_guard.hit_id",
        "async_guard.view",
        "graphql.operation.type",
        "http.request.method",
        "http.route",
    ]
