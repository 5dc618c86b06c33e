from typing import Self

import strawberry
from rest_framework_simplejwt.tokens import RefreshToken


@strawberry.type
class TokenPayload:
    success: bool
    message: str
    access_token: str | None = None
    refresh_token: str | None = None

    @classmethod
    def granted(cls, refresh: RefreshToken, **fields: object) -> Self:
        return cls(
            success=True,
            message="Welcome.",
            access_token=str(refresh.access_token),
            refresh_token=str(refresh),
            **fields,
        )

    @classmethod
    def refused(cls, message: str) -> Self:
        return cls(success=False, message=message)
