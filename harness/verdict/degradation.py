"""Whether a service gave less instead of failing, said so, and was whole again afterwards.

An answer is degraded when the service says so of it (an older copy, a placeholder): no error, and
no success. While a fault lasts that is what was promised, before and after it is not. Whether a
circuit breaker opened is asked of Prometheus: from answers alone an impatient client cannot be told
from a breaker.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from harness.plan.model import Degradation
from harness.verdict.agreement import by_our_clock, unusable
from harness.verdict.case import Case, finite
from harness.verdict.clocks import prometheus_ahead
from harness.verdict.counts import Counts
from harness.verdict.landing import Landing
from harness.verdict.model import (
    Finding,
    Measured,
    Outcome,
    judge_at_most,
    judge_interval,
    worst,
)

#: Fewer arrivals than this show no share.
LEAST = 20


@dataclass(frozen=True)
class Turn:
    """When breakers turned: somewhere between two samples."""

    low: float
    high: float


class Breakers:
    """The circuit breakers of an objective, as Prometheus saw them from the fault's landing to the
    end of the recovery.

    ``why_not`` says why nothing is known of them; empty if something is.
    """

    def __init__(
        self, case: Case, objective: Degradation, start_t: float, undo_t: float, end_t: float
    ) -> None:
        name = objective.series_name
        self.start_t, self.undo_t = start_t, undo_t
        seconds = range(math.floor(start_t), math.ceil(end_t))
        ahead = prometheus_ahead(case, seconds)
        series = by_our_clock(case.evidence.series.get(name), ahead)
        self.why_not = unusable(series, name, seconds)
        #: how far an instant may be off, for the clocks
        self._off_s = (ahead.high_s - ahead.low_s) / 2
        #: (instant, whether any breaker is not closed), in order
        self.samples: list[tuple[float, bool]] = []
        if series is None or self.why_not:
            return
        found: dict[float, bool] = {}
        for line in series.result:
            for t, text in line.points:
                value = finite(text)
                if value is None:
                    self.why_not = f"{name}: {text!r} is not the state of a breaker"
                    return
                if t <= end_t:
                    found[t] = found.get(t, False) or value > 0
        self.samples = sorted(found.items())
        before = [is_open for t, is_open in self.samples if t <= start_t]
        if before and before[-1]:
            self.why_not = "a circuit breaker was open before the fault"

    @property
    def open_at_last(self) -> bool:
        """Whether one was still not closed when the recovery ended."""
        return bool(self.samples) and self.samples[-1][1]

    @property
    def opened(self) -> Turn | None:
        """When the first of them opened, while the fault lasted."""
        return next((turn for turn in self._turns(to=True) if turn.low < self.undo_t), None)

    @property
    def closed(self) -> Turn | None:
        """When all of them were closed, for good; None when none was open any more."""
        last = max(self._turns(to=False), key=lambda turn: turn.high, default=None)
        return last if last is not None and last.high > self.undo_t else None

    def _turns(self, *, to: bool) -> Iterator[Turn]:
        for (earlier, was), (later, now) in itertools.pairwise(self.samples):
            if later > self.start_t and now is to is not was:
                yield Turn(earlier - self._off_s, later + self._off_s)


class Degraded:
    """What became of the arrivals of some operations around one fault."""

    def __init__(self, case: Case, objective: Degradation, landed: Landing) -> None:
        self.case, self.objective, self.landed = case, objective, landed
        self.undo_t = case.undo_start(landed.fault)
        recovery = case.span(f"recovery:{landed.fault}")
        self.end_t = recovery.end_t if recovery is not None else None

    @property
    def why_not(self) -> str:
        """Why nothing can be told at all."""
        if not self.landed.landed:
            return self.landed.why_not
        if self.undo_t is None or self.undo_t <= self.landed.high:
            return "when the fault was taken back is not known"
        if self.end_t is None or self.end_t <= self.undo_t:
            return "the recovery was not watched to its end"
        return ""

    def counts(self, seconds: range) -> Counts:
        return self.case.by_second.over(seconds).of(self.objective.operations)

    @cached_property
    def breakers(self) -> Breakers:
        assert self.undo_t is not None and self.end_t is not None
        return Breakers(self.case, self.objective, self.landed.low, self.undo_t, self.end_t)

    @cached_property
    def held(self) -> range:
        """The whole seconds in which the service must have come to terms with the fault."""
        assert self.undo_t is not None
        start = math.ceil(self.landed.high + self.objective.within_s)
        return range(start, max(start, math.floor(self.undo_t)))

    @cached_property
    def after(self) -> range:
        """The seconds from the one in which the fault was taken back to the recovery's end."""
        assert self.undo_t is not None and self.end_t is not None
        return range(math.floor(self.undo_t), math.floor(self.end_t))

    @cached_property
    def last(self) -> int | None:
        """The last second of ``after`` with a degraded answer."""
        return max((t for t in self.after if self.counts(range(t, t + 1)).degraded), default=None)


