from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from strawberry.django.views import AsyncGraphQLView

from config import schema, schema_fixed


def graphql(schema):
    """Serve *schema* with GraphiQL. Tokens, not cookies: there is no CSRF here."""
    return csrf_exempt(AsyncGraphQLView.as_view(schema=schema, graphql_ide="graphiql"))


urlpatterns = [
    path("graphql/", graphql(schema.schema)),
    path("graphql-fixed/", graphql(schema_fixed.schema)),
]
