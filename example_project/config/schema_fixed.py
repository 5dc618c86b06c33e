"""The API of `schema.py`, mended: same operations, right answers, no hits."""

import strawberry
from async_guard.integrations.strawberry import AsyncGuardExtension

from auth_api.fixed import AuthMutation
from otps.fixed import OtpMutation
from users.fixed import Query


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