def kinds_of(counts: Counts) -> str:
    """``12 stale, 3 placeholder``, as the service named them."""
    found = counts.by(lambda cell: cell.error or "degraded", "degraded")
    return ", ".join(f"{n} {kind}" for kind, n in found.items())


def judge_degrades(case: Case, objective: Degradation, landed: Landing) -> Finding:
    """While the fault lasts: answers instead of errors, and an open breaker."""
    seen = Degraded(case, objective, landed)
    names = ", ".join(objective.operations)
    required = (
        f"from {objective.within_s:g} s after the fault on ≥ {objective.at_least:.4%} of {names} "
        "answered, if with less, saying so"
        + (", and a circuit breaker open by then" if objective.breaker else "")
    )

    def finding(outcome: Outcome, because: str, measured: Measured | None = None) -> Finding:
        evidence = ("tallies/", *_series(objective))
        return Finding(
            objective.text, f"fault:{landed.fault}", outcome, measured, required, because, evidence
        )

    if seen.why_not:
        return finding(Outcome.UNKNOWN, seen.why_not)
    counts = seen.counts(seen.held)
    if counts.planned < LEAST:
        because = f"{counts.planned} arrivals of {names} in {len(seen.held)} s show no share"
        return finding(Outcome.UNKNOWN, because)
    share = counts.with_degraded().availability()
    assert share is not None
    outcome = judge_interval(objective.at_least, *share)
    because = (
        f"{counts.ok + counts.degraded} of {counts.planned} answered, {counts.degraded} of them "
        f"degraded ({kinds_of(counts) or 'none'}), {counts.failed + counts.unsure} failed"
    )
    if outcome is Outcome.PASS and not counts.degraded:
        outcome = Outcome.UNKNOWN
        because += f": {names} went on as if there were no fault, nothing was tried"
    opened, words = _opened(objective, seen)
    measured = Measured(share.low, share.low, share.high, "ratio")
    return finding(worst((outcome, opened)), f"{because}{words}", measured)


def _opened(objective: Degradation, seen: Degraded) -> tuple[Outcome, str]:
    """Whether a breaker opened in time, and how that is said."""
    if not objective.breaker:
        return Outcome.PASS, ""
    breakers, landed = seen.breakers, seen.landed
    if breakers.why_not:
        return Outcome.UNKNOWN, f"; {breakers.why_not}"
    turn = breakers.opened
    if turn is None:
        return Outcome.FAIL, "; the circuit breaker never opened"
    low, high = max(0.0, turn.low - landed.high), max(0.0, turn.high - landed.low)
    words = f"; a circuit breaker opened {low:.1f}–{high:.1f} s after the fault"
    return judge_at_most(objective.within_s, low, high), words


