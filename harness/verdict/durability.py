"""Whether what was acknowledged is still there, unaltered.

Acknowledged uploads must be found again. An upload that timed out may be there or not. An
object whose delete may have happened may be there or not. Replication to the standby is
asynchronous, so those acknowledged in the last moments before a region was lost may be
missing if the plan grants an RPO; they are reported even so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.evidence.model import LedgerEntry, Readback
from harness.plan.model import Durability
from harness.verdict.case import Case
from harness.verdict.landing import Landing
from harness.verdict.model import Finding, Measured, Outcome

_SHOWN = 3


@dataclass
class _Found:
    """Object ids, by what became of them."""

    kept: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    within_rpo: list[str] = field(default_factory=list)
    came_back: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    not_read: list[str] = field(default_factory=list)


def judge_durability(case: Case, objective: Durability, landings: tuple[Landing, ...]) -> Finding:
    """No acknowledged upload missing or altered; ``landings`` of the faults it names."""
    windows = [
        (landed.low - objective.rpo_s, landed.high)
        for landed in landings
        if landed.landed and objective.rpo_s > 0
    ]
    found = _sort(case, windows)
    lost = len(found.missing) + len(found.altered)
    read = len(found.kept) + lost + len(found.within_rpo)
    outcome = Outcome.PASS
    if lost:
        outcome = Outcome.FAIL
    elif found.not_read or read == 0:
        outcome = Outcome.UNKNOWN
    rpo = f", save those of the last {objective.rpo_s:g} s" if objective.rpo_s else ""
    return Finding(
        objective=objective.text,
        phase="all",
        outcome=outcome,
        measured=Measured(lost, lost, lost + len(found.not_read), "uploads lost or altered"),
        required=f"0 acknowledged uploads missing or altered{rpo}",
        because=_because(found, read),
        evidence=("ledger/", "ledger/readback.jsonl"),
    )


def _sort(case: Case, windows: list[tuple[float, float]]) -> _Found:
    readbacks = {readback.object: readback for readback in case.evidence.readbacks}
    deletes: dict[str, set[str]] = {}
    writes: dict[str, LedgerEntry] = {}
    for entry in case.evidence.ledger:
        if entry.kind == "delete":
            deletes.setdefault(entry.object, set()).add(entry.outcome)
        elif entry.object not in writes or entry.outcome == "acked":
            writes[entry.object] = entry
    found = _Found()
    for name in sorted(writes):
        _place(found, writes[name], deletes.get(name, set()), readbacks.get(name), windows)
    return found


def _place(
    found: _Found,
    entry: LedgerEntry,
    deletes: set[str],
    readback: Readback | None,
    windows: list[tuple[float, float]],
) -> None:
    name = entry.object
    result = readback.result if readback else "error"
    if entry.outcome == "unsure":
        found.unsure.append(name)
    elif entry.outcome != "acked":
        return
    elif "acked" in deletes:
        if result == "present":
            found.came_back.append(name)
    elif "unsure" in deletes:
        (found.altered if result == "altered" else found.unsure).append(name)
    elif result == "present":
        found.kept.append(name)
    elif result == "altered":
        found.altered.append(name)
    elif result == "missing":
        when = entry.t if entry.ack_t is None else entry.ack_t
        granted = any(low <= when <= high for low, high in windows)
        (found.within_rpo if granted else found.missing).append(name)
    else:
        found.not_read.append(name)


def _because(found: _Found, read: int) -> str:
    parts = [f"{len(found.kept)} of {read} acknowledged uploads read back whole"]
    for names, what in (
        (found.missing, "lost"),
        (found.altered, "altered"),
        (found.within_rpo, "missing within the RPO"),
        (found.not_read, "not read back"),
        (found.came_back, "deleted but found again"),
        (found.unsure, "unsure (timed out, either is right)"),
    ):
        if names:
            shown = ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
            parts.append(f"{len(names)} {what}: {shown}")
    return "; ".join(parts)
