from strawberry.permission import BasePermission


class IsStaff(BasePermission):
    message = "Staff only."

    def has_permission(self, source, info, **kwargs):
        user = info.context.request.user
        return user.is_authenticated and user.is_staff  # <- the access [is_staff]


class HasMembership(BasePermission):
    message = "Members only."

    def has_permission(self, source, info, **kwargs):
        try:
            user = info.context.request.user
            return bool(user.membership.motto)  # <- the access [has_membership]
        except Exception:
            return False


class IsMember(BasePermission):
    message = "Members only."

    async def has_permission(self, source, info, **kwargs):
        user = await info.context.request.auser()
        return user.membership is not None  # <- the access [is_member]