def judge_whole_again(case: Case, objective: Degradation, landed: Landing) -> Finding:
    """After the fault: nothing degraded any more, and every breaker closed."""
    seen = Degraded(case, objective, landed)
    names = ", ".join(objective.operations)
    required = (
        f"from {objective.whole_within_s:g} s after the fault was taken back on ≥ "
        f"{objective.at_least:.4%} of {names} answered with what was asked for, none degraded"
        + (", every circuit breaker closed" if objective.breaker else "")
    )

    def finding(outcome: Outcome, because: str, measured: Measured | None = None) -> Finding:
        evidence = ("tallies/", *_series(objective))
        name, phase = f"whole again: {names}", f"recovery:{landed.fault}"
        return Finding(name, phase, outcome, measured, required, because, evidence)

    if seen.why_not:
        return finding(Outcome.UNKNOWN, seen.why_not)
    assert seen.undo_t is not None
    # Counted by whole seconds: the last degraded answer was asked for within one.
    low = high = 0.0
    because = "none was degraded any more"
    if seen.last is not None:
        low, high = max(0.0, seen.last - seen.undo_t), seen.last + 1 - seen.undo_t
        because = f"the last degraded one {low:.1f}–{high:.1f} s after the fault was taken back"
    measured = Measured(high, low, high, "s")
    outcome = judge_at_most(objective.whole_within_s, low, high)
    rest = range(math.ceil(seen.undo_t + objective.whole_within_s), seen.after.stop)
    counts = seen.counts(rest)
    if outcome is Outcome.PASS:
        share = counts.availability()
        if share is None or counts.planned < LEAST:
            because = f"{counts.planned} arrivals in the {len(rest)} s after that show no share"
            outcome = Outcome.UNKNOWN
        else:
            outcome = judge_interval(objective.at_least, *share)
            because += f"; after that {counts.ok} of {counts.planned} with what was asked for"
    closed, words = _closed(objective, seen)
    return finding(worst((outcome, closed)), f"{because}{words}", measured)


def _closed(objective: Degradation, seen: Degraded) -> tuple[Outcome, str]:
    """Whether all were closed in time, and how that is said."""
    if not objective.breaker:
        return Outcome.PASS, ""
    breakers, undo_t = seen.breakers, seen.breakers.undo_t
    if breakers.why_not:
        return Outcome.UNKNOWN, f"; {breakers.why_not}"
    if breakers.open_at_last:
        return Outcome.FAIL, "; a circuit breaker never closed again"
    turn = breakers.closed
    if turn is None:
        return Outcome.PASS, "; every circuit breaker was closed"
    low, high = max(0.0, turn.low - undo_t), max(0.0, turn.high - undo_t)
    words = f"; every circuit breaker closed after {low:.1f}–{high:.1f} s"
    return judge_at_most(objective.whole_within_s, low, high), words


def judge_only_declared(case: Case, objective: Degradation) -> Finding:
    """In phases of no fault that is named nothing is degraded."""
    names = ", ".join(objective.operations)
    own = {f"{part}:{fault}" for fault in objective.faults for part in ("fault", "recovery")}
    others = [phase.name for phase in case.plan.phases if phase.name not in own]
    degraded = {
        phase: n for phase in others if (n := case.counts(phase).of(objective.operations).degraded)
    }
    answered = sum(case.counts(phase).of(objective.operations).sent for phase in others)
    total = sum(degraded.values())
    outcome = Outcome.PASS if answered else Outcome.UNKNOWN
    because = f"none of {answered} answers in {', '.join(others) or 'no phase'}"
    if total:
        where = ", ".join(f"{n} in {phase}" for phase, n in degraded.items())
        outcome, because = Outcome.FAIL, f"{total} degraded answers without such a fault: {where}"
    faults = ", ".join(objective.faults)
    required = (
        f"no degraded answer of {names} in phases of no fault that it is declared for: {faults}"
    )
    measured = Measured(total, total, total, "answers")
    return Finding(
        f"degraded otherwise: {names}", "all", outcome, measured, required, because, ("tallies/",)
    )


def _series(objective: Degradation) -> tuple[str, ...]:
    return (f"series/{objective.series_name}.json",) if objective.breaker else ()
