"""
What all hits of one line have in common, found out once: call site, access, fingerprint.

A repeated hit only has to be recognised: its line, by code object and instruction, and what was
accessed there. Where no line of the project is on the stack, the template, the GraphQL field or
the view stands for it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from async_guard.access import Access, read_access, read_key
from async_guard.callsite import (
    DEPENDENCY,
    CallSite,
    Edge,
    Stack,
    clean,
    code_of,
    definition_of,
    definition_of_class,
    function_name,
    is_looked_through,
    is_ours,
    known_codes,
    project_path,
    read_stack,
    site_of,
)
from async_guard.expression import PLACEHOLDER, normalised
from async_guard.hit import ASYNC_TO_SYNC, TRANSACTION_ACROSS_AWAIT, Hit
from async_guard.origin import graphql_reader

FINGERPRINT_VERSION = 1
_LITERAL = re.compile(r"""("[^"]*"|'[^']*'|\b\d+(\.\d+)?\b)""")


@dataclass(slots=True, eq=False, weakref_slot=True)
class Problem:
    """One line of code that accesses one thing."""

    kind: str
    access: Access
    site: CallSite
    fingerprint: str
    kept: tuple[CodeType, ...]
    """The code objects whose ids the key is made of."""
    innermost: CodeType | None
    """The code of the project's line: what an exception passed further in is Django's."""
    hit: Hit | None = None
    """A hit without an origin, for those that are only counted."""

    def names(self) -> Iterator[str]:
        """Yield what an ``ALLOWLIST`` may name it by."""
        site, access = self.site, self.access
        found = (access.relation, access.model, site.path, site.function)
        yield from (name for name in found if name)
        yield f"{site.path}:{site.line}"


