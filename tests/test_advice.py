"""
The rules as pure functions: hits made by hand, and what is said about them word for word.

That real code leaves such hits is for ``test_rules.py`` and the zoo.
"""

from dataclasses import dataclass, fields, replace

import django
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from async_guard.access import ACCESSES
from async_guard.advice import DOCS, RULES, Advice, advise, describe
from async_guard.hit import LEVELS, Hit

PEERS = (
    " On Django 6.1 and later .fetch_mode(models.FETCH_PEERS) loads {} for all rows at once."
    if django.VERSION >= (6, 1)
    else ""
)


def reading(name, access="forward_relation", **more):
    """Return the hit of one relation or column of a film that is read in an async function."""
    known = {
        "relation": f"testapp.Film.{name}",
        "orm_model": "testapp.Film",
        "orm_field": name,
        "text": f"film.{name}",
    }
    return Hit(**IN_ASYNC_DEF | known | more, access=access)


def calling(text, operation, access="queryset", **more):
    """Return the hit of a call in an async function."""
    known = {"orm_model": "testapp.Film"} if access == "queryset" else {}
    return Hit(**IN_ASYNC_DEF | known | more, access=access, text=text, orm_operation=operation)


PAGINATOR = ({"function": "django.core.paginator.Paginator.page", "in_app": False},)
IN_ASYNC_DEF = {"function": "cinema.views.page", "path": "cinema/views.py", "line": 7}
IN_ASYNC_DEF |= {"in_async_def": True}
IN_DEF = {"function": "cinema.prices.Price.total", "in_async_def": False}
IN_RESOLVER = {"function": "shop.types.Film.name", "in_async_def": False}
IN_RESOLVER |= {"graphql_resolver": "shop.types:Film.name"}
UNKNOWN_SITE = {"function": "?", "text": "", "in_async_def": False}


@dataclass(frozen=True)
class Row:
    """A hit and what is said about it."""

    id: str
    hit: Hit
    rule: str
    sentence: str
    after: str


