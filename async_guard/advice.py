"""
What to write instead: an ordered table of pure rules from a hit to its advice.

The first rule that applies wins, so the special ones stand above the general ones. Each has a
page in ``docs/rules/`` with the failing code, the fix, and why.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Callable
from dataclasses import dataclass

import django

from async_guard.expression import attempted
from async_guard.hit import (
    ASYNC_TO_SYNC,
    ATOMIC_COROUTINE,
    N_PLUS_ONE,
    TRANSACTION_ACROSS_AWAIT,
    Hit,
)

DOCS = "https://github.com/async-guard/async-guard/blob/main/docs/rules"
ASYNC_METHODS = {
    *("get", "create", "get_or_create", "update_or_create", "bulk_create", "bulk_update"),
    *("count", "in_bulk", "latest", "earliest", "first", "last", "delete", "update"),
    *("exists", "contains", "aggregate", "explain", "save", "refresh_from_db"),
    *("add", "set", "remove", "clear"),
}
_EVALUATIONS = {"iterate", "len", "bool", "slice", "repr", None}
_SINGLE = {"forward_relation", "reverse_one_to_one"}
_MANY = {"related_manager", "many_to_many", "generic_relation"}
_FUNCTIONS = {"get_object_or_404", "get_list_or_404", "authenticate", "login", "logout"}
_METHOD_OF_OPERATOR = {
    "__getitem__": "get",
    "__setitem__": "set",
    "__delitem__": "pop",
    "__contains__": "has_key",
}
_CONSUMERS = {
    *("list", "tuple", "set", "frozenset", "dict", "sorted", "reversed", "enumerate", "iter"),
    *("len", "bool", "sum", "max", "min", "any", "all", "str", "repr", "print"),
}
_NARROWED = re.compile(
    r"\.(filter|exclude|order_by|reverse|distinct|values|values_list|annotate|only|defer)\("
)


@dataclass(frozen=True, slots=True)
class Advice:
    """What to write instead of the code that hit."""

    rule: str
    sentence: str
    before: str
    after: str

    @property
    def docs(self) -> str:
        """Link to the rule's page."""
        return f"{DOCS}/{self.rule}.md"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table."""

    id: str
    title: str
    applies: Callable[[Hit], bool]
    sentence: Callable[[Hit], str]
    after: Callable[[Hit], str]


def advise(hit: Hit) -> Advice:
    """Return the advice of the first rule that applies; the last one always does."""
    rule = next(rule for rule in RULES if rule.applies(hit))
    return Advice(rule.id, rule.sentence(hit) + _on_outcome(hit), hit.text, rule.after(hit))


def describe(hit: Hit) -> str:
    """Say in one sentence who did what, and where."""
    who = hit.graphql_field or hit.view or short(hit.function)
    where = f"({hit.path}:{hit.line})"
    if hit.kind == ASYNC_TO_SYNC:
        return f"{who} called async_to_sync while the event loop runs {where}."
    if hit.kind == N_PLUS_ONE:
        return f"{who} loaded {subject(hit)} {hit.count} times, a query each {where}."
    return f"{who} {_did(hit)} while the event loop runs {where}."


def _did(hit: Hit) -> str:
    if hit.relation is not None:
        return f"read {subject(hit)}"
    if hit.kind == TRANSACTION_ACROSS_AWAIT:
        return "held a transaction while it awaited something else"
    if hit.access == "transaction":
        return "opened a transaction"
    if hit.access in ("queryset", "raw_sql") and hit.orm_operation in _EVALUATIONS:
        return f"evaluated a {_name(hit.orm_model)} queryset"
    if hit.orm_model is not None:
        return f"called {_name(hit.orm_model)}.{hit.orm_operation}"
    if hit.orm_operation is not None:
        return f"called {hit.orm_operation}, which uses the database,"
    return "used the database"


def _or_async(hit: Hit) -> str:
    has_counterpart = hit.owner == "app" and hit.orm_operation in ASYNC_METHODS
    return f"make it async and use {_async_call(hit)}, or " if has_counterpart else ""


def _on_outcome(hit: Hit) -> str:
    if hit.outcome != "swallowed":
        return ""
    return " The exception was swallowed: what was returned in its place is wrong."


# --- words -----------------------------------------------------------------------------------


def subject(hit: Hit) -> str:
    """Return ``User.profile``: the relation without its app, or the model."""
    if hit.relation is None:
        return f"the {_name(hit.orm_model)} rows" if hit.orm_model else "what it needs"
    return hit.relation.split(".", 1)[1] if hit.relation.count(".") > 1 else hit.relation


def short(function: str) -> str:
    """Return the last two parts of a qualified name."""
    return ".".join(function.split(".")[-2:])


def _name(model: str | None) -> str:
    return (model or "").rsplit(".", 1)[-1]


def _loader(hit: Hit) -> str:
    """Say where the parent object was loaded, as far as it is known."""
    model = _name(hit.orm_model) or "object"
    source = hit.graphql_parent or hit.graphql_field  # a root field loads its own
    if source is None or (hit.graphql_parent and _reads_another(hit)):
        return f"on the queryset that loads the {model}"
    return f"where {source} loads the {'object' if '__' in _path(hit) else model}"


def _path(hit: Hit) -> str:
    """Return ``director__studio`` for ``self.director.studio``: what the field's object lacks."""
    chain = _chain(hit)
    return "__".join(chain[1:]) if _is_resolver(hit) and chain[:1] in _ITSELF else _field(hit)


