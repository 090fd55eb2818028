"""Who met a new version: requests its pods served, by Prometheus's own count of each pod.

What the rollout says of itself is what it meant to do. What its pods counted is what users met:
whether any did, from when to when, and how many against the weight it was given.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.evidence.model import Series, Sighting
from harness.verdict.case import Case
from harness.verdict.clocks import Offset, prometheus_ahead
from harness.verdict.rollouts import Course, pods_of

SERIES = "requests_by_pod"
#: Prometheus may miss a scrape now and then; more in a row, and nothing is known of that time.
_MISSED_STEPS = 3
#: A weight takes effect, and ends, this long after it was set.
_TAKES_EFFECT_S = 1.0


@dataclass(frozen=True)
class Exposure:
    """Requests served by the new version (``served``), and by both (``total``).

    ``first`` and ``last``: ``(low, high)`` of the instants of its first and last request, None
    when it served none. ``expected_low`` and ``expected_high`` bound what the weights that were
    seen account for; ``unseen`` more may have met it while nobody saw its weight. ``why_not`` says
    why it is not known; empty when it is.
    """

    served: float = 0.0
    total: float = 0.0
    first: tuple[float, float] | None = None
    last: tuple[float, float] | None = None
    expected_low: float = 0.0
    expected_high: float = 0.0
    unseen: float = 0.0
    why_not: str = ""


def exposure(case: Case, course: Course) -> Exposure:
    """What the pods of both versions served from the delivery until it was taken back."""
    until_t = course.until_t
    ahead = prometheus_ahead(case, range(math.floor(course.from_t), math.ceil(until_t)))
    series = _by_our_clock(case.evidence.series.get(SERIES), ahead)
    problem = course.why_not or _unusable(series, course.from_t, until_t)
    if series is None or problem:
        return Exposure(why_not=problem)
    sightings = [s for s in case.evidence.seen(course.subject) if s.t <= until_t]
    new = frozenset().union(*(pods_of(s.value, course.new) for s in sightings))
    old = frozenset().union(*(pods_of(s.value, course.old) for s in sightings))
    counters = _counters(series, new | old)
    if not counters.keys() & old:
        return Exposure(why_not=f"{SERIES}: no pod of {course.subject} in it")
    instants = sorted({t for points in counters.values() for t in points})
    # A counter begins with a request, or with the first scrape where that is later: what it then
    # tells of may have begun with the first user that was sent there.
    appears = {min(points) for pod, points in counters.items() if pod in new and points}
    sent_t = min((seen.low for seen in course.seen if seen.weight > 0), default=math.inf)
    found, stable = Exposure(), 0.0
    for a, b in itertools.pairwise(instants):
        if not course.from_t <= b <= until_t:
            continue
        grown = {pod: _growth(points, a, b) for pod, points in counters.items()}
        if any(math.isnan(value) for value in grown.values()):
            return Exposure(why_not=f"{SERIES}: not a number")
        served = sum(value for pod, value in grown.items() if pod in new)
        stable += sum(value for pod, value in grown.items() if pod in old)
        # What a range query gives for an instant was scraped up to an interval before it.
        spread_s = (ahead.high_s - ahead.low_s) / 2
        begun = [_since(points, a) for pod, points in counters.items() if grown[pod]]
        low = min(begun, default=a) - series.step_s - spread_s
        if served and not found.first and b in appears:
            low = min(low, sent_t)
        found = _with(found, course, (low, b + spread_s), served, sum(grown.values()))
    if lost := _uncounted(sightings, course, counters, new, _MISSED_STEPS * series.step_s):
        return Exposure(why_not=lost)
    if not stable:
        # It serves until some users at least are sent to the other: these counters stand still.
        return Exposure(why_not=f"{SERIES}: no request to the version before was counted")
    return found


def _uncounted(
    sightings: Sequence[Sighting],
    course: Course,
    counters: Mapping[str, Mapping[float, float]],
    new: frozenset[str],
    most_s: float,
) -> str:
    """Which pod of the new version was there for longer than ``most_s`` after it was counted last:
    what it served then is in no count. Empty if none was."""
    for pod in sorted(new & counters.keys()):
        counted_t = max((t for t in counters[pod] if t <= course.until_t), default=math.inf)
        there_t = -math.inf
        for seen, after in itertools.zip_longest(sightings, sightings[1:]):
            if pod in pods_of(seen.value, course.new):
                there_t = course.until_t if after is None else after.t - after.uncertainty_s
        if there_t - counted_t > most_s:
            return f"{SERIES}: {pod} was there {there_t - counted_t:.0f} s longer than counted"
    return ""


def _by_our_clock(series: Series | None, ahead: Offset) -> Series | None:
    """The series with its instants moved by how far Prometheus's clock is ahead of ours."""
    if series is None or not ahead.middle_s:
        return series
    lines = (
        replace(line, points=tuple((t - ahead.middle_s, value) for t, value in line.points))
        for line in series.result
    )
    return replace(series, result=tuple(lines))


