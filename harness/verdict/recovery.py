"""When the service was good again, and stayed so.

Recovery is the first instant from which every window of a few seconds is good, to the
end of the time watched: a service that comes back and falls over again has not recovered.
The instant is known to a second, so the recovery time is an interval and is judged as one.
"""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass

from harness.plan.model import Failback, Latency, Recovery
from harness.verdict.case import Case
from harness.verdict.landing import Landing
from harness.verdict.model import Finding, Measured, Outcome, judge_at_most
from harness.verdict.sufficiency import LATE_SHARE, late_share

#: Of the planned arrivals of a window, this share must succeed.
GOOD = 0.99
#: A window has at least this many seconds, and at least this many planned arrivals, so that
#: one failure among few arrivals does not count as an outage.
WINDOW_S = 3
WINDOW_ARRIVALS = 100


@dataclass(frozen=True)
class Held:
    """The condition holds from an instant in ``[low, high]`` to the end of the time watched.

    ``held`` is True, False (it does not hold at the end) or None (not known); ``low`` is then
    the last instant at which it surely did not hold. ``relapses`` counts how often it was lost
    again after having been regained.
    """

    held: bool | None
    low: float
    high: float
    relapses: int
    because: str


def held_from(case: Case, start_t: float, end_t: float, latency: Latency | None) -> Held:
    """From when the service was good, between two instants."""
    window = _window(case, math.floor(start_t), math.floor(end_t))
    first, last = math.floor(start_t), math.floor(end_t) - window
    if last < first:
        return Held(None, start_t, end_t, 0, "the time watched is too short to tell")
    states = [_good(case, range(s, s + window), latency) for s in range(first, last + 1)]
    relapses = sum(
        1
        for index in range(1, len(states))
        if states[index] is False and states[index - 1] is True and False in states[:index]
    )
    bad = [first + index for index, state in enumerate(states) if state is False]
    doubtful = [first + index for index, state in enumerate(states) if state is not True]
    low = max(start_t, float(bad[-1])) if bad else start_t
    if states[-1] is not True:
        because = "not good at the end" if states[-1] is False else "too little traffic to tell"
        return Held(states[-1], low, end_t, relapses, because)
    high = max(start_t, float(doubtful[-1] + 1)) if doubtful else start_t
    because = f"lost again {relapses} times" if relapses else "stays good"
    return Held(True, low, high, relapses, because)


def _window(case: Case, first: int, end: int) -> int:
    """Seconds that every window from ``first`` to ``end`` must have to hold enough arrivals.

    More than there are when even all of them would not be enough.
    """
    curve = case.plan.traffic.curve
    if curve.is_constant:
        return max(WINDOW_S, math.ceil(WINDOW_ARRIVALS / curve.peak))
    sums = [0.0, *itertools.accumulate(case.due(s, s + 1) for s in range(first, end))]
    sizes = range(WINDOW_S, len(sums))

    def enough(size: int) -> bool:
        windows = zip(sums, sums[size:], strict=False)
        return all(after - before >= WINDOW_ARRIVALS for before, after in windows)

    # A longer window holds no fewer, so the first that is enough can be searched for.
    found = bisect.bisect_left(sizes, True, key=enough)
    return sizes[found] if found < len(sizes) else len(sums)


def _good(case: Case, seconds: range, latency: Latency | None) -> bool | None:
    """Whether the arrivals of a window went well; None when it cannot be told."""
    counts = case.by_second.over(seconds)
    if counts.planned < 0.5 * case.due(seconds.start, seconds.stop):
        return None
    share = counts.availability()
    if share is None:
        return None
    good = _at_least(GOOD, share.low, share.high)
    if latency is None or good is False:
        return good
    within = counts.within(latency.below_s)
    fast = None if within is None else _at_least(latency.fraction, within.low, within.high)
    if fast is False and late_share(case, seconds) > LATE_SHARE:
        # The generator was late itself: slow answers then say nothing of the service.
        fast = None
    return False if fast is False else None if None in (good, fast) else True


def _at_least(bound: float, low: float, high: float) -> bool | None:
    return True if low >= bound else False if high < bound else None


def latency_of(case: Case, phase: str) -> Latency | None:
    """The latency objective of all operations that covers ``phase``, the strictest of several."""
    found = [
        o
        for o in case.plan.objectives
        if isinstance(o, Latency) and phase in o.phases and not o.operations
    ]
    return min(found, key=lambda o: (o.below_s, -o.fraction), default=None)


def watched_until(case: Case, fault: str) -> tuple[float, str] | None:
    """To when recovery is watched: the end of the recovery phase; with a failback, which has
    a clock of its own, to the moment the fault is taken back."""
    if any(isinstance(o, Failback) and fault in o.faults for o in case.plan.objectives):
        undo_t = case.undo_start(fault)
        return None if undo_t is None else (undo_t, "until the fault was taken back")
    span = case.span(f"recovery:{fault}")
    if span is None or span.end_t is None:
        return None
    return span.end_t, "to the end of the recovery"


def judge_recovery(case: Case, objective: Recovery, landed: Landing) -> Finding:
    """Seconds from the landing until the service was good, and stayed so."""
    phase = f"recovery:{landed.fault}"
    required = f"good within {objective.within_s:g} s of the landing, and from then on"
    evidence = ("tallies/", "history.jsonl fault.made")
    until = watched_until(case, landed.fault)
    if not landed.landed or until is None:
        because = landed.why_not or "the recovery was not watched to its end"
        return Finding(objective.text, phase, Outcome.UNKNOWN, None, required, because, evidence)
    held = held_from(case, landed.low, until[0], latency_of(case, phase))
    if held.held is not True:
        # Of an end that nobody saw it is known, too, how long it was bad before.
        bad_s = (until[0] if held.held is False else held.low) - landed.high
        too_long = held.held is False or bad_s > objective.within_s
        outcome = Outcome.FAIL if too_long else Outcome.UNKNOWN
        measured = Measured(None, bad_s, None, "s") if too_long else None
        because = f"not recovered {until[1]}: {held.because}"
        if too_long and held.held is None:
            because = f"still bad {bad_s:.1f} s after the landing, and then {held.because}"
        return Finding(objective.text, phase, outcome, measured, required, because, evidence)
    low, high = max(0.0, held.low - landed.high), max(0.0, held.high - landed.low)
    return Finding(
        objective.text,
        phase,
        judge_at_most(objective.within_s, low, high),
        Measured(high, low, high, "s"),
        required,
        f"good from {low:.1f}–{high:.1f} s after the landing {until[1]}; {held.because}",
        evidence,
    )


def outages(case: Case, seconds: range) -> tuple[int, int]:
    """``(known_s, failures)``: how many of ``seconds`` can be told, and how often the service
    stopped being good in them. One that was not good from the start on counts too."""
    window = _window(case, seconds.start, seconds.stop)
    starts = range(seconds.start, seconds.stop - window + 1)
    states = [_good(case, range(s, s + window), None) for s in starts]
    known_s = sum(state is not None for state in states)
    bad = [True, *(state is not False for state in states)]
    return known_s, sum(before and not now for before, now in itertools.pairwise(bad))
