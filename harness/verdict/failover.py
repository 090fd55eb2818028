"""The failover of a region and its failback, step by step.

Each step has an instant with its uncertainty, and stands beside the time expected from the
live configuration. A step that did not happen is a failure that names it, provided
someone was looking; if nobody was, it is unknown. The way over is clocked from the landing of
the fault, the way back from the restoration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.plan.model import Failback, Failover
from harness.verdict.case import UNKNOWN, Case
from harness.verdict.landing import Landing
from harness.verdict.model import Finding, Measured, Outcome, Step, judge_at_most
from harness.verdict.recovery import held_from, latency_of

#: With random arrivals the one before comes within so many mean gaps, 99 times in 100: ln 100.
_GAPS = 4.6
_EVIDENCE = ("history.jsonl sighting, mark.region, mark.first_write", "tallies/")


@dataclass(frozen=True)
class Way:
    """One direction: ``from_low``..``from_high`` is when its clock starts, ``until_t`` when
    the time watched ends. ``steps`` in order."""

    fault: str
    part: str
    from_low: float
    from_high: float
    until_t: float
    steps: tuple[Step, ...]
    #: steps that did not happen though they were watched for
    missing: tuple[Step, ...]
    #: steps nobody could see
    unseen: tuple[Step, ...]


class _Steps:
    """Collects the steps of one way."""

    def __init__(
        self, case: Case, fault: str, part: str, low: float, high: float, until_t: float
    ) -> None:
        self.case, self.fault, self.part = case, fault, part
        self.low, self.high, self.until_t = low, high, until_t
        self.steps: list[Step] = []
        self.missing: list[Step] = []
        self.unseen: list[Step] = []
        #: what the expected times of the steps to come count from, after the clock's start
        self.expected_from_s = 0.0

    def at(self, step: str, what: str, found: tuple[float, float]) -> None:
        t, uncertainty_s = found
        self.steps.append(
            Step(
                self.fault,
                self.part,
                step,
                what,
                t,
                uncertainty_s,
                max(0.0, t - self.low),
                self._expected_s(step),
            )
        )

    def _expected_s(self, step: str) -> float | None:
        found = expected_s(self.case.plan.expected, self.fault, step)
        return None if found is None else self.expected_from_s + found

    def never(self, step: str, what: str, because: str, *, watched: bool) -> None:
        found = Step(
            self.fault,
            self.part,
            step,
            what,
            None,
            expected_s=self._expected_s(step),
            because=because,
        )
        self.steps.append(found)
        (self.missing if watched else self.unseen).append(found)

    def observed(
        self, step: str, what: str, prefix: str, holds: Callable[[dict[str, Any]], bool], no: str
    ) -> None:
        """A step that an observer of ``prefix`` must have seen; ``no`` says it did not come."""
        found = self.case.first(prefix, holds, self.low)
        blind = self.case.not_watched(prefix, self.low, self.until_t)
        if found is not None and found[0] <= self.until_t:
            self.at(step, what, found)
        else:
            self.never(step, what, blind or no, watched=not blind)

    def by_traffic(self, step: str, what: str, found: tuple[float, float] | None, no: str) -> None:
        """A step that clients must have seen."""
        if found is not None and found[0] <= self.until_t:
            self.at(step, what, found)
            return
        quiet = self.case.by_second.over(range(int(self.low) + 1, int(self.until_t)))
        due = self.case.due(self.low + 1, self.until_t - 1)
        watched = quiet.planned >= 0.5 * due
        self.never(step, what, no if watched else "too little traffic to tell", watched=watched)

    def way(self) -> Way:
        return Way(
            self.fault,
            self.part,
            self.low,
            self.high,
            self.until_t,
            tuple(self.steps),
            tuple(self.missing),
            tuple(self.unseen),
        )


def failover(case: Case, landed: Landing) -> Way | None:
    """From the landing to the standby serving well; None when the fault did not land."""
    undo_t = case.undo_start(landed.fault)
    if not landed.landed or undo_t is None:
        return None
    primary, standby = case.plan.target.primary, case.plan.target.standby
    steps = _Steps(case, landed.fault, "failover", landed.low, landed.high, undo_t)
    steps.at("landed", f"{primary} lost", (landed.high, landed.high - landed.low))
    check = f"health_check:{primary}"
    steps.observed(
        "health_check_red",
        f"health check of {primary} red",
        check,
        lambda seen: seen.get(check) == "unhealthy",
        f"the health check of {primary} never turned red",
    )
    dns = case.dns_subject()
    before = [s.value for s in case.evidence.seen(dns) if s.t < landed.low and s.value != UNKNOWN]
    if before and _answers(before[-1], standby, primary):
        because = f"DNS answered {standby} before the fault already: nothing was to fail over"
        steps.never("dns_changed", f"DNS answers {standby}", because, watched=False)
    else:
        steps.observed(
            "dns_changed",
            f"DNS answers {standby}",
            dns,
            lambda seen: _answers(seen.get(dns), standby, primary),
            f"DNS answer never changed to {standby}: DNS never fails over",
        )
    steps.by_traffic(
        "first_success",
        f"first success from {standby}",
        _first_success(case, standby, landed.low),
        f"no success was ever served by {standby}",
    )
    if _has_databases(case):
        steps.observed(
            "db_promoted",
            f"database primary in {standby}",
            "db:",
            lambda seen: _primary_in(seen, standby),
            f"the standby database in {standby} was never promoted",
        )
    steps.by_traffic(
        "db_writable",
        f"first write acknowledged by {standby}",
        _first_write(case, standby, landed.low),
        f"no write was ever acknowledged by {standby}",
    )
    _add_held(steps, f"fault:{landed.fault}", landed.low)
    return steps.way()


def failback(case: Case, landed: Landing) -> Way | None:
    """From the restoration to the primary serving well again; None when it was not restored."""
    actions = case.actions(landed.fault)
    done = [a.undo_done_t for a in actions if a.undo is not None]
    undo_t = case.undo_start(landed.fault)
    span = case.span(f"recovery:{landed.fault}")
    instants = [t for t in done if t is not None]
    if not landed.landed or undo_t is None or not done or len(instants) < len(done):
        return None
    if span is None or span.end_t is None:
        return None
    restored_t = max(instants)
    primary, standby = case.plan.target.primary, case.plan.target.standby
    steps = _Steps(case, landed.fault, "failback", undo_t, restored_t, span.end_t)
    steps.at("restored", f"{primary} restored", (restored_t, restored_t - undo_t))
    if _has_databases(case):
        steps.observed(
            "db_back",
            f"database primary in {primary} again",
            "db:",
            lambda seen: _primary_in(seen, primary) and not _primary_in(seen, standby),
            f"the database primary never came back to {primary}",
        )
        # How long the data takes is the system's own; what follows is Route 53's.
        steps.expected_from_s = steps.steps[-1].after_s or 0.0
    check = f"health_check:{primary}"
    steps.observed(
        "health_check_green",
        f"health check of {primary} green",
        check,
        lambda seen: seen.get(check) == "healthy",
        f"the health check of {primary} never turned green",
    )
    dns = case.dns_subject()
    steps.observed(
        "dns_back",
        f"DNS answers {primary} again",
        dns,
        lambda seen: _answers(seen.get(dns), primary, standby),
        f"DNS answer never changed back to {primary}",
    )
    steps.by_traffic(
        "success_back",
        f"first success from {primary}",
        _first_success(case, primary, undo_t),
        f"no success was ever served by {primary} again",
    )
    _add_held(steps, f"recovery:{landed.fault}", undo_t)
    return steps.way()


def _add_held(steps: _Steps, phase: str, start_t: float) -> None:
    held = held_from(steps.case, start_t, steps.until_t, latency_of(steps.case, phase))
    if held.held is True:
        steps.at("holds", "good, and stays so", (held.high, held.high - held.low))
    else:
        steps.never("holds", "good, and stays so", held.because, watched=held.held is False)


def judge_failover(objective: Failover, landed: Landing, way: Way | None) -> Finding:
    """All steps of the failover within the bound."""
    required = f"every step within {objective.within_s:g} s of the landing"
    return _judge(
        objective.text, f"fault:{landed.fault}", required, objective.within_s, way, landed
    )


def judge_failback(objective: Failback, landed: Landing, way: Way | None) -> Finding:
    """All steps of the failback within the bound."""
    required = f"every step within {objective.within_s:g} s of the restoration"
    phase = f"recovery:{landed.fault}"
    return _judge(objective.text, phase, required, objective.within_s, way, landed)


def _judge(
    text: str, phase: str, required: str, within_s: float, way: Way | None, landed: Landing
) -> Finding:
    if way is None:
        because = landed.why_not or "the undo was not recorded"
        return Finding(text, phase, Outcome.UNKNOWN, None, required, because, _EVIDENCE)
    if way.missing:
        because = "; ".join(step.because for step in (*way.missing, *way.unseen))
        waited = way.until_t - way.from_high
        if waited < within_s:
            # It may still have come in time: the hold was cut short.
            because += f"; watched for only {waited:.1f} s"
            return Finding(text, phase, Outcome.UNKNOWN, None, required, because, _EVIDENCE)
        measured = Measured(None, waited, None, "s")
        return Finding(text, phase, Outcome.FAIL, measured, required, because, _EVIDENCE)
    if way.unseen:
        because = "; ".join(f"{step.what}: {step.because}" for step in way.unseen)
        return Finding(text, phase, Outcome.UNKNOWN, None, required, because, _EVIDENCE)
    instants = [(step.t - step.uncertainty_s, step.t) for step in way.steps if step.t is not None]
    low = max(0.0, max(earliest for earliest, _ in instants) - way.from_high)
    high = max(0.0, max(latest for _, latest in instants) - way.from_low)
    because = ", ".join(f"{step.what} after {step.after_s:.1f} s" for step in way.steps[1:])
    outcome = judge_at_most(within_s, low, high)
    return Finding(
        text, phase, outcome, Measured(high, low, high, "s"), required, because, _EVIDENCE
    )


# ---- what counts as a step having happened ----------------------------------------------------


def _answers(value: Any, there: str, not_there: str) -> bool:
    names = value if isinstance(value, list) else [value]
    return there in names and not_there not in names


def _primary_in(seen: Mapping[str, Any], region: str) -> bool:
    return any(
        isinstance(value, Mapping)
        and value.get("role") == "primary"
        and str(value.get("zone", "")).startswith(region)
        for value in seen.values()
    )


def _has_databases(case: Case) -> bool:
    """Whether a database is to be watched: unless the target is described as having none."""
    return case.target.get("databases") != []


def _first_success(case: Case, region: str, since_t: float) -> tuple[float, float] | None:
    """When a success was first served by ``region``: a mark, else the second it was counted in.

    It could have been served since the request before: the fewer are sent, the further back.
    """
    marks = [e.t for e in case.evidence.of_kind("mark.region") if e.text("to") == region]
    marks = [t for t in marks if t >= since_t]
    if marks:
        t = min(marks)
        rate = case.due(t - 1.0, t)
        return t, min(t - since_t, _GAPS / rate if rate else 1.0)
    for second in case.by_second.seconds():
        if second < since_t:
            continue
        if any(cell.region == region for cell in case.by_second.at(second).ok_cells()):
            return second + 1.0, 1.0
    return None


def _first_write(case: Case, region: str, since_t: float) -> tuple[float, float] | None:
    """When a write was first acknowledged by ``region``: at that instant, or at any since the last
    one that was tried in vain."""
    marks = [e.t for e in case.evidence.of_kind("mark.first_write") if e.text("region") == region]
    acks = [
        entry.ack_t
        for entry in case.evidence.ledger
        if entry.kind == "write" and entry.outcome == "acked" and entry.region == region
        if entry.ack_t is not None
    ]
    found = [t for t in marks if t >= since_t] or [t for t in acks if t >= since_t]
    if not found:
        return None
    done = min(found)
    in_vain = (
        entry.planned_t
        for entry in case.evidence.ledger
        if entry.kind == "write" and entry.outcome != "acked" and entry.planned_t <= done
    )
    return done, done - max([since_t, *in_vain])


_EXPECTED_KEYS = {"success_back": "dns_back_s", "first_success": "first_success_s"}


def expected_s(expected: Mapping[str, Any], fault: str, step: str) -> float | None:
    """The expected seconds of a step, from the plan's ``expected`` block (flat or per fault)."""
    block = expected.get(fault)
    known = block if isinstance(block, Mapping) else expected
    value = known.get(_EXPECTED_KEYS.get(step, f"{step}_s"))
    if isinstance(value, Mapping):
        value = value.get("value_s")
    return float(value) if isinstance(value, (int, float)) else None