ROWS = [
    # --- AG101 ----------------------------------------------------------------------------------
    Row(
        "forward_relation",
        reading("director"),
        "AG101",
        'Use select_related("director") on the queryset that loads the Film.',
        '….select_related("director")',
    ),
    Row(
        "reverse_one_to_one",
        reading("restoration", "reverse_one_to_one"),
        "AG101",
        'Use select_related("restoration") on the queryset that loads the Film.',
        '….select_related("restoration")',
    ),
    Row(
        "relation_below_a_graphql_field",
        reading("director", graphql_field="FilmType.director", graphql_parent="Query.films"),
        "AG101",
        'Use select_related("director") where Query.films loads the Film.',
        '….select_related("director")',
    ),
    Row(
        "relation_in_a_root_field",
        reading("director", graphql_field="Query.bestFilm"),
        "AG101",
        'Use select_related("director") where Query.bestFilm loads the Film.',
        '….select_related("director")',
    ),
    Row(
        "relation_in_a_sync_function",
        reading("director", **IN_DEF),
        "AG101",
        'Use select_related("director") on the queryset that loads the Film.',
        '….select_related("director")',
    ),
    Row(
        "relation_without_model_and_field",
        Hit(access="forward_relation", relation="testapp.Film.director"),
        "AG101",
        'Use select_related("director") on the queryset that loads the object.',
        '….select_related("director")',
    ),
    Row(
        "relation_of_which_nothing_is_known",
        Hit(access="reverse_one_to_one", graphql_parent="Query.films"),
        "AG101",
        'Use select_related("…") where Query.films loads the object.',
        '….select_related("…")',
    ),
    Row(
        "relation_of_an_object_that_the_resolver_found",
        reading(
            "user",
            text="review.user",
            orm_model="testapp.Review",
            graphql_field="Film.reviewers",
            graphql_parent="Query.films",
            **IN_RESOLVER | {"in_async_def": True},
        ),
        "AG101",
        'Use select_related("user") on the queryset that loads the Review.',
        '….select_related("user")',
    ),
    Row(
        "relation_behind_a_relation",
        reading(
            "studio",
            text='hasattr(self.director, "studio")',
            orm_model="testapp.Director",
            graphql_field="Film.studio",
            graphql_parent="Query.films",
            **IN_RESOLVER | {"in_async_def": True},
        ),
        "AG101",
        'Use select_related("director__studio") where Query.films loads the object.',
        '….select_related("director__studio")',
    ),
    # --- AG102 ----------------------------------------------------------------------------------
    Row(
        "plain_field_reads_a_relation",
        reading("director", plain_field=True, graphql_field="Film.directorName", **IN_DEF),
        "AG102",
        'Write @strawberry_django.field(select_related=["director"]) instead of '
        "@strawberry.field on Film.directorName: it runs the resolver in a thread.",
        '@strawberry_django.field(select_related=["director"])',
    ),
    Row(
        "plain_field_reads_to_many",
        reading(
            "genres",
            "many_to_many",
            orm_operation="iterate",
            plain_field=True,
            graphql_field="Film.genreNames",
            **IN_DEF,
        ),
        "AG102",
        'Write @strawberry_django.field(prefetch_related=["genres"]) instead of '
        "@strawberry.field on Film.genreNames: it runs the resolver in a thread.",
        '@strawberry_django.field(prefetch_related=["genres"])',
    ),
    Row(
        "plain_field_reads_a_column",
        reading(
            "synopsis", "deferred_field", plain_field=True, graphql_field="Film.intro", **IN_DEF
        ),
        "AG102",
        'Write @strawberry_django.field(only=["synopsis"]) instead of @strawberry.field on '
        "Film.intro: it runs the resolver in a thread.",
        '@strawberry_django.field(only=["synopsis"])',
    ),
    Row(
        "plain_field_counts",
        calling(
            "Film.objects.count()",
            "count",
            plain_field=True,
            graphql_field="Film.rank",
            **IN_DEF,
        ),
        "AG102",
        "Write @strawberry_django.field instead of @strawberry.field on Film.rank: it runs the "
        "resolver in a thread.",
        "@strawberry_django.field",
    ),
    Row(
        "plain_field_reads_behind_a_relation",
        reading(
            "studio",
            text="self.director.studio",
            orm_model="testapp.Director",
            plain_field=True,
            graphql_field="Film.studioName",
            **IN_RESOLVER,
        ),
        "AG102",
        'Write @strawberry_django.field(select_related=["director__studio"]) instead of '
        "@strawberry.field on Film.studioName: it runs the resolver in a thread.",
        '@strawberry_django.field(select_related=["director__studio"])',
    ),
    Row(
        "plain_field_reads_of_another_object",
        reading(
            "user",
            text="review.user",
            plain_field=True,
            graphql_field="Film.reviewers",
            **IN_RESOLVER,
        ),
        "AG102",
        "Write @strawberry_django.field instead of @strawberry.field on Film.reviewers: it runs "
        "the resolver in a thread.",
        "@strawberry_django.field",
    ),
    Row(
        "permission_of_a_plain_field",
        calling(
            "Genre.objects.count()",
            "count",
            orm_model="testapp.Genre",
            plain_field=True,
            graphql_field="Film.rank",
            **IN_RESOLVER | {"function": "shop.permissions.HasGenres.has_permission"},
        ),
        "AG119",
        "HasGenres.has_permission is a sync function that the event loop called: make it async "
        "and use await Genre.objects.acount(), or call it with "
        "await sync_to_async(HasGenres.has_permission)(…).",
        "await sync_to_async(HasGenres.has_permission)(…)",
    ),
    Row(
        "plain_field_writes_to_a_relation",
        reading(
            "reviews",
            "related_manager",
            orm_operation="create",
            plain_field=True,
            graphql_field="Film.viewed",
            **IN_DEF,
        ),
        "AG102",
        "Write @strawberry_django.field instead of @strawberry.field on Film.viewed: it runs the "
        "resolver in a thread.",
        "@strawberry_django.field",
    ),
    # --- AG103 ----------------------------------------------------------------------------------
    Row(
        "to_many",
        reading("genres", "many_to_many", orm_operation="iterate", text="film.genres.all()"),
        "AG103",
        'Use prefetch_related("genres") on the queryset that loads the Film.',
        '….prefetch_related("genres")',
    ),
    Row(
        "related_manager_below_a_graphql_field",
        reading("reviews", "related_manager", orm_operation="len", graphql_parent="Query.film"),
        "AG103",
        'Use prefetch_related("reviews") where Query.film loads the Film.',
        '….prefetch_related("reviews")',
    ),
    Row(
        "generic_foreign_key",
        reading("content_object", "generic_relation"),
        "AG103",
        'Use prefetch_related("content_object") on the queryset that loads the Film.',
        '….prefetch_related("content_object")',
    ),
    Row(
        "prefetch_of_loaded_objects",
        reading(
            "genres",
            "many_to_many",
            orm_operation="prefetch",
            text='prefetch_related_objects([film], "genres")',
        ),
        "AG103",
        'Use prefetch_related("genres") on the queryset that loads the Film.',
        '….prefetch_related("genres")',
    ),
    Row(
        "filtered_relation_in_a_sync_function",
        reading(
            "reviews",
            "related_manager",
            orm_operation="iterate",
            text="film.reviews.filter(stars=5)",
            **IN_DEF,
        ),
        "AG103",
        'Use prefetch_related(Prefetch("reviews", queryset, to_attr=…)) on the queryset that '
        "loads the Film.",
        '….prefetch_related(Prefetch("reviews", queryset, to_attr=…))',
    ),
    # --- AG104 ----------------------------------------------------------------------------------
    Row(
        "deferred_column",
        reading("synopsis", "deferred_field"),
        "AG104",
        'Add "synopsis" to .only(), or take it out of .defer(), on the queryset that loads the '
        "Film.",
        '….only(…, "synopsis")',
    ),
    Row(
        "deferred_column_in_a_graphql_field",
        reading(
            "director_id",
            "deferred_field",
            graphql_field="Film.directorKey",
            graphql_parent="Query.films",
        ),
        "AG104",
        'Add "director_id" to .only(), or take it out of .defer(), where Query.films loads the '
        'Film, or to the field\'s hints: @strawberry_django.field(only=["director_id"]).',
        '….only(…, "director_id")',
    ),
    # --- AG105 ----------------------------------------------------------------------------------
    Row(
        "queryset_method",
        calling('Film.objects.get(title="Stalker")', "get"),
        "AG105",
        'Use await Film.objects.aget(title="Stalker").',
        'await Film.objects.aget(title="Stalker")',
    ),
    Row(
        "save",
        calling("review.save()", "save", "instance_write", orm_model="testapp.Review"),
        "AG105",
        "Use await review.asave().",
        "await review.asave()",
    ),
    Row(
        "manager_method_of_a_relation",
        reading("genres", "many_to_many", orm_operation="add", text="film.genres.add(genre)"),
        "AG105",
        "Use await film.genres.aadd(genre).",
        "await film.genres.aadd(genre)",
    ),
    Row(
        "method_of_the_same_name_in_an_argument",
        calling('Film.objects.filter(pk=data.get("pk")).get()', "get"),
        "AG105",
        'Use await Film.objects.filter(pk=data.get("pk")).aget().',
        'await Film.objects.filter(pk=data.get("pk")).aget()',
    ),
    Row(
        "operation_as_the_end_of_a_longer_name",
        calling("Film.objects.by_target(1)", "get"),
        "AG105",
        "Use await ….aget(…).",
        "await ….aget(…)",
    ),
    Row(
        "call_on_several_lines",
        calling("Review.objects.update_or_create(\n    film=film,\n)", "update_or_create"),
        "AG105",
        "Use await Review.objects.aupdate_or_create( film=film, ).",
        "await Review.objects.aupdate_or_create( film=film, )",
    ),
    Row(
        "end_of_a_chain_on_several_lines",
        calling("get(pk=1)", "get"),
        "AG105",
        "Use await ….aget(pk=1).",
        "await ….aget(pk=1)",
    ),
    Row(
        "call_without_its_text",
        calling("", "count"),
        "AG105",
        "Use await ….acount(…).",
        "await ….acount(…)",
    ),
    Row(
        "call_that_was_cut_off",
        calling('Film.objects.filter(title__in=["Stalker", "Pla', "count"),
        "AG105",
        "Use await ….acount(…).",
        "await ….acount(…)",
    ),
    # --- AG106 ----------------------------------------------------------------------------------
    Row(
        "list_of_a_queryset",
        calling("list(Film.objects.all())", "iterate"),
        "AG106",
        "Evaluate the queryset with async for: [row async for row in Film.objects.all()].",
        "[row async for row in Film.objects.all()]",
    ),
    Row(
        "loop_over_a_variable",
        calling("films", "iterate"),
        "AG106",
        "Evaluate the queryset with async for: [row async for row in films].",
        "[row async for row in films]",
    ),
    Row(
        "sorted_with_a_key",
        calling("sorted(films, key=len)", "iterate"),
        "AG106",
        "Evaluate the queryset with async for: [row async for row in films].",
        "[row async for row in films]",
    ),
    Row(
        "slice_of_a_queryset",
        calling("films[:2]", "slice"),
        "AG106",
        "Evaluate the queryset with async for: [row async for row in films[:2]].",
        "[row async for row in films[:2]]",
    ),
    Row(
        "len",
        calling("len(films)", "len"),
        "AG106",
        "Evaluate the queryset with async for: [row async for row in films], or use await "
        "films.acount() if the rows are not needed.",
        "[row async for row in films]",
    ),
    Row(
        "truth",
        calling("films", "bool"),
        "AG106",
        "Evaluate the queryset with async for: [row async for row in films], or use await "
        "films.aexists() if the rows are not needed.",
        "[row async for row in films]",
    ),
    Row(
        "membership",
        calling("film in Film.objects.all()", "iterate"),
        "AG106",
        "Use await Film.objects.all().acontains(film).",
        "await Film.objects.all().acontains(film)",
    ),
    Row(
        "first_row",
        calling("films[0]", "slice"),
        "AG106",
        "Use await films.afirst().",
        "await films.afirst()",
    ),
    Row(
        "another_row",
        calling("films[3]", "slice"),
        "AG106",
        "Evaluate the queryset with async for: [row async for row in films].",
        "[row async for row in films]",
    ),
    Row(
        "iterator",
        calling("list(films.iterator())", "iterate"),
        "AG106",
        "Evaluate the queryset with async for: [row async for row in films.aiterator()].",
        "[row async for row in films.aiterator()]",
    ),
    Row(
        "function_of_the_project",
        calling("list(films_of(user))", "iterate"),
        "AG106",
        "Evaluate the queryset with async for: [row async for row in films_of(user)].",
        "[row async for row in films_of(user)]",
    ),
    *(
        Row(
            f"no_queryset_{number}",
            calling(text, "iterate"),
            "AG106",
            "Evaluate the queryset with async for: [row async for row in queryset].",
            "[row async for row in queryset]",
        )
        for number, text in enumerate(
            (
                "a, b",
                "[*films]",
                "films or None",
                "map(str, films)",
                "', '.join(films)",
                'f"{films}"',
                "",
                "films[",
            )
        )
    ),
    Row(
        "filtered_relation",
        reading(
            "reviews",
            "related_manager",
            orm_operation="iterate",
            text="film.reviews.filter(stars=5)",
        ),
        "AG106",
        "Evaluate the queryset with async for: "
        "[row async for row in film.reviews.filter(stars=5)].",
        "[row async for row in film.reviews.filter(stars=5)]",
    ),
    Row(
        "rows_of_raw_sql",
        calling("films", "iterate", "raw_sql", orm_model="testapp.Film"),
        "AG106",
        "Evaluate the queryset with async for: [row async for row in films].",
        "[row async for row in films]",
    ),
    Row(
        "returned_queryset",
        calling("return Film.objects.all()", "iterate", on_stack=False, **IN_DEF),
        "AG106",
        "Return the rows, not the queryset: [row async for row in queryset].",
        "[row async for row in queryset]",
    ),
    # --- AG107 to AG109 -------------------------------------------------------------------------
    Row(
        "request_user",
        Hit(access="lazy_user", relation="request.user", orm_operation="get_user"),
        "AG107",
        "Use await request.auser() in an async function; request.user loads the session and the "
        "user.",
        "user = await request.auser()",
    ),
    Row(
        "request_user_in_a_library",
        calling("log.info(user)", "get_user", "lazy_user", owner="dependency"),
        "AG107",
        "Use await request.auser() in an async function; request.user loads the session and the "
        "user.",
        "user = await request.auser()",
    ),
    Row(
        "request_user_in_a_mixin",
        Hit(access="lazy_user", owner="framework", owner_package="django", on_stack=False),
        "AG107",
        "Set request.user = await request.auser() in async middleware: django reads request.user "
        "before the view runs.",
        "request.user = await request.auser()",
    ),
    Row(
        "get_object_or_404",
        calling("get_object_or_404(Film, pk=1)", "get_object_or_404"),
        "AG108",
        "Use await aget_object_or_404(…).",
        "await aget_object_or_404(Film, pk=1)",
    ),
    Row(
        "get_list_or_404_in_a_sync_function",
        calling("get_list_or_404(Film)", "get_list_or_404", **IN_DEF),
        "AG108",
        "Use await aget_list_or_404(…) in an async function.",
        "await aget_list_or_404(Film)",
    ),
    *(
        Row(
            f"session_{operation}",
            calling(text, operation, "session", relation="request.session"),
            "AG109",
            f"Use await request.session.{method}(…).",
            f"await request.session.{method}(…)",
        )
        for operation, text, method in (
            ("get", 'request.session.get("basket")', "aget"),
            ("cycle_key", "request.session.cycle_key()", "acycle_key"),
            ("__getitem__", 'request.session["basket"]', "aget"),
            ("__setitem__", 'request.session["basket"]', "aset"),
            ("__delitem__", 'request.session["basket"]', "apop"),
            ("__contains__", '"basket" in request.session', "ahas_key"),
        )
    ),
    Row(
        "session_in_a_sync_function",
        calling('request.session.get("basket")', "get", "session", **IN_DEF),
        "AG109",
        "Use await request.session.aget(…) in an async function.",
        "await request.session.aget(…)",
    ),
    Row(
        "session_without_an_operation",
        Hit(**IN_ASYNC_DEF, access="session"),
        "AG109",
        "Use await request.session.aget(…).",
        "await request.session.aget(…)",
    ),
    # --- AG110 to AG112 -------------------------------------------------------------------------
    Row(
        "transaction",
        calling("transaction.atomic()", "atomic", "transaction"),
        "AG110",
        "Put the whole transaction into one sync function and call it with sync_to_async: "
        "transactions do not work in async code.",
        "@sync_to_async\n@transaction.atomic\ndef change(): …\n\nawait change()",
    ),
    Row(
        "transaction_on_a_coroutine_function",
        calling("change()", "atomic_coroutine", "transaction"),
        "AG121",
        "Move the body of the async def into one sync function with @transaction.atomic and call "
        "it with sync_to_async: the transaction would end before the body begins.",
        "@sync_to_async\n@transaction.atomic\ndef change(): …\n\nawait change()",
    ),
    Row(
        "transaction_across_an_await",
        replace(calling("await pay()", "await", "transaction"), kind="transaction_across_await"),
        "AG122",
        "Put the whole transaction into one sync function, call it with sync_to_async, and await "
        "before or after it: until then it keeps its locks and its connection.",
        "@sync_to_async\n@transaction.atomic\ndef change(): …\n\nawait change()",
    ),
    Row(
        "library",
        calling(
            "RefreshToken.for_user(user)", "create", owner="dependency", owner_package="simplejwt"
        ),
        "AG111",
        "Use await sync_to_async(RefreshToken.for_user)(…): simplejwt uses the database in it.",
        "await sync_to_async(RefreshToken.for_user)(user)",
    ),
    Row(
        "unknown_library_in_a_sync_function",
        calling("form.is_valid()", "get", owner="framework", **IN_DEF),
        "AG111",
        "Use await sync_to_async(Price.total)(…) in the async code that calls it: the library "
        "uses the database in it.",
        "await sync_to_async(Price.total)(…)",
    ),
    Row(
        "property_of_a_library",
        calling("paginator.count", "count", owner="framework", owner_package="django"),
        "AG111",
        "Use await sync_to_async(lambda: paginator.count)(): django uses the database in it.",
        "await sync_to_async(lambda: paginator.count)()",
    ),
    Row(
        "property_of_what_a_call_returns",
        calling("Paginator(films, 10).count", "count", owner="framework", owner_package="django"),
        "AG111",
        "Use await sync_to_async(lambda: Paginator(films, 10).count)(): django uses the database "
        "in it.",
        "await sync_to_async(lambda: Paginator(films, 10).count)()",
    ),
    Row(
        "rows_of_a_library",
        calling("page", "iterate", owner="framework", owner_package="django"),
        "AG111",
        "Use await sync_to_async(list)(page): django uses the database in it.",
        "await sync_to_async(list)(page)",
    ),
    *(
        Row(
            f"page_of_a_{name}",
            calling("paginator.page(number)", "count", owner="framework", frames=frames),
            "AG111",
            "Use await sync_to_async(paginator.page)(…): the library uses the database in it."
            + more,
            "await sync_to_async(paginator.page)(number)",
        )
        for name, frames, more in (
            (
                "paginator",
                PAGINATOR,
                " The rows of a page are lazy: read them in the same function.",
            ),
            ("book", (), ""),
        )
        if django.VERSION < (6, 0) or not frames
    ),
    Row(
        "library_without_text",
        calling("", "count", owner="dependency", owner_package="simplejwt"),
        "AG111",
        "Use await sync_to_async(function)(…): simplejwt uses the database in it.",
        "await sync_to_async(function)(…)",
    ),
    *(
        Row(
            f"library_uses_{access}",
            calling("tool.run()", "get", access, owner="dependency", owner_package="tool"),
            "AG111",
            "Use await sync_to_async(tool.run)(…): tool uses the database in it.",
            "await sync_to_async(tool.run)()",
        )
        for access in ("session", "cache", "auth")
    ),
    Row(
        "cursor",
        calling("connection.cursor()", "cursor", "raw_sql"),
        "AG112",
        "Put the SQL and all that uses its cursor or its rows into one sync function and call it "
        "with sync_to_async.",
        "@sync_to_async\ndef query(): …\n\nawait query()",
    ),
    Row(
        "connection",
        calling("connection.ensure_connection()", "ensure_connection", "connection"),
        "AG112",
        "Put the SQL and all that uses its cursor or its rows into one sync function and call it "
        "with sync_to_async.",
        "@sync_to_async\ndef query(): …\n\nawait query()",
    ),
    # --- AG113 ----------------------------------------------------------------------------------
    Row(
        "loads_of_a_relation",
        reading("director", kind="n_plus_one", count=7, **IN_DEF),
        "AG113",
        'Use select_related("director") on the queryset that loads the Film.'
        + PEERS.format("director"),
        '….select_related("director")',
    ),
    Row(
        "loads_of_a_relation_below_a_graphql_field",
        reading("director", kind="n_plus_one", graphql_parent="Query.films", **IN_DEF),
        "AG113",
        'Use select_related("director") where Query.films loads the Film.'
        + PEERS.format("director"),
        '….select_related("director")',
    ),
    Row(
        "loads_of_a_generic_foreign_key",
        reading("content_object", "generic_relation", kind="n_plus_one", **IN_DEF),
        "AG113",
        'Use prefetch_related("content_object") on the queryset that loads the Film.'
        + PEERS.format("content_object"),
        '….prefetch_related("content_object")',
    ),
    Row(
        "loads_of_a_column",
        reading("synopsis", "deferred_field", kind="n_plus_one", **IN_DEF),
        "AG113",
        'Add "synopsis" to .only(), or take it out of .defer(), on the queryset that loads the '
        "Film." + PEERS.format("synopsis"),
        '….only(…, "synopsis")',
    ),
    Row(
        "loads_of_to_many",
        reading("genres", "many_to_many", kind="n_plus_one", orm_operation="iterate", **IN_DEF),
        "AG113",
        'Use prefetch_related("genres") on the queryset that loads the Film.',
        '….prefetch_related("genres")',
    ),
    # --- AG114 to AG118 -------------------------------------------------------------------------
    Row(
        "async_to_sync",
        calling("async_to_sync(push)(1)", None, "async_to_sync", kind="async_to_sync_in_loop"),
        "AG114",
        "Await the coroutine itself: async_to_sync() is for code without a loop.",
        "await function(…)",
    ),
    Row(
        "async_to_sync_in_a_sync_function",
        Hit(kind="async_to_sync_in_loop", access="async_to_sync", **IN_DEF),
        "AG114",
        "Make Price.total async and await the coroutine in it, or call it with await "
        "sync_to_async(Price.total)(…): async_to_sync() is for code without a loop.",
        "await function(…)",
    ),
    Row(
        "cache",
        calling('caches["db"].get_or_set("a", 1)', "get_or_set", "cache"),
        "AG115",
        "Use await cache.aget_or_set(…).",
        'await caches["db"].aget_or_set("a", 1)',
    ),
    Row(
        "cache_membership",
        calling('"a" in cache', "__contains__", "cache"),
        "AG115",
        "Use await cache.ahas_key(…).",
        "await ….ahas_key(…)",
    ),
    Row(
        "cache_in_a_sync_function",
        calling('cache.get("a")', "get", "cache", **IN_DEF),
        "AG115",
        "Use await cache.aget(…) in an async function.",
        'await cache.aget("a")',
    ),
    Row(
        "content_type",
        calling(
            "ContentType.objects.get_for_model(Film)",
            "get_for_model",
            "content_type",
            orm_model="contenttypes.ContentType",
        ),
        "AG116",
        "Use await sync_to_async(ContentType.objects.get_for_model)(…): content types come from "
        "the database until they are cached.",
        "await sync_to_async(ContentType.objects.get_for_model)(Film)",
    ),
    Row(
        "content_type_over_several_lines",
        calling(
            "CT.objects.get_for_model(\n    film.model,  # mine\n    for_concrete_model=True,\n)",
            "get_for_model",
            "content_type",
        ),
        "AG116",
        "Use await sync_to_async(CT.objects.get_for_model)(…): content types come from the "
        "database until they are cached.",
        "await sync_to_async(CT.objects.get_for_model)(film.model, for_concrete_model=True)",
    ),
    Row(
        "content_type_in_a_sync_function",
        calling("types.get_for_id(1)", "get_for_id", "content_type", **IN_DEF),
        "AG116",
        "Use await sync_to_async(Price.total)(…) in the async code that calls it: content types "
        "come from the database until they are cached.",
        "await sync_to_async(Price.total)(…)",
    ),
    Row(
        "auth_function",
        calling("login(request, user)", "login", "auth"),
        "AG117",
        "Use await alogin(…).",
        "await alogin(request, user)",
    ),
    Row(
        "permission",
        calling('user.has_perm("testapp.add_film")', "has_perm", "auth"),
        "AG117",
        "Use await ahas_perm(…).",
        'await user.ahas_perm("testapp.add_film")',
    ),
    Row(
        "permission_in_a_sync_function",
        calling('user.has_perm("testapp.add_film")', "has_perm", "auth", **IN_DEF),
        "AG117",
        "Use await ahas_perm(…) in an async function.",
        'await user.ahas_perm("testapp.add_film")',
    ),
    Row(
        "template_reads_a_relation",
        reading("director", on_stack=False, text="{{ film.director.name }}", owner="framework"),
        "AG118",
        "Load Film.director before the template is rendered, or render it with await "
        "sync_to_async(render)(…).",
        "return await sync_to_async(render)(request, template, context)",
    ),
    Row(
        "template_iterates",
        calling("{% for film in films %}", "len", on_stack=False, owner="framework"),
        "AG118",
        "Load the Film rows before the template is rendered, or render it with await "
        "sync_to_async(render)(…).",
        "return await sync_to_async(render)(request, template, context)",
    ),
    Row(
        "template_of_which_nothing_is_known",
        Hit(on_stack=False, text="{% film_count %}"),
        "AG118",
        "Load what it needs before the template is rendered, or render it with await "
        "sync_to_async(render)(…).",
        "return await sync_to_async(render)(request, template, context)",
    ),
    # --- AG119 and AG120 ------------------------------------------------------------------------
    Row(
        "sync_function_iterates",
        calling("films", "iterate", **IN_DEF),
        "AG119",
        "Price.total is a sync function that the event loop called: call it with await "
        "sync_to_async(Price.total)(…).",
        "await sync_to_async(Price.total)(…)",
    ),
    Row(
        "sync_function_counts",
        calling("Film.objects.count()", "count", **IN_DEF),
        "AG119",
        "Price.total is a sync function that the event loop called: make it async and use await "
        "Film.objects.acount(), or call it with await sync_to_async(Price.total)(…).",
        "await sync_to_async(Price.total)(…)",
    ),
    Row(
        "lambda",
        calling("films", "iterate", in_async_def=False, function="cinema.views.page.<lambda>"),
        "AG119",
        "page.<lambda> is a sync function that the event loop called: call it with await "
        "sync_to_async(function)(…).",
        "await sync_to_async(function)(…)",
    ),
    Row(
        "nowhere",
        Hit(**UNKNOWN_SITE),
        "AG119",
        "? is a sync function that the event loop called: call it with await "
        "sync_to_async(function)(…).",
        "await sync_to_async(function)(…)",
    ),
    Row(
        "validation",
        calling("review.full_clean()", "full_clean", "validation"),
        "AG120",
        "Use await sync_to_async(review.full_clean)(…).",
        "await sync_to_async(review.full_clean)()",
    ),
    Row(
        "access_that_is_no_call",
        calling("film.stars", "execute"),
        "AG120",
        "Use await sync_to_async(lambda: film.stars)().",
        "await sync_to_async(lambda: film.stars)()",
    ),
    Row(
        "access_without_text",
        Hit(**IN_ASYNC_DEF),
        "AG120",
        "Use await sync_to_async(function)(…).",
        "await sync_to_async(function)(…)",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_advice(row):
    """
    What a hit is told to write instead is said in this sentence and this code.
    """
    assert advise(row.hit) == Advice(row.rule, row.sentence, row.hit.text, row.after)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("paginator.page(number)", "await paginator.apage(number)"),
        ("paginator.num_pages", "await paginator.anum_pages()"),
        ("Paginator(films, 10).get_page(1)", "await AsyncPaginator(films, 10).aget_page(1)"),
    ],
)
def test_asynchronous_paginator(text, after, monkeypatch):
    """
    From Django 6.0 on there is an AsyncPaginator.
    """
    monkeypatch.setattr(django, "VERSION", (6, 0, 0, "final", 0))
    hit = calling(text, "count", owner="framework", owner_package="django", frames=PAGINATOR)

    assert advise(hit) == Advice(
        "AG111",
        f"Make the paginator an AsyncPaginator and use {after}: django uses the database in it.",
        text,
        after,
    )


