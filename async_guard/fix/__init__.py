"""
From the log to a patch: finds the expression of each hit in the checkout and rewrites it.

``planning`` is the way in. Needs libcst (``pip install 'async-guard[fix]'``); nothing else of
async_guard imports this package. What cannot be rewritten safely is refused, with the reason.
"""
