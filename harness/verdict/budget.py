"""What a run spent of an error budget, and how fast it was being spent.

The budget of an SLO is the share of arrivals that may go wrong, ``1 − slo``, for as long as its
period. A burn rate is the share that did go wrong over that: at 1 the budget lasts just the
period. What a stretch spends is its burn rate times its length over the period's, as in the
Site Reliability Workbook, chapter 5 (https://sre.google/workbook/alerting-on-slos/). So the
period is taken to carry traffic at the stretch's own rate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.plan.model import BurnRate, ErrorBudget
from harness.verdict.case import Case
from harness.verdict.model import Finding, Measured, Outcome, judge_at_most

_TALLIES = ("tallies/",)


@dataclass(frozen=True)
class _Bad:
    """Arrivals that went wrong, at least and at most, among ``total``; ``sent`` of any kind."""

    low: float = 0.0
    high: float = 0.0
    total: float = 0.0
    sent: int = 0


def judge_error_budget(case: Case, objective: ErrorBudget, phase: str) -> Finding:
    """The share of the period's budget that the phases spent together."""
    required = f"≤ {objective.at_most:.2%} of the budget of {objective.period_s / 86_400:g} d"
    if phase == "all" and len(objective.phases) < len(case.plan.phases):
        required += f" in {', '.join(objective.phases)} together"
    allowed_s = round(1 - objective.slo, 9) * objective.period_s
    low_s = high_s = 0.0
    told: list[tuple[float, str, float]] = []
    for name in objective.phases:
        good = case.counts(name).of(objective.operations).good(objective.within_s)
        seconds = len(case.seconds(name))
        if good is None:
            because = f"no arrivals in {name}"
            return Finding(objective.text, phase, Outcome.UNKNOWN, None, required, because)
        # What went wrong as seconds in which everything did.
        low_s += (1 - good.high) * seconds
        high_s += (1 - good.low) * seconds
        told.append(((1 - good.low) * seconds, name, seconds))
    low, high = low_s / allowed_s, high_s / allowed_s
    most = max(told)
    because = (
        f"as much went wrong as in {high_s:.2f} s of total failure, of {allowed_s:.0f} s that "
        f"{objective.slo:.6g} leaves in {objective.period_s / 86_400:g} d at this traffic"
    )
    if len(told) > 1 and most[0] > 0:
        because += f"; most of it in {most[1]}: {most[0]:.2f} s"
    outcome = judge_at_most(objective.at_most, low, high)
    measured = Measured(high, low, high, "ratio")
    return Finding(objective.text, phase, outcome, measured, required, because, _TALLIES)


def judge_burn_rate(case: Case, objective: BurnRate, phase: str) -> Finding:
    """The fastest burn that every window confirms, over the seconds of the phase."""
    names = " and ".join(f"{window:g} s" for window in objective.windows_s)
    required = f"< {objective.below:g} times over {names}, at every second"
    seconds = case.seconds(phase)
    rates = list(_confirmed(case, objective, seconds))
    if not rates:
        counted = case.by_second.seconds()
        have_s = seconds.stop - counted[0] if counted and seconds else 0
        short_s = min(objective.windows_s)
        because = f"{short_s:g} s of traffic are needed to tell, there were {max(0, have_s)} s"
        return Finding(objective.text, phase, Outcome.UNKNOWN, None, required, because, _TALLIES)
    if not _known(case, objective, seconds):
        because = "no arrivals"
        return Finding(objective.text, phase, Outcome.UNKNOWN, None, required, because, _TALLIES)
    low, high = (max(rate[index] for rate in rates) for index in (0, 1))
    if high < objective.below:
        outcome = Outcome.PASS
    else:
        outcome = Outcome.FAIL if low >= objective.below else Outcome.UNKNOWN
    at = max(rates, key=lambda rate: rate[:2])[2]
    because = f"the budget of {objective.slo:.6g} burnt {low:.3g} times as fast as it lasts"
    if high == math.inf:
        because += ", perhaps any number of times: for a whole window nothing was sent"
    elif high > low:
        because += f", perhaps {high:.3g} times"
    if high > 0:
        because += f"; fastest {at + 1 - seconds.start} s into the phase"
    if outcome is Outcome.UNKNOWN and _run_s(case) < max(objective.windows_s):
        missing_s = max(objective.windows_s) - _run_s(case)
        because += f"; the run is {missing_s:g} s shorter than the longest window"
    measured = Measured(high, low, high, "times")
    return Finding(objective.text, phase, outcome, measured, required, because, _TALLIES)


def _run_s(case: Case) -> int:
    counted = case.by_second.seconds()
    return counted[-1] + 1 - counted[0]


def _known(case: Case, objective: BurnRate, seconds: range) -> bool:
    """Whether the windows hold any arrival that may have been of these operations."""
    longest_s = int(max(objective.windows_s))
    held = case.by_second.over(range(seconds.start + 1 - longest_s, seconds.stop))
    return held.of(objective.operations).availability() is not None


def _confirmed(
    case: Case, objective: BurnRate, seconds: range
) -> Iterator[tuple[float, float, int]]:
    """``(low, high, second)``: the slower of the windows' burn rates at the end of each second.

    A second counts from which the shortest window lies wholly in the run. Of a longer one that
    reaches beyond it nothing is known there: as much traffic as it had on average, good at
    best and bad at worst.
    """
    counted = case.by_second.seconds()
    if not counted:
        return
    first = counted[0]
    sums = _sums(case, objective, range(first, seconds.stop))
    short_s = int(min(objective.windows_s))
    for second in seconds:
        end = second + 1 - first
        if end < short_s:
            continue
        rates = [_burn(sums, end, int(window), objective.slo) for window in objective.windows_s]
        yield min(low for low, _ in rates), min(high for _, high in rates), second


def _sums(case: Case, objective: BurnRate, seconds: range) -> list[_Bad]:
    """What went wrong from the start to each second."""

    def one(second: int) -> _Bad:
        sent = case.by_second.at(second)
        counts = sent.of(objective.operations)
        good, total = counts.good(objective.within_s), max(counts.planned, counts.accounted)
        if good is None:
            return _Bad(sent=sent.planned)
        return _Bad((1 - good.high) * total, (1 - good.low) * total, total, sent.planned)

    def add(before: _Bad, more: _Bad) -> _Bad:
        return _Bad(
            before.low + more.low,
            before.high + more.high,
            before.total + more.total,
            before.sent + more.sent,
        )

    return list(itertools.accumulate(map(one, seconds), add, initial=_Bad()))


def _burn(sums: Sequence[_Bad], end: int, window_s: int, slo: float) -> tuple[float, float]:
    """Burn rate over the ``window_s`` before ``end``: of nothing at all where none of these
    operations was sent, of anything where nothing was."""
    begin = max(0, end - window_s)
    if sums[end].sent == sums[begin].sent:
        return 0.0, math.inf
    total = sums[end].total - sums[begin].total
    seen_s = end - begin
    unseen = total / seen_s * (window_s - seen_s)
    if total <= 0:
        return 0.0, 0.0
    low, high = sums[end].low - sums[begin].low, sums[end].high - sums[begin].high
    allowed = round(1 - slo, 9) * (total + unseen)
    return max(0.0, low) / allowed, (high + unseen) / allowed
