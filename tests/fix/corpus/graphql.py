"""Operations of a schema with fields and permissions that hit."""

from tests.fix.corpus._graphql import ask, optimized
from tests.testapp.models import Membership


async def resolver_as_an_argument():
    return await ask("{films {title by}}")


async def fields_by_other_names():
    return await ask("{films {genreNames}}")


async def two_ways_to_a_field():
    return await ask('{films {strandName} film(title: "Stalker") {strandName}}')


async def async_fields_that_the_optimizer_loads():
    return await ask("{listed {title directorName genreNames}}", schema=optimized)


async def async_field_two_levels_down():
    return await ask("{listed {director {studioName}}}", schema=optimized)


async def fields_of_a_list():
    return await ask("{loaded {directorName strandName}}", schema=optimized)


async def permission(request):
    return await ask("{titles constant}", request)


async def permission_that_awaits(request):
    return await ask("{both}", request)


async def permission_that_refuses():
    await Membership.objects.all().adelete()
    return await ask("{constant}")
