"""
Watches Django's async-unsafe calls, and costs nothing where there is none to see.

Django refuses in one function, ``django.utils.asyncio.async_unsafe``, whose wrapper does three
things when an event loop runs: it finds the loop, looks into ``os.environ`` whether the project
allows the call all the same, and if not creates a ``SynchronousOnlyOperation``. Everything
before the second step is also done by harmless calls, so nothing there is touched. The seams are

* the name ``os`` in that module: read only when a loop runs, so an *allowed* access is seen;
* ``SynchronousOnlyOperation.__init__`` and ``__del__``: every refusal is an object of this class,
  whoever catches it. Its birth is the hit; its death says where it came to rest, because its
  traceback then ends in the frame that caught it;
* ``asgiref.sync.AsyncToSync.__call__``, which refuses in the same situation;
* ``ModelIterable.__iter__``, which runs when rows of a model are really fetched, never for a
  cached relation: the miss path of every related descriptor, in Django with and without fetch
  modes; and ``ContentType.get_object_for_this_type``, that of generic foreign keys;
* ``ExceptionReporter.get_traceback_data``, only to look away: for Django's error page and its mails
  to the admins it prints every variable on the stack, and what that loads nobody wrote.

A seam that Django removed takes the others with it: half a probe would report half the truth.
"""

from __future__ import annotations

import functools
import warnings
from asyncio import _get_running_loop
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Protocol

import asgiref.sync
import django.utils.asyncio
from django.core.exceptions import SynchronousOnlyOperation

from async_guard.access import filters_by_content_type
from async_guard.deaf import Deafness
from async_guard.errors import SeamMissing

ALLOW = "DJANGO_ALLOW_ASYNC_UNSAFE"
MISSING = object()


class Seam(NamedTuple):
    """One attribute that the probe replaces."""

    owner: Any
    name: str
    wrap: Callable[[Any], Any]
    """Makes the replacement from the original; from None where an optional one is not there."""
    optional: bool = False


class Listener(Protocol):
    """What the probe reports to. None of these may raise: they run inside other people's code."""

    def refused(self, error: BaseException) -> None:
        """*error* was just created: an access that Django or asgiref refuses."""

    def died(self, error: BaseException) -> None:
        """*error* is about to be freed; its traceback is still there."""

    def allowed(self) -> None:
        """An async-unsafe call is about to block the loop, as the project allows."""

    def loaded(self, queryset: Any) -> None:
        """Rows were fetched on behalf of an instance, in a thread without a running loop."""


def found(owner: Any, name: str) -> Any:
    """Return what *owner*, a module or a class, has or inherits; a metaclass does not count."""
    for each in getattr(owner, "__mro__", (owner,)):
        if name in vars(each):
            return vars(each)[name]
    return MISSING


active: list[Seam] = []
"""What is patched now, by whichever part of the package."""


@contextmanager
def patched(seam: Seam) -> Iterator[None]:
    """
    Put ``wrap(original)`` at ``owner.name`` until the block ends.

    An attribute that *owner* only inherits is removed again, not written back.

    Raises:
        SeamMissing: if *owner* neither has nor inherits the attribute.
    """
    owner, name, wrap, optional = seam
    own = vars(owner).get(name, MISSING)  # getattr() would bind methods and descriptors
    original = found(owner, name)
    if original is MISSING:
        if not optional:
            raise SeamMissing(owner, name)
        original = None
    replacement = wrap(original)
    setattr(owner, name, replacement)
    active.append(seam)
    try:
        yield
    finally:
        active.remove(seam)
        if vars(owner).get(name) is not replacement:  # patched on top: restoring would undo that
            warnings.warn(f"{name} was patched after async_guard", RuntimeWarning, stacklevel=3)
        elif own is MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def _dotted(owner: Any) -> str:
    """Return the name of a module, or that of a class with its module."""
    is_class = isinstance(owner, type)
    return f"{owner.__module__}.{owner.__qualname__}" if is_class else str(owner.__name__)


def _unheard(original: Callable[..., Any]) -> Callable[..., Any]:
    """Do what *original* does, and hear nothing of it."""

    @functools.wraps(original)
    def unheard(*args: Any, **kwargs: Any) -> Any:
        with Deafness():
            return original(*args, **kwargs)

    return unheard


class _Environ:
    """Stands in for ``os.environ`` inside ``async_unsafe``: the question is the access."""

    def __init__(self, environ: Any, listener: Listener, live: Callable[[], bool]) -> None:
        self._environ = environ
        self._listener = listener
        self._live = live

    def get(self, key: str, default: str | None = None) -> str | None:
        value: str | None = self._environ.get(key, default)
        if value and key == ALLOW and self._live():
            self._listener.allowed()
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environ, name)

    def __contains__(self, key: object) -> bool:
        return key in self._environ

    def __getitem__(self, key: str) -> str:
        value: str = self._environ[key]
        return value


