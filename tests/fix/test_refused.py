"""What ``fix`` leaves alone, each for a reason; and the near miss that it does rewrite."""
# ruff: noqa: E501

import pytest

from tests.fix.making import fixed, refusal
from tests.fix.test_rewrites import ATOMIC, DIRECTOR, GET, LIBRARY, LOST, PROTOCOL, ROWS, SAVE

ITEM = {"rule": "AG109", "orm_operation": "get"}
FILMS = {**ROWS, "orm_model": "app.Film"}
USER = {"rule": "AG107", "access": "lazy_user"}
LOOP = {"rule": "AG114", "kind": "async_to_sync_in_loop"}
TWIN = {"rule": "AG108", "orm_operation": "get_object_or_404"}
GENRES = {
    "rule": "AG103",
    "access": "many_to_many",
    "orm_field": "genres",
    "relation": "app.Film.genres",
}

COUNT = {"rule": "AG105", "orm_operation": "count"}
SLICE = {**FILMS, "orm_operation": "bool"}
FRAMEWORK = {"rule": "AG111", "owner": "framework"}
ROW_REFUSALS = [
    (
        FRAMEWORK,
        "return ⟦film⟧ or 1",
        "What is done with film asks the database, not to read it.",
    ),
    (
        LIBRARY,
        "return [a for a in ⟦films⟧]",
        "Whether films of a library ever ends is not sure.",
    ),
    (
        {**FILMS, "orm_model": "app.Seat"},
        "return [(a, b) for a in ⟦Film.objects.all()⟧ for b in Genre.objects.all()]",
        "Which loop of the comprehension asked the database is not sure.",
    ),
    (
        {**GENRES, "orm_operation": "iterate"},
        "return sums(1 for film in ⟦films⟧ for genre in film.genres.all())",
        "It is in a generator expression, which cannot await for who reads it.",
    ),
    (
        FILMS,
        "return ⟦zip(films, film.genres)⟧",
        "Which argument of zip(films, film.genres) is the queryset is not sure.",
    ),
    (
        FILMS,
        "from itertools import chain\n    return [a for a in ⟦chain.from_iterable([films])⟧]",
        "Which argument of chain.from_iterable([films]) is the queryset is not sure.",
    ),
    (
        FILMS,
        "for a in ⟦film.shelf(itertools.cycle(films))⟧:\n        print(a)",
        "Whether film.shelf(itertools.cycle(films)) ever ends is not sure.",
    ),
    (
        FILMS,
        "return ⟦film.rows(1)⟧",
        "How film.rows(1) evaluates a queryset in f is not sure.",
    ),
    (
        SLICE,
        "return ⟦film.rows(1)⟧",
        "What is done with the truth of film.rows(1) is not sure.",
    ),
    (
        FILMS,
        "return lambda: sum(len([a for a in ⟦Film.objects.all()⟧]) for _ in films)",
        "It is in a lambda, where await is not allowed.",
    ),
    (
        FILMS,
        "return ⟦sum(film.a for film in Film.objects.all() for b in film.c)⟧",
        "Which loop of sum(film.a for film in Film.objects.all() for b in film.c) asked the database is not sure.",
    ),
    *(
        (
            FILMS,
            f"return {code}",
            "It is in a generator expression, which cannot await for who reads it.",
        )
        for code in (
            "any(film.a() for film in ⟦Film.objects.all()⟧)",
            "all(film.a for film in ⟦Film.objects.all()⟧ if film['a'])",
            "any(film.a.b for film in ⟦Film.objects.all()⟧)",
            "map(str, (film.a for film in ⟦Film.objects.all()⟧))",
            "films(film.a for film in ⟦Film.objects.all()⟧)",
            "film[0](film.a for film in ⟦Film.objects.all()⟧)",
            "(film.a for film in ⟦Film.objects.all()⟧)",
        )
    ),
    (
        FILMS,
        "return ⟦Film.objects.all() == 3⟧",
        "What this comparison evaluates is not sure.",
    ),
    (
        {**FILMS, "on_stack": False},
        "films = Film.objects.all()\n    ⟦return films⟧",
        "Whether a queryset is returned here is not sure.",
    ),
    (
        {**FILMS, "on_stack": False, "access": "forward_relation"},
        "⟦return Film.objects.all()⟧",
        "What was returned was evaluated by the framework, not in a line of code.",
    ),
    (
        SLICE,
        "return 1 if ⟦Film.objects.all() and Film.objects.all()⟧ else 2",
        "Which part of Film.objects.all() and Film.objects.all() asked the database is not sure.",
    ),
    (
        SLICE,
        "return [a for a in ⟦Film.objects.all()⟧ if a.all()]",
        "Which condition of the comprehension asked the database is not sure.",
    ),
    (
        {**GENRES, "orm_operation": "iterate"},
        "return ⟦render(film.genres.all(), other.all())⟧",
        "How render(film.genres.all(), other.all()) evaluates a queryset in f is not sure.",
    ),
]
WRITE_REFUSALS = [
    (ITEM, "⟦session['a']⟧ += 1", "An assignment cannot be moved to a thread as it is."),
    (ITEM, "a = ⟦session['a']⟧ = 1", "An assignment cannot be moved to a thread as it is."),
    (ITEM, "del ⟦session['a']⟧, b", "app/views.py would not compile any more."),
    (FILMS, "return 3 in(⟦films⟧)", "app/views.py would not be Python any more."),
    (DIRECTOR, "⟦film.director⟧ = 1", "An assignment cannot be moved to a thread as it is."),
    (
        DIRECTOR,
        "return ⟦[(b := film).director]⟧",
        "It assigns or yields in the middle of an expression.",
    ),
    (
        DIRECTOR,
        "return ⟦(await film.load())['director']⟧",
        "It awaits, or asks super(), in what would have to move to a thread.",
    ),
]
COROUTINE_REFUSALS = [
    (
        {**LOST, "on_stack": False},
        "⟦x = film.asave()⟧",
        "x = film.asave() is not a call that could be awaited.",
    ),
    (LOST, "⟦film.title⟧", "film.title is not a call that could be awaited."),
    (LOST, "await ⟦film.asave()⟧", "It is awaited already."),
    (PROTOCOL, "return ⟦await load()⟧", "What await load() awaits is not sure."),
    (PROTOCOL, "return ⟦await film⟧", "What await film awaits is not sure."),
    (
        PROTOCOL,
        "async with ⟦film.lock()⟧:\n        pass",
        "What lock is cannot be seen in the code.",
    ),
    (PROTOCOL, "return ⟦self.load().title⟧", "What self.load().title should be is not sure."),
    (
        PROTOCOL,
        "async def load():\n        yield 1\n    return ⟦load().title⟧",
        "What load().title should be is not sure.",
    ),
    (
        PROTOCOL,
        "def lock():\n        yield 1\n    async with ⟦lock()⟧:\n        pass",
        "lock is not an async generator.",
    ),
    (
        PROTOCOL,
        "@other\n    async def lock():\n        yield 1\n    async with ⟦lock()⟧:\n        pass",
        "lock is decorated already.",
    ),
]
BLOCK = "with ⟦transaction.atomic()⟧:\n        "
BLOCK_REFUSALS = [
    ("global x\n        x = 1", "The block declares names of another scope."),
    ("a = 1\n        del a", "The block deletes names, so it cannot become a function."),
    ("asyncio.current_task()", "The block uses asyncio, which is not only the ORM."),
    (
        "async def g():\n            pass\n        g()",
        "The block defines an async function.",
    ),
    (
        "def g():\n            pass\n    return g",
        "Whether g always has a value after the block is not sure.",
    ),
    (
        "if (b := a):\n            pass\n    return b",
        "Whether b always has a value after the block is not sure.",
    ),
    (
        "with open(a) as b:\n            pass\n    return b",
        "Whether b always has a value after the block is not sure.",
    ),
    (
        "match a:\n            case [b, *c]:\n                pass\n    return c",
        "Whether c always has a value after the block is not sure.",
    ),
    (
        "match a:\n            case {'x': 1, **rest}:\n                pass\n    return rest",
        "Whether rest always has a value after the block is not sure.",
    ),
    (
        "await sync_to_async(g, thread_sensitive=True)()",
        "The block awaits sync_to_async, which is not only the ORM.",
    ),
]
IN_A_FUNCTION = [
    *ROW_REFUSALS,
    *WRITE_REFUSALS,
    *COROUTINE_REFUSALS,
    *((ATOMIC, BLOCK + body, reason) for body, reason in BLOCK_REFUSALS),
    (
        ATOMIC,
        "⟦with suppress(ValueError), transaction.atomic():\n        pass⟧",
        "The block opens more than the transaction or the cursor.",
    ),
    *(
        (
            ATOMIC,
            f"try:\n        with ⟦transaction.atomic()⟧:\n            a = film.save()\n    {handler}\n"
            "        print(a)",
            "What handles an error of the block reads a.",
        )
        for handler in ("except ValueError:", "finally:")
    ),
    (
        SAVE,
        "with transaction.atomic():\n        def g():\n            ⟦a.save()⟧\n        g()",
        "g is a sync def inside the async f, and cannot await.",
    ),
]


