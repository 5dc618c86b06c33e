"""
What Django's ``runtests.py`` runs the tests with: it drives their bodies and records their ends.

A body runs in an event loop under ``resume``; its fixtures, and so the transaction of a
``TestCase``, stay in the main thread. ``async_to_sync`` makes that thread the worker.
"""

import faulthandler
import inspect
import json
import logging
import os
import traceback
import unittest
from asyncio import _get_running_loop
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from asgiref.sync import AsyncToSync, async_to_sync
from django.db import connections
from django.test.runner import DiscoverRunner
from django.test.utils import iter_test_cases

import async_guard
from async_guard.retry.resume import driven
from tests.django_suite.record import BEGAN, FAILED, GUARD, PASSED, SKIPPED, SUMMARY

RECORDS = Path(os.environ["DJANGO_SUITE_RECORDS"])
LEFT_OUT = Path(os.environ["DJANGO_SUITE_LEFT_OUT"])
TEST_TIMEOUT_S = 300
"""After this a test hangs: its process says where, and ends."""


class Runner(DiscoverRunner):
    """Django's own runner, told by the environment what to drive, to leave out and to record."""

    def get_resultclass(self) -> Any:
        return Recorder

    def build_suite(self, *args: Any, **kwargs: Any) -> Any:
        suite = super().build_suite(*args, **kwargs)
        left_out = set(json.loads(LEFT_OUT.read_text("utf-8")))
        tests = [each for each in iter_test_cases(suite) if each.id() not in left_out]
        return self.test_suite(tests)

    def run_suite(self, suite: Any, **kwargs: Any) -> Any:
        if os.environ.get("DJANGO_SUITE_PLAIN"):
            result = super().run_suite(suite, **kwargs)
            write(outcome=SUMMARY, totals={})
            return result
        logging.getLogger("async_guard").addFilter(silence)
        with async_guard.retrying("resume"), driven_bodies():
            result = super().run_suite(suite, **kwargs)
            async_guard.flush()
            write(outcome=SUMMARY, totals=async_guard.totals())
        return result


@contextmanager
def driven_bodies() -> Iterator[None]:
    """Have every test's body run in an event loop until the block ends."""
    in_loop(lambda: [connections[alias].vendor for alias in connections])
    call = driving(vars(unittest.TestCase)["_callTestMethod"])
    with mock.patch.object(unittest.TestCase, "_callTestMethod", call):
        yield


def driving(call_test_method: Callable[..., None]) -> Callable[..., None]:
    def drive_test_method(test: unittest.TestCase, method: Callable[[], Any]) -> None:
        if _get_running_loop() is not None:  # a test that runs tests
            call_test_method(test, method)
        else:
            call_test_method(test, lambda: in_loop(method))

    return drive_test_method


def in_loop(body: Callable[[], Any]) -> Any:
    """Return what a test returns that is run in a loop; an asynchronous one brings a loop."""
    bridge = bridge_of(body)
    if bridge is None:
        return async_to_sync(driven_call)(body)
    awaitable = bridge.awaitable

    async def call(*args: Any) -> Any:
        return await driven(awaitable(*args))

    with mock.patch.object(bridge, "awaitable", call):
        return body()


async def driven_call(body: Callable[[], Any]) -> Any:
    """Return what a synchronous function returns; its calls may wait."""

    async def call() -> Any:
        return body()

    return await driven(call())


def bridge_of(body: Any) -> Any:
    """Return the ``async_to_sync`` that a test is decorated with, maybe below other decorators."""
    found = inspect.unwrap(body, stop=lambda each: isinstance(each, partial | AsyncToSync))
    if isinstance(found, partial):  # what it becomes as a method
        found = getattr(found.func, "__self__", None)
    return found if isinstance(found, AsyncToSync) else None


class Recorder(unittest.TextTestResult):
    """Writes down how each test ended, as it ends: a process may not live to tell."""

    def startTest(self, test: Any) -> None:
        write(test=test.id(), outcome=BEGAN)
        faulthandler.dump_traceback_later(TEST_TIMEOUT_S, exit=True)
        super().startTest(test)

    def stopTest(self, test: Any) -> None:
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)

    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        write(test=test.id(), outcome=PASSED)

    def addExpectedFailure(self, test: Any, error: Any) -> None:
        super().addExpectedFailure(test, error)
        write(test=test.id(), outcome=PASSED)

    def addUnexpectedSuccess(self, test: Any) -> None:
        super().addUnexpectedSuccess(test)
        write(test=test.id(), outcome=FAILED, error="It passed, which Django does not expect.")

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        write(test=test.id(), outcome=SKIPPED, error=reason)

    def addFailure(self, test: Any, error: Any) -> None:
        super().addFailure(test, error)
        write(test=test.id(), outcome=FAILED, error=last_line(error))

    def addError(self, test: Any, error: Any) -> None:
        super().addError(test, error)
        write(test=test.id(), outcome=FAILED, error=last_line(error))

    def addSubTest(self, test: Any, subtest: Any, error: Any) -> None:
        super().addSubTest(test, subtest, error)
        if error is not None:
            write(test=test.id(), outcome=FAILED, error=last_line(error))


def silence(record: logging.LogRecord) -> bool:
    """Drop what async_guard logs; an error of its own is one more failure."""
    if str(record.msg).startswith("async_guard could not"):
        write(test=GUARD, outcome=FAILED, error=record.getMessage())
    return False


def last_line(error: Any) -> str:
    return traceback.format_exception_only(*error[:2])[-1].strip()


def write(**record: Any) -> None:
    with RECORDS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
