"""The middle of many measurements, and how far to trust it."""

from __future__ import annotations

from statistics import quantiles


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return the first quartile, the median and the third, also of a single value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, middle, upper = quantiles(values, n=4, method="inclusive")
    return lower, middle, upper