@pytest.mark.parametrize(
    "text",
    [
        "film.reviews.select_related('user')",
        "film.reviews.iterator()",
        "film.reviews.all().recent()[:3]",
        "list(film.reviews.of(user))",
    ],
)
def test_rows_that_are_not_prefetched(text):
    """
    Other rows of a relation than all() are asked for again, so they are read with async for.
    """
    hit = reading("reviews", "related_manager", text=text, orm_operation="iterate")

    assert advise(hit).rule == "AG106"


@pytest.mark.parametrize(
    "text", ["sorted(film.reviews.all(), key=by())", "film.reviews.all()[:3]", "a.of(film.reviews)"]
)
def test_rows_that_are_prefetched(text):
    """
    What is done with all() of them does not matter.
    """
    hit = reading("reviews", "related_manager", text=text, orm_operation="iterate")

    assert advise(hit).rule == "AG103"


def test_every_rule_is_tried():
    """
    The table above has a hit for every rule.
    """
    assert {row.rule for row in ROWS} == {rule.id for rule in RULES}


def test_ids():
    """
    A rule has an id of its own, and there is no gap between them.
    """
    ids = sorted(rule.id for rule in RULES)

    assert ids == [f"AG{number}" for number in range(101, 101 + len(RULES))]


# --- the order ----------------------------------------------------------------------------------

