"""Whether a fault really landed, and when.

The call that makes a fault may be accepted and change nothing. So a fault counts as landed
only when its read-back held *and* something that did not make it saw it: pods that are
gone, a service without pods, a zone without healthy targets, a red health check, no success
served from there, or another version that a rollout asks for.
A fault that did not land proves nothing: everything said about it is unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.evidence.model import Sighting
from harness.verdict.case import UNKNOWN, Case, number_of, uids_of
from harness.verdict.model import Finding, Measured, Outcome

NEVER_LANDED = "fault never landed"
#: Seconds in a row without a success from a zone or region that says it is gone.
_QUIET_SECONDS = 3


@dataclass(frozen=True)
class Landing:
    """``[low, high]`` is when the first call that made the fault ran; ``seen_by`` who saw it.

    ``why_not`` is empty when the fault landed.
    """

    fault: str
    low: float
    high: float
    seen_by: tuple[str, ...]
    why_not: str

    @property
    def landed(self) -> bool:
        return not self.why_not


def landing(case: Case, fault: str) -> Landing:
    """The landing of one fault of the plan."""
    actions = case.actions(fault)
    made = [
        (action.call_start_t, action.call_end_t)
        for action in actions
        if action.call_start_t is not None and action.call_end_t is not None
    ]
    if not made:
        return Landing(fault, 0.0, 0.0, (), f"{NEVER_LANDED}: no record that it was made")
    low, high = min(made, key=lambda call: call[0])
    why_not = ""
    seen_by: tuple[str, ...] = ()
    if not case.is_of_this_run(low, high):
        return Landing(fault, 0.0, 0.0, (), f"{NEVER_LANDED} at a time of this run")
    if len(made) < len(actions):
        why_not = f"{NEVER_LANDED} whole: {len(actions) - len(made)} of its actions were not made"
    elif any(action.holds is None for action in actions):
        why_not = f"{NEVER_LANDED} as far as is known: it was not read back"
    elif not all(action.holds for action in actions):
        why_not = f"{NEVER_LANDED}: read back, it does not hold"
    else:
        seen_by = _witnesses(case, fault, low)
        if not seen_by:
            why_not = f"{NEVER_LANDED}: nothing but the call that made it saw it"
    return Landing(fault, low, high, seen_by, why_not)


def judge_landing(case: Case, landed: Landing) -> Finding:
    """The finding "fault landed"."""
    return Finding(
        objective="fault landed",
        phase=f"fault:{landed.fault}",
        outcome=Outcome.PASS if landed.landed else Outcome.UNKNOWN,
        measured=Measured(landed.high, landed.low, landed.high, "s since epoch")
        if landed.landed
        else None,
        required="made, read back, and seen by something other than the call that made it",
        because=landed.why_not or "seen by " + "; ".join(landed.seen_by),
        evidence=("history.jsonl fault.start, fault.made, fault.readback, sighting",),
    )


def _witnesses(case: Case, fault: str, since_t: float) -> tuple[str, ...]:
    scope = case.scope(fault)
    until_t = case.undo_start(fault) or since_t
    if scope.kind == "pods":
        recovery = case.span(f"recovery:{fault}")
        end_t = recovery.end_t if recovery and recovery.end_t else until_t
        return _pods_gone(case, fault, since_t, end_t)
    if scope.kind == "delivery":
        return _version_seen(case, fault, since_t, until_t)
    if scope.kind == "service":
        return _service_gone(case, fault, since_t, until_t)
    found: list[str] = []
    for zone in scope.zones:
        found += _zone_gone(case, zone, since_t, until_t)
    for region in scope.regions:
        found += _region_gone(case, region, since_t, until_t)
    if scope.kind == "other":
        found += [
            f"{s.source}: {s.subject} changed"
            for s in case.evidence.sightings
            if since_t <= s.t <= until_t
        ][:3]
    return tuple(found)


def _pods_gone(case: Case, fault: str, since_t: float, until_t: float) -> tuple[str, ...]:
    """Observers who had seen every targeted pod and then saw it no more."""
    targets = " ".join(t for action in case.actions(fault) for t in action.targets)
    before: dict[str, frozenset[str]] = {}
    wanted: set[str] = set()
    gone: dict[str, str] = {}
    for sighting in case.sightings("pods:"):
        if not isinstance(sighting.value, dict):
            continue
        uids = uids_of(sighting.value)
        if sighting.t < since_t:
            wanted |= {uid for uid in uids if uid in targets}
        elif sighting.t <= until_t:
            for uid in before.get(sighting.subject, frozenset()) - uids:
                gone.setdefault(uid, sighting.subject)
        before[sighting.subject] = uids
    if not wanted or not wanted <= set(gone):
        return ()
    subjects = sorted({gone[uid] for uid in wanted})
    return tuple(f"{subject} lost the pods named" for subject in subjects)


def _service_gone(case: Case, fault: str, since_t: float, until_t: float) -> tuple[str, ...]:
    """Observers who saw no ready pod of a service any more, of every one that was stopped."""
    found = []
    for subject in stopped(case, fault):
        before = number_of(case.last(subject, since_t), "ready")
        seen = (number_of(s.value, "ready") for s in _during(case, subject, since_t, until_t))
        if not before or 0 not in seen:
            return ()
        found.append(f"{subject}: none ready")
    return tuple(found)


def stopped(case: Case, fault: str) -> list[str]:
    """The pods, as they are watched, of every service that a fault stopped."""
    targets = {target for action in case.actions(fault) for target in action.targets}
    return sorted(f"pods:{target.partition(':')[2]}" for target in targets)


def _version_seen(case: Case, fault: str, since_t: float, until_t: float) -> tuple[str, ...]:
    """Observers who saw another version asked for than before, of everything delivered to."""
    targets = {t for action in case.actions(fault) for t in action.targets}
    found = []
    for subject in sorted(targets):
        before = _version(case.last(subject, since_t))
        after = {_version(s.value) for s in _during(case, subject, since_t, until_t)} - {None}
        if before is None or not after - {before}:
            return ()
        found.append(f"{subject}: another version is asked for")
    return tuple(found)


def _version(value: object) -> str | None:
    """The version a sighting of a rollout or a deployment says is asked for."""
    found = (value.get("current") or value.get("revision")) if isinstance(value, dict) else None
    return str(found) if found else None


def _during(case: Case, subject: str, since_t: float, until_t: float) -> list[Sighting]:
    return [s for s in case.evidence.seen(subject) if since_t <= s.t <= until_t]


def _zone_gone(case: Case, zone: str, since_t: float, until_t: float) -> list[str]:
    found = []
    targets, nodes = f"targets:{zone}", f"nodes:{case.cluster_of(zone)}"
    if _turned(case, targets, lambda value: number_of(value, "healthy") == 0, since_t, until_t):
        found.append(f"{targets}: none healthy")
    if _turned(case, nodes, lambda value: number_of(value, "ready") == 0, since_t, until_t):
        found.append(f"{nodes}: none ready")
    if _served_no_more(case, since_t, until_t, zone=zone):
        found.append(f"clients: no success from {zone}")
    return found


def _region_gone(case: Case, region: str, since_t: float, until_t: float) -> list[str]:
    found = []
    check = f"health_check:{region}"
    if _turned(case, check, lambda value: bool(value == "unhealthy"), since_t, until_t):
        found.append(f"{check}: unhealthy")
    if _served_no_more(case, since_t, until_t, region=region):
        found.append(f"clients: no success from {region}")
    return found


def _turned(
    case: Case, subject: str, is_gone: Callable[[Any], bool], since_t: float, until_t: float
) -> bool:
    """Whether it was seen to be gone in that time, and was not before as far as is known."""
    known = [s for s in case.evidence.seen(subject) if s.value != UNKNOWN and s.t < since_t]
    if known and is_gone(known[-1].value):
        return False
    return any(is_gone(s.value) for s in _during(case, subject, since_t, until_t))


def _served_no_more(
    case: Case, since_t: float, until_t: float, *, zone: str = "", region: str = ""
) -> bool:
    """Successes came from there before, and then none for some seconds in which others were due."""

    def served(second: int) -> bool:
        return any(
            (cell.zone == zone if zone else cell.region == region)
            for cell in case.by_second.at(second).ok_cells()
        )

    before = range(int(since_t) - 5, int(since_t))
    if not any(served(second) for second in before):
        return False
    run = 0
    for second in range(int(since_t) + 1, int(until_t)):
        due = case.by_second.at(second).planned > 0
        run = run + 1 if due and not served(second) else 0
        if run >= _QUIET_SECONDS:
            return True
    return False
