"""Operations of a schema with fields and permissions that hit."""

from tests.fix.corpus._graphql import ask
from tests.testapp.models import Membership


async def resolver_as_an_argument():
    return await ask("{films {title by}}")


async def fields_by_other_names():
    return await ask("{films {genreNames}}")


async def two_ways_to_a_field():
    return await ask('{films {strandName} film(title: "Stalker") {strandName}}')


async def permission(request):
    return await ask("{titles constant}", request)


async def permission_that_awaits(request):
    return await ask("{both}", request)


async def permission_that_refuses():
    await Membership.objects.all().adelete()
    return await ask("{constant}")