ORDER = [
    ("AG114", "AG101", reading("director", kind="async_to_sync_in_loop")),
    ("AG113", "AG101", reading("director", kind="n_plus_one")),
    ("AG118", "AG101", reading("director", on_stack=False, text="{{ film.director }}")),
    ("AG118", "AG107", Hit(access="lazy_user", on_stack=False, text="{{ user }}")),
    ("AG107", "AG111", Hit(access="lazy_user", owner="dependency")),
    ("AG111", "AG112", calling("tool.run()", "cursor", "raw_sql", owner="dependency")),
    ("AG111", "AG101", reading("director", owner="dependency")),
    ("AG102", "AG101", reading("director", plain_field=True, in_async_def=False)),
    ("AG104", "AG119", reading("synopsis", "deferred_field", in_async_def=False)),
    ("AG101", "AG119", reading("director", in_async_def=False)),
    ("AG105", "AG120", calling("films.get()", "get")),
    ("AG103", "AG119", reading("genres", "many_to_many", in_async_def=False)),
    ("AG108", "AG119", calling("", "get_object_or_404", in_async_def=False)),
    ("AG106", "AG120", calling("films", "iterate")),
    ("AG116", "AG119", calling("", "get_for_id", "content_type", in_async_def=False)),
    ("AG119", "AG120", Hit()),
]


