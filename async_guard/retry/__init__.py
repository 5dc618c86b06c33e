"""Carries out refused calls in the worker thread. See ``docs/retry.md``."""