def _reads_another(hit: Hit) -> bool:
    """Tell whether a resolver reads it of something else than its own object."""
    chain = _chain(hit) if _is_resolver(hit) else []
    return bool(chain) and chain[:1] not in _ITSELF


_ITSELF = (["self"], ["root"])


def _is_resolver(hit: Hit) -> bool:
    resolver = hit.graphql_resolver
    return resolver is not None and resolver.replace(":", ".") == hit.function


def _chain(hit: Hit) -> list[str]:
    """Return the names that lead to the field: ``self``, ``director``, ``studio``."""
    tree, field = _expression(hit), _field(hit)
    for node in ast.walk(tree) if tree is not None else ():
        match node:
            case ast.Attribute(value=of, attr=name) if name == field:
                return [*_names(of), field]
            case ast.Call(ast.Name("getattr" | "hasattr"), [of, ast.Constant(name), *_]) if (
                name == field
            ):
                return [*_names(of), field]
    return []


def _names(node: ast.expr) -> list[str]:
    match node:
        case ast.Name(id=name):
            return [name]
        case ast.Attribute(value=of, attr=name):
            return [*_names(of), name]
    return ["…"]


def _field(hit: Hit) -> str:
    return hit.orm_field or (hit.relation or "…").rsplit(".", 1)[-1]


def _expression(hit: Hit) -> ast.expr | None:
    """Return the text of the call site, parsed; None where it is no expression."""
    return attempted(_parsed, hit.text)


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _unparsed(tree: ast.expr) -> str:
    try:
        return ast.unparse(tree)
    except RecursionError:
        return "…"


def _method(hit: Hit) -> str:
    """Return the name of the operation's asynchronous counterpart."""
    operation = hit.orm_operation or "get"
    return "a" + _METHOD_OF_OPERATOR.get(operation, operation).lstrip("_")


def _async_call(hit: Hit) -> str:
    """Return the call as written, with its asynchronous counterpart and ``await``."""
    tree, name = _expression(hit), hit.orm_operation
    if isinstance(tree, ast.Call):
        called = ast.get_source_segment(hit.text, tree.func) or ""
        before, _, method = called.rpartition(".")
        if method == name and hit.text.startswith(f"{called}("):
            if not before and name not in _FUNCTIONS:
                before = "…"  # the rest of the chain stands on other lines
            call = f"{before}.a{method}" if before else f"a{method}"
            return f"await {' '.join((call + hit.text[len(called) :]).split())}"
    return f"await ….{_method(hit)}(…)"


