"""Bounds from few observations, in closed form: of Poisson counts and of Student's t.

Each bound holds with the confidence stated: in the long run the true value lies beyond it in
``alpha`` of all cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable

#: Of each bound by itself.
CONFIDENCE = 0.95


def poisson_at_most(n: int, mean: float) -> float:
    """Probability of at most ``n`` events where ``mean`` are expected."""
    if n < 0:
        return 0.0
    if mean <= 0:
        return 1.0
    logs = [k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(n + 1)]
    return min(1.0, math.fsum(map(math.exp, logs)))


def poisson_upper(n: int, alpha: float = 1 - CONFIDENCE) -> float:
    """The mean under which ``n`` events or fewer have probability ``alpha``: half the
    ``1 − alpha`` quantile of χ² with ``2n + 2`` degrees of freedom (Garwood 1936)."""
    return _decreasing_root(lambda mean: poisson_at_most(n, mean) - alpha)


def poisson_lower(n: int, alpha: float = 1 - CONFIDENCE) -> float:
    """The mean under which ``n`` events or more have probability ``alpha``: half the ``alpha``
    quantile of χ² with ``2n`` degrees of freedom; 0 for no event."""
    if n == 0:
        return 0.0
    return _decreasing_root(lambda mean: poisson_at_most(n - 1, mean) - (1 - alpha))


def student_quantile(p: float, df: int) -> float:
    """The ``p`` quantile (above one half) of Student's t with ``df`` degrees of freedom."""
    return _decreasing_root(lambda t: p - student_at_most(t, df))


def student_at_most(t: float, df: int) -> float:
    """Probability that Student's t is at most ``t`` (≥ 0), by the finite sums for whole degrees
    of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(df))
    cos, sin = math.cos(angle), math.sin(angle)
    if df == 1:
        return 0.5 + angle / math.pi
    term = total = 1.0 if df % 2 == 0 else cos
    for k in range(2 + df % 2, df - 1, 2):
        term *= cos * cos * (k - 1) / k
        total += term
    if df % 2 == 0:
        return 0.5 + sin * total / 2
    return 0.5 + (angle + sin * total) / math.pi


def _decreasing_root(f: Callable[[float], float]) -> float:
    """The argument above zero at which ``f`` falls through zero."""
    high = 1.0
    while f(high) > 0:
        high *= 2
    low = 0.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) > 0 else (low, middle)
    return high