@pytest.mark.parametrize(("keys", "body", "reason"), IN_A_FUNCTION)
def test_refused(keys, body, reason, tmp_path):
    """
    Where it is not sure what the code does, or ``await`` would not do the same, nothing is changed.
    """
    assert refusal(tmp_path, f"async def f(film, films):\n    {body}\n", **keys) == reason


IN_A_MODULE = [
    (
        PROTOCOL,
        "from app.locks import lock\n\n\nasync def f():\n    async with ⟦lock()⟧:\n        pass\n",
        "What lock is cannot be seen in the code.",
    ),
    (
        PROTOCOL,
        "async def load():\n    return 1\n\n\nasync def f():\n    return ⟦await load()⟧\n",
        "What await load() awaits is not sure.",
    ),
    (
        DIRECTOR,
        "class A:\n    async def f(self):\n        return ⟦super().films['x']⟧\n",
        "It awaits, or asks super(), in what would have to move to a thread.",
    ),
    (
        {**LIBRARY, "on_stack": False},
        "class Films:\n    ⟦films: list[Film]⟧\n\n    async def f(self):\n        pass\n",
        "No async function of the project leads to views.Films, so nothing can be awaited.",
    ),
]


@pytest.mark.parametrize(("keys", "code", "reason"), IN_A_MODULE)
def test_refused_in_its_module(keys, code, reason, tmp_path):
    """
    The same goes for what depends on the code around the function.
    """
    assert refusal(tmp_path, code, **keys) == reason