class Problems:
    """The problems that were met, by what recognises them cheaply. Bounded."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[tuple[Any, ...], Problem] = {}

    def of(self, kind: str, frame: FrameType) -> Problem:
        """Return the problem that the stack from *frame* outwards ends in."""
        key = (kind, *_key(frame))
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= self._most:
                self._known.clear()
            known = self._known[key] = find_problem(kind, read_stack(frame))
        return known


def _key(frame: FrameType | None) -> tuple[Any, ...]:
    """Walk as ``read_stack`` does, but remember nothing on the way."""
    codes = known_codes()
    reading = deciding = innermost = None
    while frame is not None:
        code = frame.f_code
        known = codes.get(id(code)) or code_of(code)
        if known.stops and not is_looked_through(frame, known):
            if known.is_project:
                return id(code), frame.f_lasti, *read_key(reading, deciding, innermost)
            return *_place(frame, known.edge), *read_key(reading, deciding, innermost)
        if known.reader is not None:
            reading, innermost = frame, innermost or frame
            if known.decides:
                deciding = frame
        frame = frame.f_back
    return read_key(reading, deciding, innermost)


def _place(edge: FrameType, kind: Edge) -> tuple[Any, ...]:
    """Return what stands for the line where the project has none on the stack."""
    scope = edge.f_locals
    if kind is Edge.TEMPLATE:
        node = scope.get("self")
        token, origin = getattr(node, "token", None), getattr(node, "origin", None)
        # a template may be made for each request, and ids are given again
        names = getattr(origin, "name", None), getattr(token, "lineno", None)
        return *names, getattr(token, "contents", None)
    if kind is Edge.FIELD:
        return _field_key(edge)
    request = scope.get("request")
    view = getattr(getattr(request, "resolver_match", None), "func", None)
    return id(edge.f_code), id(view), getattr(request, "method", None)


def _field_key(frame: FrameType | None) -> tuple[Any, ...]:
    module = graphql_reader()
    while frame is not None and code_of(frame.f_code).edge in (Edge.FIELD, Edge.NONE):
        found: tuple[Any, ...] | None = module.read_field_key(frame)
        if found is not None:
            return found
        frame = frame.f_back
    return ()


_ACCESSES = {
    ASYNC_TO_SYNC: Access("async_to_sync"),
    TRANSACTION_ACROSS_AWAIT: Access("transaction", operation="await"),
}
"""What is known by its kind."""


def find_problem(kind: str, stack: Stack) -> Problem:
    """Find out where *stack* ends and what was accessed there."""
    access = _ACCESSES.get(kind) or read_access(stack)
    site = _site(stack)
    kept = tuple(frame.f_code for frame, _ in stack.frames)
    if stack.site is not None:
        kept = (stack.site.f_code, *kept)
    innermost = stack.site.f_code if stack.site is not None else None
    return Problem(kind, access, site, fingerprint(kind, access, site), kept, innermost)


def fingerprint(kind: str, access: Access, site: CallSite) -> str:
    """
    Return 16 hex digits that stand for the problem across deploys.

    Neither line numbers and paths nor literals, values or the Python version are part of it.
    """
    is_template = site.text.startswith(("{%", "{{"))
    text = _LITERAL.sub(PLACEHOLDER, site.text) if is_template else normalised(site.text)
    parts = (kind, access.relation or f"{access.model}.{access.operation}", site.function, text)
    joined = "\n".join(parts).encode("utf-8", "backslashreplace")
    return hashlib.sha256(joined).hexdigest()[:16]


# --- the place that stands for the access --------------------------------------------------------


def _site(stack: Stack) -> CallSite:
    if stack.site is not None:
        return _jinja_site(stack.site) or site_of(stack.site)
    return (
        _decorated_site(stack)
        or (_template_site(stack.edge) if stack.edge_kind is Edge.TEMPLATE else None)
        or (_field_site(stack.edge) if stack.edge_kind is Edge.FIELD else None)
        or _endpoint_site(stack)
        or (_view_site(stack) if stack.edge_kind is Edge.VIEW else None)
        or _library_site(stack)
    )


def _decorated_site(stack: Stack) -> CallSite | None:
    """A decorator such as ``@transaction.atomic`` runs before the function that it decorates."""
    for frame, _ in stack.frames:
        if frame.f_code.co_qualname == "ContextDecorator.__call__.<locals>.inner":
            return definition_of(frame.f_locals.get("func"))
    return None


def _template_site(frame: FrameType | None) -> CallSite | None:
    node = frame.f_locals.get("self") if frame is not None else None
    token, origin = getattr(node, "token", None), getattr(node, "origin", None)
    if token is None or origin is None:
        return None
    contents = clean(str(getattr(token, "contents", "")))
    kind = getattr(getattr(token, "token_type", None), "name", "BLOCK")
    return CallSite(
        path=project_path(str(origin.name)),
        line=getattr(token, "lineno", None) or 1,
        function=str(origin.template_name or origin.name),
        text=f"{{{{ {contents} }}}}" if kind == "VAR" else f"{{% {contents} %}}",
        on_stack=False,
    )


def _jinja_site(frame: FrameType) -> CallSite | None:
    """Jinja compiles templates to Python; the template knows which line a line came from."""
    template = frame.f_globals.get("__jinja_template__")
    if template is None:
        return None
    line = template.get_corresponding_lineno(frame.f_lineno)
    return CallSite(
        path=project_path(str(template.filename or template.name)),
        line=line,
        function=str(template.name),
        text="{{ … }}",
        on_stack=False,
    )


def _field_site(frame: FrameType | None) -> CallSite | None:
    module = graphql_reader()
    while frame is not None:
        field = module.read_field(frame)
        if field is not None:
            site: CallSite | None = field.find_site()
            return site
        frame = frame.f_back
    return None


def _endpoint_site(stack: Stack) -> CallSite | None:
    """A framework on top of Django's views (django-ninja) keeps the project's in ``view_func``."""
    for frame, known in stack.frames:
        if known.owner == DEPENDENCY:
            try:
                held = object.__getattribute__(frame.f_locals.get("self"), "__dict__")
            except AttributeError:
                continue
            if (found := definition_of(held.get("view_func"), returns=True)) is not None:
                return found
    return None


def _view_site(stack: Stack) -> CallSite | None:
    request = stack.edge.f_locals.get("request") if stack.edge is not None else None
    view = getattr(getattr(request, "resolver_match", None), "func", None)
    view_class = getattr(view, "view_class", None)
    if any(frame.f_code is getattr(view, "__code__", None) for frame, _ in stack.frames):
        return definition_of_class(view_class)  # a mixin, which asks before the method runs
    method = getattr(view_class, str(getattr(request, "method", "")).lower(), None)
    return definition_of(method or view, returns=True)


def _library_site(stack: Stack) -> CallSite:
    """No code of the project had a part in it: name the library's, or whatever there is."""
    frames = [
        frame for frame, known in stack.frames if known.package not in (None, "django", "asgiref")
    ]
    frames += [frame for frame, _ in stack.frames if not is_ours(frame)]
    frame = frames[0] if frames else stack.edge
    if frame is None:
        return CallSite("", 0, "?", "", on_stack=False)
    return CallSite(
        path=project_path(frame.f_code.co_filename),
        line=frame.f_lineno,
        function=function_name(frame.f_globals.get("__name__"), frame.f_code.co_qualname),
        text="",
        on_stack=False,
    )