@pytest.mark.parametrize(
    ("first", "second", "hit"), [pytest.param(*row, id="-".join(row[:2])) for row in ORDER]
)
def test_first_rule_wins(first, second, hit):
    """
    Where two rules apply, the special one stands above the general one.
    """
    rules = {rule.id: rule for rule in RULES}

    assert rules[first].applies(hit)
    assert rules[second].applies(hit)
    assert advise(hit).rule == first


def test_last_rule():
    """
    The last rule applies to everything.
    """
    assert RULES[-1].id == "AG120"
    assert all(RULES[-1].applies(row.hit) for row in ROWS)


# --- around the sentence ------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", LEVELS)
def test_outcome(outcome):
    """
    Of all outcomes, only a swallowed exception needs one more sentence.
    """
    hit = reading("director")
    more = (
        " The exception was swallowed: what was returned in its place is wrong."
        if outcome == "swallowed"
        else ""
    )

    assert advise(replace(hit, outcome=outcome)).sentence == advise(hit).sentence + more


def test_link():
    """
    An advice links to the page of its rule.
    """
    assert advise(reading("director")).docs == f"{DOCS}/AG101.md"


DESCRIPTIONS = [
    (
        reading("director", graphql_field="FilmType.director", view="cinema.views:graphql"),
        "FilmType.director read Film.director while the event loop runs (cinema/views.py:7).",
    ),
    (
        reading("director", view="cinema.views:page"),
        "cinema.views:page read Film.director while the event loop runs (cinema/views.py:7).",
    ),
    (
        reading("director"),
        "views.page read Film.director while the event loop runs (cinema/views.py:7).",
    ),
    (
        calling("films", "iterate"),
        "views.page evaluated a Film queryset while the event loop runs (cinema/views.py:7).",
    ),
    (
        calling("film.save()", "save", "instance_write", orm_model="testapp.Film"),
        "views.page called Film.save while the event loop runs (cinema/views.py:7).",
    ),
    (
        calling("transaction.atomic()", "atomic", "transaction"),
        "views.page opened a transaction while the event loop runs (cinema/views.py:7).",
    ),
    (
        calling("cache.get(1)", "get", "cache"),
        "views.page called get, which uses the database, while the event loop runs "
        "(cinema/views.py:7).",
    ),
    (
        Hit(**IN_ASYNC_DEF),
        "views.page used the database while the event loop runs (cinema/views.py:7).",
    ),
    (
        Hit(**IN_ASYNC_DEF, kind="async_to_sync_in_loop"),
        "views.page called async_to_sync while the event loop runs (cinema/views.py:7).",
    ),
    (
        reading("director", kind="n_plus_one", count=7),
        "views.page loaded Film.director 7 times, a query each (cinema/views.py:7).",
    ),
]


