"""What must be true of each fault beyond the objectives: taken back, and worked around.

Killed pods are replaced, a dead zone gets no traffic, a lost database primary moves, and
what the harness broke it has mended, read back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.evidence.model import FaultRecord
from harness.verdict.case import Case, number_of
from harness.verdict.landing import Landing, stopped
from harness.verdict.model import Finding, Measured, Outcome

#: The last seconds of the hold: by then a load balancer must have turned away.
_LAST_S = 5
#: Share of failures in those seconds that says it has not.
_STILL_FAILING = 0.05


def open_undos(case: Case) -> list[FaultRecord]:
    """Actions whose undo was not verified. Killed pods are not ours to restore: whether they
    came back is a finding about the system."""
    return [
        action
        for action in case.evidence.faults
        if action.undo is not None
        and action.restored is not True
        and not _heals_itself(case, action)
    ]


def _heals_itself(case: Case, action: FaultRecord) -> bool:
    names = [fault.name for fault in case.plan.faults]
    return action.fault in names and case.scope(action.fault).kind == "pods"


def judge_undo(case: Case, fault: str) -> Finding:
    """The finding "undone": each action's undo was read back as restored."""
    undoable = [a for a in case.actions(fault) if a.undo is not None]
    heals = case.scope(fault).kind == "pods"
    never = [a for a in undoable if a.restored is None]
    not_restored = [a for a in undoable if a.restored is False]
    if not case.actions(fault):
        outcome, because = Outcome.UNKNOWN, "no record of the fault"
    elif not_restored and not heals:
        outcome = Outcome.FAIL
        because = f"still in place: {not_restored[0].action}: {not_restored[0].restored_observed}"
    elif never:
        outcome = Outcome.UNKNOWN
        because = f"the undo of {never[0].action} was not read back"
    else:
        outcome = Outcome.PASS
        because = "nothing to undo" if heals or not undoable else "undone and read back"
    return Finding(
        objective="undone",
        phase=f"fault:{fault}",
        outcome=outcome,
        measured=None,
        required="every fault taken back, and read back as restored",
        because=because,
        evidence=("history.jsonl undo.readback", "undo.jsonl"),
    )


def judge_system(case: Case, landed: Landing) -> Iterator[Finding]:
    """What the system owes after this fault, by what it takes away."""
    scope = case.scope(landed.fault)
    if scope.kind == "pods":
        yield judge_replaced(case, landed)
    if scope.kind == "service":
        yield judge_service_back(case, landed)
    for zone in scope.zones if scope.kind == "zone" else ():
        yield judge_routing(case, landed, zone)
        moved = judge_database_moved(case, landed, zone)
        if moved is not None:
            yield moved
        yield judge_zone_back(case, landed, zone)
    # Last: what the observers saw says more than "a probe returned False".
    yield judge_experiment(case, landed.fault)


def judge_experiment(case: Case, fault: str) -> Finding:
    """The experiment's own hypothesis held before and after, and all of it was carried out."""
    ends = [e for e in case.evidence.of_kind("experiment.end") if e.text("fault") == fault]
    said = ends[-1].text("outcome") if ends else ""
    outcome = {"passed": Outcome.PASS, "deviated": Outcome.FAIL}.get(said, Outcome.UNKNOWN)
    reason = ends[-1].text("because") if ends else "no end of it was recorded"
    return Finding(
        objective="experiment",
        phase=f"fault:{fault}",
        outcome=outcome,
        measured=None,
        required="carried out whole, its steady state met before and after",
        because=": ".join(part for part in (said, reason) if part),
        evidence=("history.jsonl experiment.end", f"chaos/{fault}.journal.json"),
    )