class _Os:
    """Stands in for the module ``os`` inside ``django.utils.asyncio``."""

    def __init__(self, module: Any, environ: _Environ) -> None:
        self._module = module
        self.environ = environ

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _generic_models() -> Iterator[type]:
    """Yield the models with generic foreign keys: their querysets don't tell whose rows it is."""
    from django.apps import apps

    for model in apps.get_models():
        if any(hasattr(field, "ct_field") for field in model._meta.private_fields):
            yield model


class Probe:
    """All seams or none; installing twice is installing once."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._undo: ExitStack | None = None
        self.installed = False

    def install(self) -> None:
        """
        Patch every seam.

        Raises:
            SeamMissing: if one is not there; then none is patched.
        """
        if self._undo is None:
            with ExitStack() as stack:  # a seam that fails takes the others with it
                for seam in self.seams():
                    stack.enter_context(patched(seam))
                self._undo = stack.pop_all()
            self.installed = True

    def uninstall(self) -> None:
        """Give Django back the very objects that it had."""
        if self._undo is not None:
            undo, self._undo = self._undo, None
            self.installed = False
            undo.close()

    def seams(self) -> Iterable[Seam]:
        """Return what is replaced: owner, attribute, and what makes the replacement."""
        from django.apps import apps
        from django.db.models.query import ModelIterable
        from django.views.debug import ExceptionReporter

        yield Seam(django.utils.asyncio, "os", self._watch_environ)
        yield Seam(SynchronousOnlyOperation, "__init__", self._watch_birth)
        yield Seam(SynchronousOnlyOperation, "__del__", self._watch_death, optional=True)
        yield Seam(asgiref.sync.AsyncToSync, "__call__", self._watch_async_to_sync)
        yield Seam(ModelIterable, "__iter__", self._watch_loads)
        yield Seam(ExceptionReporter, "get_traceback_data", _unheard)
        if apps.is_installed("django.contrib.contenttypes"):
            from django.contrib.contenttypes.models import ContentType

            yield Seam(ContentType, "get_object_for_this_type", self._watch_generic_loads)

    def seam_names(self) -> list[str]:
        """Return what is replaced, as dotted names."""
        return [f"{_dotted(seam.owner)}.{seam.name}" for seam in self.seams()]

    def _watch_environ(self, module: Any) -> Any:
        return _Os(module, _Environ(module.environ, self._listener, lambda: self.installed))

    def _watch_birth(self, original: Callable[..., None]) -> Callable[..., None]:
        listener = self._listener

        @functools.wraps(original)
        def __init__(error: BaseException, *args: object, **kwargs: object) -> None:
            original(error, *args, **kwargs)
            if self.installed and _get_running_loop() is not None:
                listener.refused(error)

        return __init__

    def _watch_death(self, original: Callable[..., None] | None) -> Callable[..., None]:
        listener = self._listener

        def __del__(error: BaseException) -> None:
            listener.died(error)
            if original is not None:
                original(error)

        return __del__

    def _watch_async_to_sync(self, original: Callable[..., Any]) -> Callable[..., Any]:
        listener = self._listener

        @functools.wraps(original)
        def __call__(bridge: Any, *args: Any, **kwargs: Any) -> Any:
            __traceback_hide__ = True
            if _get_running_loop() is None:
                return original(bridge, *args, **kwargs)
            try:
                return original(bridge, *args, **kwargs)
            except RuntimeError as error:  # the type, never the text: asgiref may reword it
                if self.installed:
                    listener.refused(error)
                raise

        return __call__

    def _watch_loads(self, original: Callable[..., Any]) -> Callable[..., Any]:
        listener, generic = self._listener, frozenset(_generic_models())

        @functools.wraps(original)
        def __iter__(iterable: Any) -> Any:
            queryset = iterable.queryset
            is_relation = queryset._hints or (
                queryset.model in generic and filters_by_content_type(queryset)
            )
            if is_relation and self.installed and _get_running_loop() is None:
                listener.loaded(queryset)
            return original(iterable)

        return __iter__

    def _watch_generic_loads(self, original: Callable[..., Any]) -> Callable[..., Any]:
        listener = self._listener

        @functools.wraps(original)
        def get_object_for_this_type(content_type: Any, *args: Any, **kwargs: Any) -> Any:
            if self.installed and _get_running_loop() is None:
                listener.loaded(None)
            return original(content_type, *args, **kwargs)

        return get_object_for_this_type