# --- what looks much the same, and is rewritten ------------------------------------------------

REWRITTEN = [
    (
        "rows of a page",
        FRAMEWORK,
        "for a in ⟦films⟧:\n        return a",
        "for a in await sync_to_async(list)(films):\n        return a",
    ),
    *(
        (
            f"{after.split('(')[0]} of a generator expression",
            FILMS,
            f"return {code}",
            f"return {after}",
        )
        for code, after in (
            (
                "sum(film.a for film in ⟦Film.objects.all()⟧ if film.b())",
                "sum([film.a async for film in Film.objects.all() if film.b()])",
            ),
            (
                "sorted((film.a for film in ⟦Film.objects.all()⟧), key=str)",
                "sorted([film.a async for film in Film.objects.all()], key=str)",
            ),
            (
                "', '.join(film.a for film in ⟦Film.objects.all()⟧)",
                "', '.join([film.a async for film in Film.objects.all()])",
            ),
            (
                "⟦max(film.a for film in Film.objects.all())⟧",
                "max([film.a async for film in Film.objects.all()])",
            ),
            (
                "any(film.a > 3 and not film.b for film in ⟦Film.objects.all()⟧ if film.c)",
                "any([film.a > 3 and not film.b async for film in Film.objects.all() if film.c])",
            ),
            (
                "min(film.a for film in ⟦films⟧)",
                "min(film.a for film in await sync_to_async(list)(films))",
            ),
        )
    ),
    (
        "what a generator expression awaits",
        COUNT,
        "return sum(a + sum(⟦b.films.count()⟧ for b in a) for a in films)",
        "return sum([a + sum([await b.films.acount() for b in a]) for a in films])",
    ),
    (
        "slice that is asked for",
        SLICE,
        "if ⟦Film.objects.all()[:1]⟧:\n        return 1",
        "if await Film.objects.all()[:1].aexists():\n        return 1",
    ),
    (
        "slice of what may be there",
        SLICE,
        "if ⟦films[:1]⟧:\n        return 1",
        "if await sync_to_async(bool)(films[:1]):\n        return 1",
    ),
    (
        "what may be nothing at all",
        SLICE,
        "assert ⟦film.get('rows')⟧ and [a for a in film if ⟦a.rows(1)⟧]\n"
        "    return ⟦film.get('rows')⟧ or film or []",
        "assert await sync_to_async(bool)(film.get('rows')) and "
        "[a for a in film if await sync_to_async(bool)(a.rows(1))]\n"
        "    return await sync_to_async(lambda: film.get('rows') or film or [])()",
    ),
    (
        "all of what may be something else",
        FILMS,
        "return ⟦len(films)⟧, ⟦dict(film.rows(1))⟧, ⟦bool(film.get('a'))⟧",
        "return await sync_to_async(len)(films), await sync_to_async(dict)(film.rows(1)), "
        "await sync_to_async(bool)(film.get('a'))",
    ),
    (
        "name that has a list on another way",
        FILMS,
        "a = cache.get(film)\n    if a is None:\n        a = Film.objects.all()\n"
        "    for b in ⟦a⟧:\n        print(b)",
        "a = cache.get(film)\n    if a is None:\n        a = Film.objects.all()\n"
        "    for b in await sync_to_async(list)(a):\n        print(b)",
    ),
    (
        "name that can be read once",
        FILMS,
        "a = Film.objects.iterator()\n    for b in ⟦a⟧:\n        print(b)",
        "a = Film.objects.iterator()\n    for b in await sync_to_async(list)(a):\n        print(b)",
    ),
    (
        "method of a manager that the project wrote",
        FILMS,
        "for b in ⟦Film.objects.shown()⟧:\n        print(b)",
        "async for b in Film.objects.shown():\n        print(b)",
    ),
    (
        "name that goes in steps",
        FILMS,
        "a = Film.objects.all()\n    a = a.shown().values()\n    for b in ⟦a⟧:\n        print(b)",
        "a = Film.objects.all()\n    a = a.shown().values()\n    async for b in a:\n        print(b)",
    ),
    (
        "what sets and dicts have as well",
        FILMS,
        "for b in ⟦film.values()⟧:\n        film += ⟦film.union(film)⟧\n        a, b = ⟦film.rows()⟧",
        "for b in await sync_to_async(list)(film.values()):\n"
        "        film += await sync_to_async(list)(film.union(film))\n"
        "        a, b = await sync_to_async(list)(film.rows())",
    ),
    *(
        (f"argument of {code.strip('⟦⟧')[:12]}", FILMS, f"return {code}", f"return {after}")
        for code, after in (
            (
                "⟦zip(Book.objects.all(), Film.objects.all(), 'ab')⟧",
                "zip([row async for row in Book.objects.all()], [row async for row in Film.objects.all()], 'ab')",
            ),
            (
                "⟦zip(films, range(3))⟧",
                "zip(await sync_to_async(list)(films), range(3))",
            ),
            (
                "⟦map(operator.attrgetter('a'), films)⟧",
                "map(operator.attrgetter('a'), await sync_to_async(list)(films))",
            ),
            (
                "⟦sum(films, decimal.Decimal(0))⟧",
                "sum(await sync_to_async(list)(films), decimal.Decimal(0))",
            ),
            (
                "⟦list(more.chain(films, Film.objects.all()))⟧",
                "await sync_to_async(list)(more.chain(films, Film.objects.all()))",
            ),
            (
                "⟦film.update(Film.objects.values_list('pk'))⟧",
                "film.update([row async for row in Film.objects.values_list('pk')])",
            ),
            (
                "[*⟦[*Film.objects.all(), *Book.objects.all(), *[1]]⟧]",
                "[*[*[row async for row in Film.objects.all()], *[row async for row in Book.objects.all()], *[1]]]",
            ),
        )
    ),
    *(
        (
            f"argument of {code}",
            FILMS,
            f"{start}\n    return ⟦{code}⟧",
            f"{start}\n    return {after}",
        )
        for start, code, after in (
            (
                "import itertools as more",
                "more.islice(Film.objects.all(), 2)",
                "more.islice([row async for row in Film.objects.all()], 2)",
            ),
            (
                "from heapq import nlargest as most",
                "most(2, Film.objects.all(), key=a)",
                "most(2, [row async for row in Film.objects.all()], key=a)",
            ),
            (
                "import itertools",
                "itertools.chain(Film.objects.all(), films)",
                "itertools.chain([row async for row in Film.objects.all()], films)",
            ),
        )
    ),
    (
        "what an expression asks for, up to Python 3.11",
        SLICE,
        "return ⟦1 if Film.objects.all() else 2⟧",
        "return 1 if await Film.objects.all().aexists() else 2",
    ),
    (
        "what an expression asks for",
        SLICE,
        "if ⟦film.a and Film.objects.all()⟧:\n        return Film.objects.all() or 1",
        "if film.a and await Film.objects.all().aexists():\n        return Film.objects.all() or 1",
    ),
    (
        "the only part that is asked for",
        SLICE,
        "return ⟦Film.objects.all() or Film.objects.none()⟧",
        "return [row async for row in Film.objects.all()] or Film.objects.none()",
    ),
    (
        "what an expression asks for first",
        SLICE,
        "for a in (⟦films[:1] or []⟧):\n        return ⟦not films[:2]⟧",
        "for a in await sync_to_async(lambda: (films[:1] or []))():\n"
        "        return not await sync_to_async(bool)(films[:2])",
    ),
    (
        "first of two loops",
        FILMS,
        "return [(a, b) for a in ⟦Film.objects.all()⟧ for b in Genre.objects.all()]",
        "return [(a, b) async for a in Film.objects.all() for b in Genre.objects.all()]",
    ),
    (
        "second of two loops",
        {**FILMS, "orm_model": "app.Genre"},
        "return [(a, b) for a in ⟦films⟧ for b in Genre.objects.all()]",
        "return [(a, b) for a in films async for b in Genre.objects.all()]",
    ),
    (
        "name of a name",
        FILMS,
        "a = Film.objects.all()\n    b = a\n    for film in ⟦b⟧:\n        print(film)",
        "a = Film.objects.all()\n    b = a\n    async for film in b:\n        print(film)",
    ),
    (
        "what a call of a call returns may be a list",
        FILMS,
        "for film in ⟦load()()⟧:\n        print(film)",
        "for film in await sync_to_async(list)(load()()):\n        print(film)",
    ),
    (
        "list of a parameter",
        FILMS,
        "return ⟦list(films)⟧",
        "return await sync_to_async(list)(films)",
    ),
    (
        "another consumer of a parameter",
        FILMS,
        "return ⟦sorted(films, key=title)⟧",
        "return sorted(await sync_to_async(list)(films), key=title)",
    ),
    (
        "membership of a parameter",
        FILMS,
        "return ⟦3 in films⟧",
        "return 3 in await sync_to_async(list)(films)",
    ),
    (
        "the argument that is a queryset",
        FILMS,
        "return ⟦zip(films, Film.objects.all())⟧",
        "return zip(films, [row async for row in Film.objects.all()])",
    ),
    (
        "returned to the framework",
        {**FILMS, "on_stack": False},
        "⟦return Film.objects.all()⟧",
        "return [row async for row in Film.objects.all()]",
    ),
    (
        "call for objects of a relation",
        {**GENRES, "orm_operation": "prefetch_related_objects"},
        "return ⟦prefetch_related_objects(films, 'genres')⟧",
        "return await sync_to_async(prefetch_related_objects)(films, 'genres')",
    ),
    (
        "function that only the project knows",
        {**TWIN, "orm_operation": "load"},
        "from app.common import load\n    return ⟦load(Film)⟧",
        "from app.common import load\n    return await sync_to_async(load)(Film)",
    ),
    (
        "brackets that hold comments",
        FILMS,
        "return ⟦set(  # all\n        Film.objects.all()\n    )⟧, ⟦len(\n        Film.objects.all()  # all\n    )⟧",
        "return await sync_to_async(set)(  # all\n        Film.objects.all()\n    ), "
        "await sync_to_async(len)(\n        Film.objects.all()  # all\n    )",
    ),
    (
        "parentheses of a generator expression that hold comments",
        FILMS,
        "return ⟦sum(\n        (  # all\n        film.a for film in Film.objects.all()\n        # the end\n        )\n    )⟧",
        "return sum(\n        [  # all\n        film.a async for film in Film.objects.all()\n        # the end\n        ]\n    )",
    ),
    (
        "function by another name",
        TWIN,
        "return ⟦load(Film)⟧",
        "return await sync_to_async(load)(Film)",
    ),
    (
        "comparison with a session",
        ITEM,
        "return ⟦session == 3⟧",
        "return await sync_to_async(lambda: session == 3)()",
    ),
    (
        "slice of a session",
        ITEM,
        "return ⟦session[1:2]⟧",
        "return await sync_to_async(lambda: session[1:2])()",
    ),
    (
        "attribute of a session",
        ITEM,
        "return ⟦session.keys⟧",
        "return await sync_to_async(lambda: session.keys)()",
    ),
    (
        "user that came from elsewhere",
        USER,
        "return ⟦film.user.pk⟧",
        "return await sync_to_async(lambda: film.user.pk)()",
    ),
    (
        "user of a request in a context",
        USER,
        "return ⟦films.context['request'].user.pk⟧",
        "return (await films.context['request'].auser()).pk",
    ),
    (
        "user in a lambda, besides",
        USER,
        "g(lambda: request.user)\n    return ⟦request.user.pk⟧",
        "g(lambda: request.user)\n    return await sync_to_async(lambda: request.user.pk)()",
    ),
    (
        "user that the function sets",
        USER,
        "request.user = g()\n    return ⟦request.user.pk⟧",
        "request.user = g()\n    return await sync_to_async(lambda: request.user.pk)()",
    ),
    (
        "user before a login",
        USER,
        "await sync_to_async(login)(request, film)\n    return ⟦request.user.pk⟧",
        "await sync_to_async(login)(request, film)\n"
        "    return await sync_to_async(lambda: request.user.pk)()",
    ),
    (
        "attribute of what is awaited",
        DIRECTOR,
        "return ⟦(await film.load()).director⟧",
        'return await sync_to_async(getattr)(await film.load(), "director")',
    ),
    (
        "call of what is awaited",
        LIBRARY,
        "return ⟦(await load())(film)⟧",
        "return await sync_to_async(await load())(film)",
    ),
    (
        "no call of a library",
        LIBRARY,
        "return ⟦film.token⟧",
        "return await sync_to_async(lambda: film.token)()",
    ),
    (
        "async_to_sync by another name",
        LOOP,
        "return ⟦load(1)⟧",
        "return await sync_to_async(load)(1)",
    ),
    (
        "async_to_sync with options",
        LOOP,
        "return ⟦async_to_sync(load, force_new_loop=True)(1)⟧",
        "return await sync_to_async(async_to_sync(load, force_new_loop=True))(1)",
    ),
    (
        "async_to_sync that shows no call",
        LOOP,
        "return ⟦film.title⟧",
        "return await sync_to_async(lambda: film.title)()",
    ),
    (
        "lost coroutine of a whole statement",
        {**LOST, "on_stack": False},
        "⟦film.asave()⟧",
        "await film.asave()",
    ),
    (
        "coroutine as an argument",
        PROTOCOL,
        "async def load():\n        return 1\n    return ⟦shown(load()).title⟧",
        "async def load():\n        return 1\n    return shown(await load()).title",
    ),
    (
        "coroutine function of its own, moved and awaited",
        PROTOCOL,
        "async def load():\n        return 1\n    return ⟦await sync_to_async(load)()⟧",
        "async def load():\n        return 1\n    return await load()",
    ),
    (
        "block that may fail",
        ATOMIC,
        "try:\n        with ⟦transaction.atomic()⟧:\n            a = film.save()\n"
        "    except ValueError as b:\n        return b\n    return a",
        "try:\n        def in_transaction():\n            with transaction.atomic():\n"
        "                a = film.save()\n            return a\n\n"
        "        a = await sync_to_async(in_transaction)()\n"
        "    except ValueError as b:\n        return b\n    return a",
    ),
    (
        "break of a loop in the block",
        ATOMIC,
        "with ⟦transaction.atomic()⟧:\n        for a in films:\n            break",
        "def in_transaction():\n        with transaction.atomic():\n            for a in films:\n"
        "                break\n\n    await sync_to_async(in_transaction)()",
    ),
    (
        "name of the block's function that is taken",
        ATOMIC,
        "in_transaction = 1\n    with ⟦transaction.atomic()⟧:\n        film.save(in_transaction)",
        "in_transaction = 1\n    def in_transaction_2():\n        with transaction.atomic():\n"
        "            film.save(in_transaction)\n\n    await sync_to_async(in_transaction_2)()",
    ),
    (
        "functions and modules of the block",
        ATOMIC,
        "with ⟦transaction.atomic()⟧:\n        import os\n        key = lambda: os.name\n"
        "        count: int = film.count(key)\n    return count, os",
        "def in_transaction():\n        with transaction.atomic():\n            import os\n"
        "            key = lambda: os.name\n            count: int = film.count(key)\n"
        "        return count, os\n\n    count, os = await sync_to_async(in_transaction)()\n"
        "    return count, os",
    ),
    (
        "awaits over several lines in the block",
        ATOMIC,
        "with ⟦transaction.atomic()⟧:\n        a = (await film.aget(\n            pk=1,\n        )).name\n    return a",
        "def in_transaction():\n        with transaction.atomic():\n            a = (film.get(\n"
        "                pk=1,\n            )).name\n        return a\n\n"
        "    a = await sync_to_async(in_transaction)()\n    return a",
    ),
]


