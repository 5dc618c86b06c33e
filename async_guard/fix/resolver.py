"""Finds the resolvers of GraphQL fields in the code, and what they are decorated with."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from async_guard.fix.checkout import Checkout, Source, module_parts
from async_guard.fix.code import dotted, everything, imported_as
from async_guard.fix.locate import Place
from async_guard.fix.queryset import Queryset, queryset_of
from async_guard.fix.refusal import NotHere, Refused
from async_guard.fix.scope import enclosing_class, enclosing_function, own_nodes


def resolver_of(place: Place) -> cst.FunctionDef:
    """Return the resolver that the hit is in, which must be the one of its field."""
    function = enclosing_function(place.source, place.node)
    name = (place.hit.graphql_resolver or "").replace(":", ".")
    if function is None or not name or not f"{place.hit.function}".startswith(name):
        raise NotHere("It is not in the resolver of a GraphQL field.")
    return function


def field_decorator(source: Source, function: cst.FunctionDef) -> cst.Decorator | None:
    """Return ``@strawberry.field`` or ``@strawberry_django.field`` of a resolver."""
    for decorator in function.decorators:
        if decorator_names(source, decorator) in (
            ("strawberry", "field"),
            ("strawberry", "mutation"),
            ("strawberry_django", "field"),
            ("strawberry.django", "field"),
        ):
            return decorator
    return None


def decorator_names(
    source: Source, decorator: cst.Decorator | cst.BaseExpression
) -> tuple[str, str] | None:
    """Return module and name of a decorator, a function or a class, however it was imported."""
    node = decorator.decorator if isinstance(decorator, cst.Decorator) else decorator
    if isinstance(node, cst.Call):
        node = node.func
    names = dotted(node)
    if not names:
        return None
    if len(names) == 1:
        return imported_as(source, names[0])
    first = imported_as(source, names[0])
    top = _module_of(source, names[0]) or (".".join(first) if first else names[0])
    return ".".join([top, *names[1:-1]]), names[-1]


def _module_of(source: Source, alias: str) -> str | None:
    for node in source.module.body:
        for each in everything(node) if isinstance(node, cst.SimpleStatementLine) else ():
            if isinstance(each, cst.Import):
                for name in each.names:
                    if name.evaluated_alias == alias:
                        return name.evaluated_name
    return None


def field_calls(
    checkout: Checkout, source: Source, function: cst.FunctionDef
) -> Iterator[tuple[Source, cst.Call]]:
    """Yield each ``strawberry.field(resolver=function)`` in a Django type."""
    name = function.name.value
    for other in checkout.mentioning(name):
        for node in other.nodes:
            if isinstance(node, cst.Call) and _has_resolver(node, name):
                is_field = decorator_names(other, node) == ("strawberry", "field")
                if is_field and _is_same(other, source, name) and is_django_type(other, node):
                    yield other, node


def _has_resolver(node: cst.Call, name: str) -> bool:
    resolvers = [arg for arg in node.args if arg.keyword is None or _keyword(arg) == "resolver"]
    return len(resolvers) == 1 and dotted(resolvers[0].value) == [name]


def _keyword(arg: cst.Arg) -> str | None:
    return arg.keyword.value if arg.keyword else None


def _is_same(other: Source, source: Source, name: str) -> bool:
    """Tell whether a name stands for the function of that name on the top level of *source*."""
    if other is source:
        return _defines(source, name, cst.FunctionDef)
    origin = imported_as(other, name)
    return (
        origin is not None
        and origin[1] == name
        and origin[0].split(".")[-1]
        in (
            source.path.stem,
            source.path.parent.name if source.path.stem == "__init__" else source.path.stem,
        )
    )


def is_django_type(source: Source, node: cst.CSTNode) -> bool:
    """Tell whether the class around *node* is a ``strawberry_django.type``."""
    found = enclosing_class(source, node)
    names = [decorator_names(source, each) for each in found.decorators] if found else []
    return any(each and each[0] in ("strawberry_django", "strawberry.django") for each in names)


def camel_case(name: str) -> str:
    """Return the name that Strawberry gives a field."""
    head, *rest = name.split("_")
    return head + "".join(each.capitalize() if each else "_" for each in rest)


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


# --- where the parent object was loaded ---------------------------------------------------------


def parent_querysets(place: Place, field: str) -> list[Queryset]:
    """Return the querysets whose rows the resolver of ``Query.users`` returns or yields."""
    source, function = _parent_resolver(place, field)
    values = list(returned_values(source, function))
    if not values:
        raise Refused(f"The resolver of {field} shows no queryset.")
    return [queryset_of(source, each) for each in values]


def _parent_resolver(place: Place, field: str) -> tuple[Source, cst.FunctionDef]:
    type_name, _, field_name = field.rpartition(".")
    found = [
        (source, function)
        for source, function in _methods(place.checkout, type_name, field_name)
        if _returns_type_of(place, source, function)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused(f"The code has more than one {field}.")
    raise Refused(f"The resolver of {field} is not in the code.")


def _methods(
    checkout: Checkout, type_name: str, field_name: str
) -> Iterator[tuple[Source, cst.FunctionDef]]:
    names = class_names(checkout, type_name)
    for source in checkout.mentioning(snake_case(field_name)):
        for node in source.nodes:
            if isinstance(node, cst.FunctionDef) and camel_case(node.name.value) == field_name:
                owner = enclosing_class(source, node)
                if owner is not None and owner.name.value in names:
                    yield source, node


def class_names(checkout: Checkout, type_name: str) -> set[str]:
    """Return the class of a GraphQL type and those that it is made from."""
    names, new = {type_name}, {type_name}
    while new:
        bases = {
            base for name in new for found in _classes(checkout, name) for base in _bases(found)
        }
        new = bases - names
        names |= new
    return names


def _classes(checkout: Checkout, name: str) -> Iterator[cst.ClassDef]:
    for source in checkout.mentioning(f"class {name}"):
        for node in source.nodes:
            if isinstance(node, cst.ClassDef) and node.name.value == name:
                yield node


def _bases(found: cst.ClassDef) -> Iterator[str]:
    for base in found.bases:
        names = dotted(base.value)
        if names:
            yield names[-1]


def _returns_type_of(place: Place, source: Source, function: cst.FunctionDef) -> bool:
    """Tell whether the resolver returns the class that the hit's field belongs to."""
    return is_of_type(place, source, function.returns)