def _queryset(hit: Hit) -> str:
    """Return the queryset as written, without what evaluates it, or just ``queryset``."""
    tree = _evaluated(_expression(hit))
    match tree:
        case ast.Call(func=ast.Attribute(attr="iterator") as method):
            method.attr = "aiterator"
        case ast.Call(func=ast.Name(id=name)) if hasattr(builtins, name):
            return "queryset"
        case ast.Call(func=ast.Attribute(value=ast.Constant())):  # ", ".join(…)
            return "queryset"
        case ast.Call() | ast.Name() | ast.Attribute() | ast.Subscript():
            pass
        case _:
            return "queryset"
    return _unparsed(tree)


def _evaluated(tree: ast.expr | None) -> ast.expr | None:
    match tree:
        case ast.Call(func=ast.Name(id=name), args=[inner, *_]) if name in _CONSUMERS:
            return _evaluated(inner)
        case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[inner]):
            return _evaluated(inner)
        case ast.Subscript(value=inner, slice=index) if not isinstance(index, ast.Slice):
            return _evaluated(inner)
    return tree


def _in_thread(hit: Hit) -> str:
    """Return the call in a thread; of the whole function, where that cannot await."""
    if not hit.in_async_def:
        name = short(hit.function)
        is_name = name.replace(".", "").isidentifier()  # not <lambda>, and not unknown
        return f"await sync_to_async({name if is_name else 'function'})(…)"
    tree = _expression(hit)
    if isinstance(tree, ast.Call):
        return f"await sync_to_async({_unparsed(tree.func)})(…)"
    if tree is None:
        return "await sync_to_async(function)(…)"
    if isinstance(tree, ast.Name):  # it is there: what iterates over it asks the database
        return f"await sync_to_async(list)({tree.id})"
    return f"await sync_to_async(lambda: {_unparsed(tree)})()"


def _as_written(hit: Hit) -> str:
    """Return the call in a thread with its arguments, where they belong to what is moved."""
    tree = _expression(hit)
    if hit.in_async_def and isinstance(tree, ast.Call):
        moved = ast.Call(ast.Name("sync_to_async"), [tree.func], [])
        return f"await {_unparsed(ast.Call(moved, tree.args, tree.keywords))}"
    return _in_thread(hit)


def _where(hit: Hit) -> str:
    return "" if hit.in_async_def else " in an async function"


def _above(hit: Hit) -> str:
    return "" if hit.in_async_def else " in the async code that calls it"


def _django_field(hit: Hit) -> str:
    hints = {"deferred_field": "only"} | dict.fromkeys(_SINGLE, "select_related")
    is_read = hit.orm_operation in (*_EVALUATIONS, "prefetch")
    hint = hints.get(hit.access, "prefetch_related" if hit.access in _MANY and is_read else None)
    return (
        f'@strawberry_django.field({hint}=["{_path(hit)}"])'
        if hint and not _reads_another(hit)
        else "@strawberry_django.field"
    )


def _hint(hit: Hit) -> str:
    """Return the method of a queryset that loads the relation or the column."""
    field = _path(hit)
    if hit.access == "deferred_field":
        return f'only(…, "{field}")'
    if hit.access not in _MANY:
        return f'select_related("{field}")'
    if _is_narrowed(hit):
        return f'prefetch_related(Prefetch("{field}", queryset, to_attr=…))'
    return f'prefetch_related("{field}")'


def _is_narrowed(hit: Hit) -> bool:
    """Tell whether other rows were asked for than ``film.genres.all()``, which are prefetched."""
    tree, field = _expression(hit), _field(hit)
    calls = (each.func for each in ast.walk(tree) if isinstance(each, ast.Call)) if tree else ()
    return _NARROWED.search(hit.text) is not None or any(
        isinstance(each, ast.Attribute) and each.attr != "all" and _reads(each.value, field)
        for each in calls
    )


