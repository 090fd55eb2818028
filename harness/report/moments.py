"""The instants worth a number: each step of the judged timeline, and each fault.

Numbered once, in the order they happened, so that the drawing, the list below it and the
table of the failover speak of the same thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.evidence.model import Evidence, FaultRecord
from harness.plan.model import Plan


@dataclass(frozen=True)
class Moment:
    """A step at ``t`` (wall seconds) or up to ``uncertainty_s`` before; see ``Step``.

    ``number`` and ``t`` are None for a step that did not happen or that nobody could see.
    """

    number: int | None
    fault: str
    part: str
    step: str
    what: str
    t: float | None
    uncertainty_s: float
    after_s: float | None
    expected_s: float | None
    because: str


#: Of the parts of a timeline, which comes first for the same fault.
_PARTS = ("fault", "failover", "failback")


def moments(plan: Plan, evidence: Evidence, verdict: Mapping[str, Any]) -> list[Moment]:
    """Every step of the verdict's timeline, and the landing and undo of faults without one."""
    judged = [_judged(step) for step in verdict.get("timeline") or () if isinstance(step, Mapping)]
    found = [*judged]
    for fault in _fault_names(plan, evidence):
        actions = evidence.actions(fault)
        mine = {m.step for m in judged if m.fault == fault}
        if "landed" not in mine:
            found += _landed(fault, actions)
        if "restored" not in mine:
            found += _undone(fault, actions)
    return _numbered(found, _fault_names(plan, evidence))


def _fault_names(plan: Plan, evidence: Evidence) -> list[str]:
    return list(dict.fromkeys([f.name for f in plan.faults] + [f.fault for f in evidence.faults]))


def _judged(step: Mapping[str, Any]) -> Moment:
    return Moment(
        number=None,
        fault=str(step.get("fault") or ""),
        part=str(step.get("part") or "fault"),
        step=str(step.get("step") or ""),
        what=str(step.get("what") or step.get("step") or ""),
        t=_number(step.get("t")),
        uncertainty_s=_number(step.get("uncertainty_s")) or 0.0,
        after_s=_number(step.get("after_s")),
        expected_s=_number(step.get("expected_s")),
        because=str(step.get("because") or ""),
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)


def _landed(fault: str, actions: Sequence[FaultRecord]) -> list[Moment]:
    made = [a for a in actions if a.call_end_t is not None]
    if not made:
        return []
    first = min(made, key=lambda action: action.call_end_t or 0.0)
    t = first.call_end_t or 0.0
    took = t - (t if first.call_start_t is None else first.call_start_t)
    what = f"{fault}: fault made"
    return [Moment(None, fault, "fault", "landed", what, t, took, 0.0, None, "")]


def _undone(fault: str, actions: Sequence[FaultRecord]) -> list[Moment]:
    done = [a.undo_done_t for a in actions if a.undo_done_t is not None]
    made = [a.call_end_t for a in actions if a.call_end_t is not None]
    if not done:
        return []
    t = max(done)
    after = t - min(made) if made else None
    return [Moment(None, fault, "fault", "undone", f"{fault}: taken back", t, 0.0, after, None, "")]


def _numbered(found: Iterable[Moment], faults: Sequence[str]) -> list[Moment]:
    """By fault, then part, then instant; numbers follow the instants over all of them."""
    ordered = list(found)
    in_time = sorted(
        (i for i, m in enumerate(ordered) if m.t is not None), key=lambda i: (ordered[i].t, i)
    )
    number = {index: n for n, index in enumerate(in_time, 1)}
    rank = {name: n for n, name in enumerate(faults)}

    def place(index: int) -> tuple[int, str, int, int]:
        m = ordered[index]
        part = _PARTS.index(m.part) if m.part in _PARTS else len(_PARTS)
        return rank.get(m.fault, len(rank)), m.fault, part, index

    return [
        Moment(**{**vars(ordered[i]), "number": number.get(i)})
        for i in sorted(range(len(ordered)), key=place)
    ]


def groups(found: Iterable[Moment]) -> dict[tuple[str, str], list[Moment]]:
    """Moments by (fault, part), in order."""
    grouped: dict[tuple[str, str], list[Moment]] = {}
    for moment in found:
        grouped.setdefault((moment.fault, moment.part), []).append(moment)
    return grouped