def is_of_type(place: Place, source: Source, annotation: cst.Annotation | None) -> bool:
    """Tell whether an annotation names the class that the hit's field belongs to."""
    module, type_name = _type_of(place)
    if not names_type(source, annotation, type_name):
        return False
    if source is place.source:
        return True
    if _defines(source, type_name):
        return module == list(module_parts(source.path, place.checkout.root))[-len(module) :]
    origin = imported_as(source, type_name)
    return origin is None or origin[0].split(".")[-1] == module[-1]


def names_type(source: Source, annotation: cst.Annotation | None, type_name: str) -> bool:
    code = source.code(annotation.annotation) if annotation else ""
    return re.search(rf"\b{re.escape(type_name)}\b", code) is not None


def _type_of(place: Place) -> tuple[list[str], str]:
    """Return module and name of the class of the hit's field."""
    function = enclosing_function(place.source, place.node)
    if function is not None and not enclosing_class(place.source, function):
        for source, call in field_calls(place.checkout, place.source, function):
            owner = enclosing_class(source, call)
            if owner is not None:
                return list(module_parts(source.path, place.checkout.root)), owner.name.value
    resolver = place.hit.graphql_resolver or place.hit.function
    *module, type_name, _ = resolver.replace(":", ".").split(".")
    return module, type_name


def _defines(
    source: Source, name: str, kind: type[cst.ClassDef | cst.FunctionDef] = cst.ClassDef
) -> bool:
    return any(isinstance(each, kind) and each.name.value == name for each in source.module.body)


def returned_values(source: Source, function: cst.FunctionDef) -> Iterator[cst.BaseExpression]:
    """Yield what a resolver returns, or gives one after the other; nothing is not meant."""
    for node in own_nodes(function.body):
        if isinstance(node, cst.Return | cst.Yield):
            value = node.value
            if isinstance(value, cst.BaseExpression) and not _is_nothing(value):
                yield value


def _is_nothing(value: cst.BaseExpression) -> bool:
    match value:
        case cst.Name(value="None") | cst.List(elements=[]):
            return True
    return False