def _reads(node: ast.expr, field: str) -> bool:
    """Tell whether a chain of methods begins with ``film.genres``."""
    while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Attribute) and node.attr == field:
            return True
        node = node.func if isinstance(node, ast.Call) else node.value
    return False


def _load_column(hit: Hit) -> str:
    return f'Add "{_path(hit)}" to .only(), or take it out of .defer(), {_loader(hit)}'


# --- the rules -------------------------------------------------------------------------------


def _is_plain_field(hit: Hit) -> bool:
    """Tell whether the resolver would run in a thread; what stands around it would not."""
    is_around = hit.function.rpartition(".")[2] in _AROUND_RESOLVERS and not _is_resolver(hit)
    return bool(hit.plain_field) and not hit.in_async_def and not is_around


_AROUND_RESOLVERS = ("has_permission", "resolve")
"""Of permissions and field extensions."""


def _has_async_method(hit: Hit) -> bool:
    return hit.owner == "app" and hit.in_async_def and hit.orm_operation in ASYNC_METHODS


def _is_template(hit: Hit) -> bool:
    return not hit.on_stack and hit.text.startswith(("{%", "{{"))


def _by_library(hit: Hit) -> bool:
    return hit.owner != "app" and hit.on_stack


def _is_loop(hit: Hit) -> bool:
    """Tell whether rows are fetched where ``async for`` could fetch them."""
    return (
        hit.access in ("queryset", "raw_sql", *_MANY)
        and hit.orm_operation in _EVALUATIONS
        and (hit.in_async_def or not hit.on_stack)
    )


def _is_to_many(hit: Hit) -> bool:
    is_read = hit.access in _MANY and hit.orm_operation in (*_EVALUATIONS, "prefetch")
    return is_read and not (_is_narrowed(hit) and _is_loop(hit))


def _is_own(hit: Hit) -> bool:
    """Tell whether the project can await where it reads what is lazy."""
    return hit.owner == "app" or hit.on_stack


def _user_sentence(hit: Hit) -> str:
    if _is_own(hit):
        return (
            "Use await request.auser() in an async function; request.user loads the "
            "session and the user."
        )
    return (
        "Set request.user = await request.auser() in async middleware: "
        f"{hit.owner_package or 'the library'} reads request.user before the view runs."
    )


def _loop_sentence(hit: Hit) -> str:
    if not hit.on_stack:
        return "Return the rows, not the queryset: [row async for row in queryset]."
    code, queryset = _loop(hit), _queryset(hit)
    if not code.startswith("["):
        return f"Use {code}."
    instead = {"bool": f"await {queryset}.aexists()", "len": f"await {queryset}.acount()"}
    only = instead.get(hit.orm_operation or "")
    shorter = f", or use {only} if the rows are not needed" if only else ""
    return f"Evaluate the queryset with async for: {code}{shorter}."


def _loop(hit: Hit) -> str:
    if not hit.on_stack:
        return "[row async for row in queryset]"
    match _expression(hit):
        case ast.Compare(left=row, ops=[ast.In()]):
            return f"await {_queryset(hit)}.acontains({_unparsed(row)})"
        case ast.Subscript(slice=ast.Constant(value=0)):
            return f"await {_queryset(hit)}.afirst()"
    return f"[row async for row in {_queryset(hit)}]"


def _pages(hit: Hit) -> ast.expr | None:
    """Return what was asked of a ``Paginator`` in an async function: ``paginator.page(1)``."""
    tree = _expression(hit)
    asked = tree.func if isinstance(tree, ast.Call) else tree
    is_paginator = any(str(each.get("function")).startswith(_PAGINATOR) for each in hit.frames)
    is_page = isinstance(asked, ast.Attribute) and asked.attr in _OF_PAGINATOR
    return tree if hit.in_async_def and is_paginator and is_page else None


_PAGINATOR = "django.core.paginator.Paginator."
_OF_PAGINATOR = {"page", "get_page", "count", "num_pages"}


