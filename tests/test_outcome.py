"""How a refused access ended is read from where its exception came to rest."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import exceptions
from django.core.exceptions import SynchronousOnlyOperation

from async_guard.testing import capture_hits


def hit() -> None:
    User.objects.count()


# --- code that catches, as projects write it ------------------------------------------------


async def except_exception():
    try:
        hit()
    except Exception:
        return


async def except_as_in_a_tuple():
    try:
        return hit()
    except (ValueError, Exception) as error:
        return str(error)


async def bare_except():
    try:
        hit()
    except:  # noqa: E722
        pass


async def by_name():
    try:
        hit()
    except SynchronousOnlyOperation:
        pass


async def by_name_of_a_module():
    try:
        hit()
    except ValueError:
        pass
    except exceptions.SynchronousOnlyOperation as error:
        return error.args


async def by_name_in_a_variable():
    wanted = (ValueError, SynchronousOnlyOperation)
    try:
        hit()
    except wanted:
        pass


async def outer_of_two():
    try:
        try:
            hit()
        except ValueError:
            pass
        finally:
            ""
    except Exception:
        pass


async def reraised_then_swallowed():
    def inner():
        try:
            hit()
        except SynchronousOnlyOperation:
            raise

    try:
        inner()
    except Exception:
        pass


async def reraised_then_handled():
    def inner():
        try:
            hit()
        except Exception as error:
            raise error

    try:
        inner()
    except SynchronousOnlyOperation:
        pass


async def suppress_by_name():
    with contextlib.suppress(SynchronousOnlyOperation):
        hit()


async def suppress_exception():
    with contextlib.suppress(Exception):
        hit()


async def pytest_raises():
    with pytest.raises(SynchronousOnlyOperation):
        hit()


async def through_a_with_block():
    def inner():
        with contextlib.nullcontext():
            hit()

    try:
        inner()
    except SynchronousOnlyOperation:
        pass


async def in_a_with_block():
    try:
        with contextlib.nullcontext():
            hit()
    except Exception:
        pass


async def in_an_async_with_block():
    try:
        async with contextlib.AsyncExitStack():
            hit()
    except Exception:
        pass


async def in_a_log_call():
    class Lazy:
        def __str__(self):
            return str(hit())

    logger = logging.getLogger("tests.outcome")
    logger.propagate = False
    logger.addHandler(handler := logging.StreamHandler())
    logger.warning("%s", Lazy())
    logger.removeHandler(handler)


async def in_a_loop():
    for _ in range(1):
        try:
            hit()
        except Exception:
            continue


async def kept():
    errors = []
    for number in range(2):
        try:
            if number == 0:
                hit()
        except Exception as error:
            errors.append(error)


async def converted():
    try:
        try:
            hit()
        except Exception as error:
            raise ValueError from error
    except ValueError:
        pass


async def return_in_finally():
    try:
        hit()
    finally:
        return 1  # noqa: B012


async def group_by_name():
    try:
        hit()
    except* SynchronousOnlyOperation:
        pass


async def group():
    try:
        hit()
    except* Exception:
        pass


async def _in_a_stack():
    async with contextlib.AsyncExitStack():
        hit()


async def gathered():
    await asyncio.gather(_in_a_stack(), return_exceptions=True)


async def loop_callback():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *args: None)
    loop.call_soon(hit)
    await asyncio.sleep(0.01)


async def still_handling_while_it_awaits():
    try:
        hit()
    except SynchronousOnlyOperation:
        await asyncio.sleep(0.01)


async def awaited_task():
    with contextlib.suppress(SynchronousOnlyOperation):
        await asyncio.create_task(_in_a_stack())


async def not_caught():
    hit()


async def not_caught_past_finally():
    try:
        hit()
    finally:
        await asyncio.sleep(0)


SWALLOWED = [
    except_exception,
    except_as_in_a_tuple,
    bare_except,
    outer_of_two,
    reraised_then_swallowed,
    suppress_exception,
    in_a_with_block,
    in_an_async_with_block,
    in_a_log_call,
    in_a_loop,
    kept,
    converted,
    return_in_finally,
    group,
    gathered,
    loop_callback,
]
HANDLED = [
    by_name,
    by_name_of_a_module,
    by_name_in_a_variable,
    reraised_then_handled,
    suppress_by_name,
    through_a_with_block,
    group_by_name,
    still_handling_while_it_awaits,
]
RAISED = [pytest_raises, awaited_task, not_caught, not_caught_past_finally]


@pytest.mark.filterwarnings("ignore:'return' in a 'finally' block:SyntaxWarning")
@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        *((code, "swallowed") for code in SWALLOWED),
        *((code, "handled") for code in HANDLED),
        *((code, "raised") for code in RAISED),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_outcome(code: Callable[[], Any], outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The outcome is told from the code that caught the exception, whoever that was.
    """
    monkeypatch.setattr(logging, "raiseExceptions", False)

    with capture_hits() as hits, contextlib.suppress(SynchronousOnlyOperation):
        asyncio.run(code())

    assert [each.outcome for each in hits] == [outcome]


def test_flush_while_it_is_handled():
    """
    A hit whose exception lives on is told when somebody asks for it.
    """
    import async_guard

    async def code() -> list[str]:
        try:
            hit()
        except Exception as error:
            kept = error
        async_guard.flush()
        assert kept
        return [each.outcome for each in hits]

    with capture_hits() as hits:
        told = asyncio.run(code())

    assert told == ["swallowed"]
