"""How far back the data lay after a fault, on the side that then served.

The recovery point is the age of the oldest acknowledged upload that side had not got, against
the instant the fault landed, and how many there were. Told beside how far replication was behind
just before, which it should not be much worse than. What is there again at the end was not lost;
that is judged by ``durability``.
"""

from __future__ import annotations

from harness.evidence.model import LedgerEntry
from harness.verdict.case import Case, number_of
from harness.verdict.landing import Landing


def recovery_point(case: Case, landed: Landing) -> str:
    """In words; empty where nothing was read back after the fault."""
    if not landed.landed:
        return ""
    writes = _written_before(case, landed)
    lost = case.scope(landed.fault)
    phases = {f"fault:{landed.fault}", f"recovery:{landed.fault}"}
    asked: set[str] = set()
    missing: set[str] = set()
    for readback in case.evidence.readbacks:
        by_other_side = lost.kind != "region" or readback.region not in lost.regions
        if readback.phase not in phases or readback.object not in writes or not by_other_side:
            continue
        if readback.result in ("present", "missing", "altered"):
            asked.add(readback.object)
        if readback.result == "missing":
            missing.add(readback.object)
    if not asked:
        return ""
    told = f"recovery point of {landed.fault}: "
    if not missing:
        told += f"all of {len(asked)} asked for after it were there"
    else:
        oldest_t = min(acked_t(writes[name]) for name in missing)
        # Whether those acknowledged before the oldest that was asked for were there, nobody saw.
        first = oldest_t <= min(acked_t(writes[name]) for name in asked)
        low_s, high_s = max(0.0, landed.low - oldest_t), max(0.0, landed.high - oldest_t)
        age = f"{high_s:.1f} s" if high_s - low_s < 0.1 else f"{low_s:.1f} to {high_s:.1f} s"
        more = " or more" if first else ""
        told += (
            f"{len(missing)} of {len(asked)} asked for after it were missing, the oldest "
            f"acknowledged {age}{more} before it landed"
        )
    lag = _lag_before(case, landed.low)
    return f"{told} ({lag})" if lag else told


def _written_before(case: Case, landed: Landing) -> dict[str, LedgerEntry]:
    """Acknowledged before the fault had landed, and never deleted."""
    deleted = {
        entry.object
        for entry in case.evidence.ledger
        if entry.kind == "delete" and entry.outcome != "failed"
    }
    return {
        entry.object: entry
        for entry in case.evidence.ledger
        if entry.kind == "write" and entry.outcome == "acked" and entry.object not in deleted
        if acked_t(entry) <= landed.high
    }


def acked_t(entry: LedgerEntry) -> float:
    """When it ended, as far as is known."""
    return entry.t if entry.ack_t is None else entry.ack_t


def _lag_before(case: Case, at_t: float) -> str:
    """How far replication was behind when last seen before ``at_t``; empty if nobody saw."""
    told = []
    for prefix, what in (("replication:", "objects"), ("db_lag:", "database")):
        values = [
            case.last(subject, at_t)
            for subject in sorted({s.subject for s in case.sightings(prefix)})
        ]
        lags = [number_of(value, "lag_s") if isinstance(value, dict) else value for value in values]
        known = [float(lag) for lag in lags if isinstance(lag, (int, float))]
        if known:
            told.append(f"{what} {max(known):.1f} s")
    return f"replication behind just before: {', '.join(told)}" if told else ""