def judge_replaced(case: Case, landed: Landing) -> Finding:
    """As many pods ready at the end of the recovery as before the fault."""
    phase = f"recovery:{landed.fault}"
    required = "as many pods ready at the end of the recovery as before the fault"
    span = case.span(phase)
    evidence = ("history.jsonl sighting pods:", "history.jsonl undo.readback")

    def finding(outcome: Outcome, because: str, measured: Measured | None = None) -> Finding:
        return Finding("pods replaced", phase, outcome, measured, required, because, evidence)

    if not landed.landed or span is None or span.end_t is None:
        return finding(Outcome.UNKNOWN, landed.why_not or "the recovery was not watched to its end")
    subjects = sorted({s.subject for s in case.sightings("pods:")})
    before = after = 0.0
    short = []
    for subject in subjects:
        then = number_of(case.last(subject, landed.low), "ready")
        now = number_of(case.last(subject, span.end_t), "ready")
        blind = case.not_watched(subject, landed.low, span.end_t)
        if then is None or now is None or blind:
            return finding(Outcome.UNKNOWN, blind or f"{subject}: ready pods are not known")
        before, after = before + then, after + now
        if now < then:
            short.append(f"{subject}: {now:.0f} ready of {then:.0f}")
    measured = Measured(after, after, after, f"pods ready of {before:.0f}")
    if before == 0:
        return finding(Outcome.UNKNOWN, "no pods were seen")
    if short:
        return finding(Outcome.FAIL, f"killed pods were not replaced: {'; '.join(short)}", measured)
    if any(action.restored is False for action in case.actions(landed.fault)):
        because = "killed pods were not replaced in the time allowed, only later"
        return finding(Outcome.FAIL, because, measured)
    return finding(Outcome.PASS, f"{after:.0f} ready, {before:.0f} before the fault", measured)


def judge_service_back(case: Case, landed: Landing) -> Finding:
    """As many pods of what was stopped ready at the end of the recovery as before."""
    phase = f"recovery:{landed.fault}"
    required = "as many pods of it ready at the end of the recovery as before it was stopped"
    span = case.span(phase)

    def finding(outcome: Outcome, because: str) -> Finding:
        evidence = ("history.jsonl sighting pods:",)
        return Finding("service back", phase, outcome, None, required, because, evidence)

    if not landed.landed or span is None or span.end_t is None:
        return finding(Outcome.UNKNOWN, landed.why_not or "the recovery was not watched to its end")
    outcome, said = Outcome.PASS, []
    for subject in stopped(case, landed.fault):
        then = number_of(case.last(subject, landed.low), "ready")
        now = number_of(case.last(subject, span.end_t), "ready")
        blind = case.not_watched(subject, landed.low, span.end_t)
        if then is None or now is None or blind:
            return finding(Outcome.UNKNOWN, blind or f"{subject}: ready pods are not known")
        said.append(f"{subject}: {now:.0f} ready of {then:.0f}")
        outcome = Outcome.FAIL if now < then else outcome
    return finding(outcome, "; ".join(said))


def judge_routing(case: Case, landed: Landing, zone: str) -> Finding:
    """By the end of the hold the load balancer sends nothing to the dead zone."""
    phase = f"fault:{landed.fault}"
    required = f"no traffic sent to {zone} by the end of the hold"
    evidence = (f"history.jsonl sighting targets:{zone}", "tallies/")
    undo_t = case.undo_start(landed.fault)

    def finding(outcome: Outcome, because: str, measured: Measured | None = None) -> Finding:
        return Finding("routing", phase, outcome, measured, required, because, evidence)

    if not landed.landed or undo_t is None:
        return finding(Outcome.UNKNOWN, landed.why_not or "the end of the hold is not known")
    # The client's own timeout decides when a request stuck in the dead zone shows as failed;
    # it is counted at its planned second, so the last seconds of the hold are complete.
    last = range(int(undo_t) - _LAST_S, int(undo_t))
    counts = case.by_second.over(last)
    if counts.planned < 0.5 * case.due(last.start, last.stop):
        return finding(Outcome.UNKNOWN, "too little traffic at the end of the hold to tell")
    bad = (counts.failed + counts.unsure) / counts.planned
    measured = Measured(bad, bad, bad, "failing share")
    others = any(cell.zone and cell.zone != zone for cell in counts.ok_cells())
    since = case.by_second.over([second for second in last if second > landed.high])
    there = sum(cell.n for cell in since.ok_cells() if cell.zone == zone)
    healthy = number_of(case.last(f"targets:{zone}", undo_t), "healthy")
    blind = case.not_watched(f"targets:{zone}", landed.low, undo_t)
    if healthy is not None and healthy > 0 and not blind:
        because = f"load balancer kept sending to {zone}: {healthy:.0f} targets there still healthy"
        return finding(Outcome.FAIL, because, measured)
    failed = f"{bad:.0%} of the arrivals in the last {_LAST_S} s of the hold failed"
    if others and bad > _STILL_FAILING:
        because = f"load balancer kept sending to {zone}: {failed} while other zones served"
        return finding(Outcome.FAIL, because, measured)
    if blind or healthy is None:
        return finding(Outcome.UNKNOWN, blind or f"targets in {zone} were not seen", measured)
    if there:
        because = f"no healthy target in {zone}, and {there} arrivals were answered from there"
        return finding(Outcome.UNKNOWN, because, measured)
    if bad > _STILL_FAILING:
        because = f"{failed} and no other zone served: where they were sent is not known"
        return finding(Outcome.UNKNOWN, because, measured)
    return finding(
        Outcome.PASS, f"no healthy target in {zone}, {bad:.1%} of arrivals failing", measured
    )


