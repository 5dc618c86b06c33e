from tests.testapp.models import Film


async def box_office(scope, receive, send):
    """Answer each title that arrives over the socket with its director."""
    while (message := await receive())["type"] != "websocket.disconnect":
        film = await Film.objects.aget(title=message["text"])
        answer = film.director.name  # <- the access [box_office]
        await send({"type": "websocket.send", "text": answer})