def _library_sentence(hit: Hit) -> str:
    because = f"{hit.owner_package or 'the library'} uses the database in it."
    pages = _pages(hit)
    if pages is not None and django.VERSION >= (6, 0):
        return f"Make the paginator an AsyncPaginator and use {_async_page(pages)}: {because}"
    use = f"Use {_in_thread(hit)}{_above(hit)}: {because}"
    if isinstance(pages, ast.Call):
        return f"{use} The rows of a page are lazy: read them in the same function."
    return use


def _library_call(hit: Hit) -> str:
    pages = _pages(hit)
    if pages is not None and django.VERSION >= (6, 0):
        return _async_page(pages)
    return _as_written(hit)


def _async_page(tree: ast.expr) -> str:
    """``paginator.page(1)`` → ``await paginator.apage(1)``."""
    call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
    assert isinstance(call.func, ast.Attribute)
    call.func.attr = f"a{call.func.attr}"
    return "await " + re.sub(r"\bPaginator\(", "AsyncPaginator(", _unparsed(call))


def _n_plus_one_sentence(hit: Hit) -> str:
    is_manager = hit.access in _MANY and hit.orm_operation is not None  # no fetch mode for those
    peers = (
        f" On Django 6.1 and later .fetch_mode(models.FETCH_PEERS) loads {_field(hit)} for all "
        "rows at once."
    )
    what = f"Use {_hint(hit)} {_loader(hit)}."
    if hit.access == "deferred_field":
        what = f"{_load_column(hit)}."
    return what + (peers if django.VERSION >= (6, 1) and not is_manager else "")


def _await_sentence(hit: Hit) -> str:
    if hit.in_async_def:
        return "Await the coroutine itself: async_to_sync() is for code without a loop."
    return (
        f"Make {short(hit.function)} async and await the coroutine in it, or call it with "
        f"{_in_thread(hit)}: async_to_sync() is for code without a loop."
    )