@pytest.mark.parametrize(("hit", "sentence"), DESCRIPTIONS)
def test_description(hit, sentence):
    """
    Who did what, and where, is one sentence.
    """
    assert describe(hit) == sentence


# --- whatever comes -----------------------------------------------------------------------------

ODD_TEXTS = [
    "",
    " ",
    "\n",
    "def films(self) -> list[Film]:",
    "film: FilmType",
    "films[",
    "await films",
    "(films)(1)",
    "'\\d'.get()",
    "films.get(\n    pk=1,\n)",
    "größe.get(pk='ü')",
    "\0",
    "\ud800",
    "{films}",
    "{% for film in films %}",
    "not " * 74 + "films",
    "films" + ".get" * 90,
    "get" + "()" * 95,
    pytest.param("-" * 500 + "films", id="deep"),
]
EVERY_RULE = sorted(rule.id for rule in RULES)


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
def test_odd_text(text):
    """
    Whatever stands at the call site, there is an advice.
    """
    advices = [advise(replace(row.hit, text=text)) for row in ROWS]

    assert {advice.before for advice in advices} == {text}
    assert [advice for advice in advices if not advice.sentence.endswith(".")] == []


OPERATIONS = ["get", "iterate", "len", "save", "cursor", "prefetch", "__contains__", "authenticate"]
TEXTS = ["list(films)", "films.get(pk=1)", "film in films", "{{ films }}", "return films"]
INTERESTING = {
    "kind": ["sync_orm", "blocking_orm", "async_to_sync_in_loop", "n_plus_one"],
    "access": [*ACCESSES],
    "outcome": [*LEVELS],
    "owner": ["app", "dependency", "framework"],
    "orm_operation": [*OPERATIONS, "get_object_or_404"],
    "relation": ["testapp.Film.director", "request.user", "a"],
    "orm_model": ["testapp.Film"],
    "function": ["cinema.views.page", "page.<lambda>", "?"],
    "text": TEXTS,
}
BY_TYPE = {
    "str": st.text(),
    "str | None": st.none() | st.text(),
    "bool": st.booleans(),
    "bool | None": st.none() | st.booleans(),
    "int": st.integers(0, 10**6),
}


def _values(field):
    if field.name not in INTERESTING:
        return BY_TYPE[field.type]
    return st.sampled_from(INTERESTING[field.name]) | BY_TYPE[field.type]


HITS = st.builds(Hit, **{each.name: _values(each) for each in fields(Hit) if each.type in BY_TYPE})


@given(hit=HITS)
@example(hit=Hit(access="cache", orm_operation="("))
@example(hit=Hit(access="auth", orm_operation="\\g<9>", text="\\g<9>("))
@example(hit=Hit(text="-" * 10_000 + "1", in_async_def=True))
def test_any_hit(hit):
    """
    Any hit has an advice: of a rule of the table, in whole sentences.
    """
    advice = advise(hit)

    assert advice.rule in EVERY_RULE
    assert advice.before == hit.text
    assert advice.sentence.endswith(".")
    assert describe(hit).endswith(".")