@pytest.mark.parametrize(
    ("keys", "before", "after"), [pytest.param(*row[1:], id=row[0]) for row in REWRITTEN]
)
def test_rewritten(keys, before, after, tmp_path):
    """
    The near miss of a refusal is rewritten, in the best way that is sure to be right.
    """
    text, patch = fixed(tmp_path, function_of(before), **keys)

    assert [each.refusal for each in patch.refused] == []
    assert text.removeprefix("from asgiref.sync import sync_to_async\n\n") == function_of(after)


def function_of(body):
    return f"async def f(film, films):\n    {body}\n"


def test_attribute_of_super(tmp_path):
    """
    ``super()`` is asked where it stands, only its attribute is read in a thread.
    """
    text, _ = fixed(
        tmp_path,
        "class A:\n    async def f(self):\n        return ⟦super().director⟧\n",
        **DIRECTOR,
    )

    assert text == (
        "from asgiref.sync import sync_to_async\n\nclass A:\n    async def f(self):\n"
        '        return await sync_to_async(getattr)(super(), "director")\n'
    )


def test_twin_of_an_aliased_function(tmp_path):
    """
    A shortcut imported from elsewhere may be another function: it goes to a thread as it is.
    """
    text, _ = fixed(
        tmp_path,
        "from app.shortcuts import load\n\n\nasync def f():\n    return ⟦load(Film)⟧\n",
        **GET,
    )

    assert "    return await sync_to_async(load)(Film)\n" in text