RULES: tuple[Rule, ...] = (
    Rule(
        "AG114",
        "await instead of async_to_sync",
        lambda hit: hit.kind == ASYNC_TO_SYNC,
        _await_sentence,
        lambda hit: "await function(…)",
    ),
    Rule(
        "AG113",
        "N+1 in a worker thread",
        lambda hit: hit.kind == N_PLUS_ONE,
        _n_plus_one_sentence,
        lambda hit: f"….{_hint(hit)}",
    ),
    Rule(
        "AG122",
        "await outside of the transaction",
        lambda hit: hit.kind == TRANSACTION_ACROSS_AWAIT,
        lambda hit: (
            "Put the whole transaction into one sync function, call it with sync_to_async, and "
            "await before or after it: until then it keeps its locks and its connection."
        ),
        lambda hit: "@sync_to_async\n@transaction.atomic\ndef change(): …\n\nawait change()",
    ),
    Rule(
        "AG121",
        "atomic on a coroutine function",
        lambda hit: hit.orm_operation == ATOMIC_COROUTINE,
        lambda hit: (
            "Move the body of the async def into one sync function with @transaction.atomic and "
            "call it with sync_to_async: the transaction would end before the body begins."
        ),
        lambda hit: "@sync_to_async\n@transaction.atomic\ndef change(): …\n\nawait change()",
    ),
    Rule(
        "AG118",
        "template evaluates a query",
        _is_template,
        lambda hit: (
            f"Load {subject(hit)} before the template is rendered, or render it with "
            "await sync_to_async(render)(…)."
        ),
        lambda hit: "return await sync_to_async(render)(request, template, context)",
    ),
    Rule(
        "AG107",
        "request.auser()",
        lambda hit: hit.access == "lazy_user",
        _user_sentence,
        lambda hit: f"{'user' if _is_own(hit) else 'request.user'} = await request.auser()",
    ),
    Rule(
        "AG111",
        "library call in a thread",
        _by_library,
        _library_sentence,
        _library_call,
    ),
    Rule(
        "AG109",
        "async session methods",
        lambda hit: hit.access == "session",
        lambda hit: f"Use await request.session.{_method(hit)}(…){_where(hit)}.",
        lambda hit: f"await request.session.{_method(hit)}(…)",
    ),
    Rule(
        "AG117",
        "async functions of django.contrib.auth",
        lambda hit: hit.access == "auth",
        lambda hit: f"Use await {_method(hit)}(…){_where(hit)}.",
        _async_call,
    ),
    Rule(
        "AG115",
        "async cache methods",
        lambda hit: hit.access == "cache",
        lambda hit: f"Use await cache.{_method(hit)}(…){_where(hit)}.",
        _async_call,
    ),
    Rule(
        "AG110",
        "transaction in one sync function",
        lambda hit: hit.access == "transaction",
        lambda hit: (
            "Put the whole transaction into one sync function and call it with "
            "sync_to_async: transactions do not work in async code."
        ),
        lambda hit: "@sync_to_async\n@transaction.atomic\ndef change(): …\n\nawait change()",
    ),
    Rule(
        "AG112",
        "raw SQL in one sync function",
        lambda hit: hit.access in ("raw_sql", "connection") and not _is_loop(hit),
        lambda hit: (
            "Put the SQL and all that uses its cursor or its rows into one sync function and call "
            "it with sync_to_async."
        ),
        lambda hit: "@sync_to_async\ndef query(): …\n\nawait query()",
    ),
    Rule(
        "AG102",
        "strawberry_django.field",
        _is_plain_field,
        lambda hit: (
            f"Write {_django_field(hit)} instead of @strawberry.field on {hit.graphql_field}: "
            "it runs the resolver in a thread."
        ),
        _django_field,
    ),
    Rule(
        "AG104",
        "deferred column",
        lambda hit: hit.access == "deferred_field",
        lambda hit: (
            _load_column(hit)
            + (
                f', or to the field\'s hints: @strawberry_django.field(only=["{_field(hit)}"]).'
                if hit.graphql_field
                else "."
            )
        ),
        lambda hit: f"….{_hint(hit)}",
    ),
    Rule(
        "AG101",
        "select_related",
        lambda hit: hit.access in _SINGLE,
        lambda hit: f"Use {_hint(hit)} {_loader(hit)}.",
        lambda hit: f"….{_hint(hit)}",
    ),
    Rule(
        "AG105",
        "async ORM method",
        _has_async_method,
        lambda hit: f"Use {_async_call(hit)}.",
        _async_call,
    ),
    Rule(
        "AG103",
        "prefetch_related",
        _is_to_many,
        lambda hit: f"Use {_hint(hit)} {_loader(hit)}.",
        lambda hit: f"….{_hint(hit)}",
    ),
    Rule(
        "AG108",
        "aget_object_or_404",
        lambda hit: hit.orm_operation in ("get_object_or_404", "get_list_or_404"),
        lambda hit: f"Use await {_method(hit)}(…){_where(hit)}.",
        _async_call,
    ),
    Rule(
        "AG106",
        "async for",
        _is_loop,
        _loop_sentence,
        _loop,
    ),
    Rule(
        "AG116",
        "content types in a thread",
        lambda hit: hit.access == "content_type",
        lambda hit: (
            f"Use {_in_thread(hit)}{_above(hit)}: content types come from the database until they "
            "are cached."
        ),
        _as_written,
    ),
    Rule(
        "AG119",
        "sync function called in the loop",
        lambda hit: not hit.in_async_def,
        lambda hit: (
            f"{short(hit.function)} is a sync function that the event loop called: "
            f"{_or_async(hit)}call it with {_in_thread(hit)}."
        ),
        _in_thread,
    ),
    Rule(
        "AG120",
        "sync_to_async",
        lambda hit: True,
        lambda hit: f"Use {_in_thread(hit)}.",
        _as_written,
    ),
)