def judge_zone_back(case: Case, landed: Landing, zone: str) -> Finding:
    """As many targets healthy in the zone at the end of the recovery as before the fault, or, where
    fewer are wanted by then, all of them: a service that goes on without the zone would not
    survive the next one."""
    phase = f"recovery:{landed.fault}"
    subject = f"targets:{zone}"
    required = f"{zone} serves again by the end of the recovery, with every target it should have"
    span = case.span(phase)

    def finding(outcome: Outcome, because: str, measured: Measured | None = None) -> Finding:
        evidence = (f"history.jsonl sighting {subject}",)
        return Finding("zone back", phase, outcome, measured, required, because, evidence)

    if not landed.landed or span is None or span.end_t is None:
        return finding(Outcome.UNKNOWN, landed.why_not or "the recovery was not watched to its end")
    then = number_of(case.last(subject, landed.low), "healthy")
    last = case.last(subject, span.end_t)
    now, wanted = number_of(last, "healthy"), number_of(last, "total")
    blind = case.not_watched(subject, landed.low, span.end_t)
    if then is None or now is None or blind:
        return finding(Outcome.UNKNOWN, blind or f"targets in {zone} were not seen")
    because = f"{now:.0f} targets healthy, {then:.0f} before the fault"
    measured = Measured(now, now, now, f"targets healthy of {then:.0f}")
    if now < then and not 0 < now == wanted:
        return finding(Outcome.FAIL, f"{zone} does not serve again: {because}", measured)
    return finding(Outcome.PASS, because, measured)


def judge_database_moved(case: Case, landed: Landing, zone: str) -> Finding | None:
    """The database primary left the lost zone; None when it was not there."""
    subjects = sorted({s.subject for s in case.sightings("db:")})
    then = {subject: case.last(subject, landed.low) for subject in subjects}
    inside = [value for value in then.values() if _is_primary(value) and _zone_of(value) == zone]
    unclear = [subject for subject, value in then.items() if not _is_clear(value)]
    if not landed.landed or not (inside or unclear):
        return None
    required = f"database primary outside {zone} before the zone is restored"

    def finding(outcome: Outcome, because: str, measured: Measured | None = None) -> Finding:
        evidence = ("history.jsonl sighting db:",)
        phase = f"fault:{landed.fault}"
        return Finding("database moved", phase, outcome, measured, required, because, evidence)

    if unclear:
        because = f"{unclear[0]}: where its primary was when {zone} was lost is not known"
        return finding(Outcome.UNKNOWN, because)

    def outside(seen: Mapping[str, Any]) -> int:
        """Primaries that are surely elsewhere: others may have been there all the time."""
        return sum(_is_primary(v) and _zone_of(v) not in ("", zone) for v in seen.values())

    undo_t = case.undo_start(landed.fault) or landed.high
    wanted = outside(then) + len(inside)
    found = case.first("db:", lambda seen: outside(seen) >= wanted, landed.low)
    if found is None or found[0] > undo_t:
        blind = case.not_watched("db:", landed.low, undo_t)
        outcome = Outcome.UNKNOWN if blind else Outcome.FAIL
        return finding(outcome, blind or f"the database primary never moved out of {zone}")
    high = found[0] - landed.low
    low = max(0.0, found[0] - found[1] - landed.high)
    because = f"primary moved out of {zone} {low:.1f}–{high:.1f} s after the landing"
    return finding(Outcome.PASS, because, Measured(high, low, high, "s"))


def _is_clear(value: object) -> bool:
    """Whether it can be told if this database was a primary, and where."""
    return isinstance(value, dict) and bool(_zone_of(value) or not _is_primary(value))


def _is_primary(value: object) -> bool:
    return isinstance(value, dict) and value.get("role") == "primary"


def _zone_of(value: object) -> str:
    return str(value.get("zone") or "") if isinstance(value, dict) else ""
