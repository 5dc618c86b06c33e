"""What is read from Django's frames."""

import sys
from types import FrameType
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType

from async_guard.access import Access, of_queryset, read_key
from tests.testapp.models import Film, Note


def frame_of(self: Any, instance: Any = None) -> FrameType:
    return sys._getframe()


@pytest.mark.parametrize("name", ["model", "field", "related"])
def test_attributes_of_a_row_are_left_alone(name, monkeypatch):
    """
    A column or a relation may have any name: to look at it would be an access of its own.
    """
    monkeypatch.setattr(Film, name, property(lambda film: pytest.fail("loaded")), raising=False)

    key = read_key(frame_of(Film()), None, None)

    assert key == (id(frame_of.__code__), None, None, id(Film))


def test_a_row_is_not_asked_whether_it_is_true(monkeypatch):
    """
    ``__bool__`` and ``__len__`` of a model may count rows.
    """
    monkeypatch.setattr(Film, "__len__", lambda film: pytest.fail("counted"), raising=False)

    key = read_key(frame_of(object(), Film()), None, None)

    of = id(Film), id(object), id(None), id(None)
    assert key == (id(frame_of.__code__), None, None, *of)


def test_several_content_types_are_no_relation(monkeypatch):
    """
    ``content_type__in`` filters by a list, which no cache has as a key.
    """
    monkeypatch.setattr(ContentType.objects, "_cache", {"default": {1: ContentType()}})
    notes = Note.objects.filter(content_type__in=[1, 2])

    access = of_queryset(notes, "iterate")

    assert access == Access("queryset", model="testapp.Note", operation="iterate")
