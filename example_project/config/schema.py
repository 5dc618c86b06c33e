"""The API as it was written. `schema_fixed.py` is the same API, mended."""

import strawberry
from async_guard.integrations.strawberry import AsyncGuardExtension

from auth_api.mutations import AuthMutation
from otps.mutations import OtpMutation
from users.queries import Query


@strawberry.type
class Mutation:
    """Namespaces: `mutation { auth { login } }`."""

    @strawberry.field
    def auth(self) -> AuthMutation:
        return AuthMutation()

    @strawberry.field
    def otps(self) -> OtpMutation:
        return OtpMutation()


schema = strawberry.Schema(Query, Mutation, extensions=[AsyncGuardExtension])
