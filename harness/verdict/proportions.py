"""Bounds of a share that is known from a simple random sample.

Those of Clopper and Pearson (1934), one-sided: whatever the true share, the bound is on the
wrong side of it in at most ``1 − confidence`` of all samples. Where the sample is a good part of
the whole they are wider than need be, never narrower. With nothing found in ``n``, the upper
bound at 95 % is about ``3 / n``.
"""

from __future__ import annotations

import math

_HALVINGS = 60


def at_most_probability(found: int, n: int, share: float) -> float:
    """Probability of at most ``found`` in a sample of ``n`` where ``share`` of all are so."""
    if found >= n or share <= 0.0:
        return 1.0
    if found < 0 or share >= 1.0:
        return 0.0
    odds = math.log(share) - math.log1p(-share)
    log_term = n * math.log1p(-share)
    total = math.exp(log_term)
    for k in range(1, found + 1):
        log_term += math.log(n - k + 1) - math.log(k) + odds
        total += math.exp(log_term)
    return min(1.0, total)


def share_at_most(found: int, n: int, confidence: float) -> float:
    """The upper bound of the share, ``found`` of ``n`` being so; 1 of an empty sample."""
    if found >= n:
        return 1.0
    # The greatest share under which so few are still to be expected.
    low, high = found / n, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        likely = at_most_probability(found, n, middle) > 1.0 - confidence
        low, high = (middle, high) if likely else (low, middle)
    return high


def share_at_least(found: int, n: int, confidence: float) -> float:
    """The lower bound of the share; 0 of an empty sample."""
    return 1.0 - share_at_most(n - found, n, confidence) if n else 0.0
