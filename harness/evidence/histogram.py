"""A log-linear histogram: durations as counts, mergeable, with a known error.

A load generator cannot keep every latency, and an average of percentiles means
nothing. Counts in fixed buckets can be added across seconds and processes without
loss, and what the buckets blur is stated: every figure read from one is an interval.

A value is a number of microseconds ``v``, cut to quarters. With octave ``e = floor(log2 v)``
its bucket is ``e * 128 + floor((v - 2^e) * 128 / 2^e)``: 128 buckets for each doubling, so
the middle of a bucket is within 0.4 % of any value in it, from 32 µs on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

BUCKETS_PER_OCTAVE = 128

#: bucket index → number of values in it
Histogram = dict[int, int]


class Interval(NamedTuple):
    """The figure is somewhere in ``[low, high]``."""

    low: float
    high: float


def index_of(value_us: float) -> int:
    """Bucket of a duration in microseconds; anything below 1 µs counts as 1 µs."""
    quarters = int(value_us * 4)
    if quarters < 4:
        quarters = 4
    octave = quarters.bit_length() - 1
    return ((octave - 2) << 7) + (((quarters - (1 << octave)) << 7) >> octave)


def bounds_us(index: int) -> Interval:
    """The durations, in microseconds, that fall into bucket ``index``: ``[low, high)``.

    Durations are cut to quarters of a microsecond before they are counted, so a bucket is
    never narrower than that. Raises ValueError for a negative index.
    """
    if index < 0:
        raise ValueError(f"bucket index {index} is negative")
    octave, step = divmod(index, BUCKETS_PER_OCTAVE)
    width = 2.0**octave / BUCKETS_PER_OCTAVE
    low = 2.0**octave + step * width
    return Interval(low, low + max(width, 0.25))


def record(histogram: Histogram, value_s: float) -> None:
    """Count one duration of ``value_s`` seconds."""
    index = index_of(value_s * 1e6)
    histogram[index] = histogram.get(index, 0) + 1


def merge(histograms: Iterable[Mapping[int, int]]) -> Histogram:
    """The sum of several histograms, as a new one."""
    total: Histogram = {}
    for histogram in histograms:
        for index, n in histogram.items():
            total[index] = total.get(index, 0) + n
    return total


def count(histogram: Mapping[int, int]) -> int:
    """How many values were counted."""
    return sum(histogram.values())


def quantile_us(histogram: Mapping[int, int], q: float) -> Interval | None:
    """Where the ``q`` quantile (nearest rank, ``0 <= q <= 1``) lies, in microseconds.

    None when nothing was counted. Raises ValueError when ``q`` is out of range.
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"quantile {q} is not between 0 and 1")
    n = count(histogram)
    if n == 0:
        return None
    # 0.95 * 100 is 95.00000000000001 for some n: do not let that move the rank.
    rank = max(1, math.ceil(round(q * n, 6)))
    seen = 0
    for index in sorted(histogram):
        seen += histogram[index]
        if seen >= rank:
            return bounds_us(index)
    raise ValueError("a bucket holds a negative count")


def fraction_below(histogram: Mapping[int, int], threshold_us: float) -> Interval | None:
    """The fraction of values at or below ``threshold_us``; None when nothing was counted.

    The bucket the threshold cuts through counts fully in ``high`` and not in ``low``.
    """
    n = count(histogram)
    if n == 0:
        return None
    surely = possibly = 0
    for index, in_bucket in histogram.items():
        low, high = bounds_us(index)
        surely += in_bucket if high <= threshold_us else 0
        possibly += in_bucket if low <= threshold_us else 0
    return Interval(surely / n, possibly / n)


def to_json(histogram: Mapping[int, int]) -> dict[str, int]:
    """The histogram as a JSON object (keys are text there), smallest bucket first."""
    return {str(index): histogram[index] for index in sorted(histogram)}


def from_json(data: Mapping[str, int]) -> Histogram:
    """The histogram written by :func:`to_json`. Raises ValueError on a key that is no index."""
    return {int(index): n for index, n in data.items()}