def _with(
    so_far: Exposure,
    course: Course,
    span: tuple[float, float],
    served: float,
    total: float,
) -> Exposure:
    """``so_far`` and what was counted at some time within ``span``."""
    weights = _weights(course, span[0] - _TAKES_EFFECT_S, span[1])
    return Exposure(
        so_far.served + served,
        so_far.total + total,
        so_far.first or (span if served else None),
        span if served else so_far.last,
        so_far.expected_low + total * min(weights) / 100,
        so_far.expected_high + total * max(weights) / 100,
        so_far.unseen + (total if _unwatched(course, *span) else 0.0),
    )


def _unwatched(course: Course, start_t: float, end_t: float) -> bool:
    """Whether, at some time between two instants, the weight may have been one nobody saw: the
    look before a sighting lies further back than a weight takes to take effect."""
    return any(
        seen.uncertainty_s > _TAKES_EFFECT_S and seen.low <= end_t and start_t <= seen.t
        for seen in course.seen
    )


def _weights(course: Course, start_t: float, end_t: float) -> list[float]:
    """Every weight that may have been in force between two instants."""
    found = [0.0]
    for seen, after in itertools.zip_longest(course.seen, course.seen[1:]):
        until_t = math.inf if after is None else after.t
        if seen.low <= end_t and until_t >= start_t:
            found.append(seen.weight)
    begun = any(seen.low <= start_t for seen in course.seen)
    return found[1:] if begun else found


def _counters(series: Series, pods: frozenset[str]) -> dict[str, dict[float, float]]:
    """pod → instant → requests counted, of these pods."""
    found: dict[str, dict[float, float]] = {}
    for line in series.result:
        pod = line.labels.get("pod", "")
        if pod in pods:
            points = found.setdefault(pod, {})
            for t, value in line.points:
                points[t] = points.get(t, 0.0) + _number(value)
    return found


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) and value >= 0 else math.nan


def _growth(points: Mapping[float, float], a: float, b: float) -> float:
    """Requests counted between two instants: a pod that appears began at zero, as does one that
    was started again."""
    if b not in points:
        return 0.0
    before = points.get(_since(points, a), 0.0)
    return points[b] if points[b] < before else points[b] - before


def _since(points: Mapping[float, float], a: float) -> float:
    """Since when the next point tells of requests: the last instant until ``a`` with a point. One
    of which a scrape was missed tells of the time before it too."""
    return max((t for t in points if t <= a), default=a)


def _unusable(series: Series | None, start_t: float, end_t: float) -> str:
    """Why the series says nothing of the time between two instants; empty if it does."""
    if series is None:
        return f"{SERIES}: not recorded"
    if series.error or series.status != "success":
        return f"{SERIES}: {series.error or series.status or 'no status'}"
    if series.warnings:
        return f"{SERIES}: partial: {series.warnings[0]}"
    instants = sorted({t for line in series.result for t, _ in line.points})
    inside = [start_t, *(t for t in instants if start_t < t < end_t), end_t]
    widest = max((b - a for a, b in itertools.pairwise(inside)), default=math.inf)
    if widest > _MISSED_STEPS * series.step_s:
        return f"{SERIES}: nothing for {widest:.0f} s of the delivery"
    if not any(t <= start_t for t in instants):
        return f"{SERIES}: nothing from before the delivery"
    return ""


def surely_more(n: float, expected: float) -> bool:
    """Whether ``n`` of a count expected to be at most ``expected`` is no chance any more."""
    return n > expected + _SIGMAS * math.sqrt(expected) + 1


def surely_less(n: float, expected: float) -> bool:
    """Whether ``n`` of a count expected to be at least ``expected`` is no chance any more."""
    return n < expected - _SIGMAS * math.sqrt(expected) - 1


#: Five standard deviations of a Poisson count: one delivery in three million strays further.
_SIGMAS = 5.0


def said(shares: Iterable[float]) -> str:
    """Weights in words: ``20 %, then 50 %``."""
    distinct = [f"{share:g} %" for share, _ in itertools.groupby(shares) if share > 0]
    return ", then ".join(distinct) or "none"
