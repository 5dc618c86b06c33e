"""
Django's own tests as the peer suite of ``AUTO_RETRY = "resume"``: ``make django-suite``.

They come from Django's source distribution, and each test's body runs as synchronous code inside
an event loop, where Django refuses nearly all of them. None may fail that passes plainly.
"""
