from django.utils.decorators import async_only_middleware, sync_only_middleware


@async_only_middleware
def greet(get_response):
    async def middleware(request):
        request.greeting = f"Hello {request.user.username}"  # <- the access [greet]
        return await get_response(request)

    return middleware


@async_only_middleware
def greet_if_possible(get_response):
    async def middleware(request):
        try:
            request.greeting = f"Hello {request.user.username}"  # <- the access [greet_if_possible]
        except Exception:
            request.greeting = "Hello"
        return await get_response(request)

    return middleware


@sync_only_middleware
def greet_in_thread(get_response):
    def middleware(request):
        request.greeting = f"Hello {request.user.username}"
        return get_response(request)

    return middleware
