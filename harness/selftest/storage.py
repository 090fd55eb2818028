"""What became of the uploads of a simulated day: ledger, read-back, the service's own list."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from harness.evidence.following import is_followed
from harness.plan.model import Phase
from harness.selftest.course import Day
from harness.selftest.traffic import Stored, Traffic

#: Objects asked for towards the end of a phase, those acknowledged last.
_ASKED = 6
#: When, as a share of the phase.
_ASKED_AT = 0.7
#: Begin all names, so one page of the list has them all.
PREFIX = "sim-"
#: (when, source, kind, data)
_Line = tuple[float, str, str, dict[str, Any]]


class Storage:
    """The objects of a day, and what is found of them."""

    def __init__(self, day: Day, traffic: Traffic) -> None:
        self.day, self.traffic, self.uploads = day, traffic, day.world.uploads
        followed = self.uploads.followed
        self.stored = [one for one in traffic.stored if is_followed(one.name, followed)]
        acked = [one for one in self.stored if one.outcome == "acked"]
        self.number = {one.name: number for number, one in enumerate(acked, 1)}
        deleted = [one for one in acked if one.name in traffic.deleted]
        every = self.uploads.resurrected_every
        self.back = {one.name for n, one in enumerate(deleted, 1) if every and n % every == 0}

    def ledger(self, t0: float) -> Iterator[_Line]:
        """What the first generator wrote."""
        unwritten = self.uploads.unwritten_every
        for stored in self.stored:
            number = self.number.get(stored.name, 0)
            if unwritten and number and number % unwritten == 0:
                continue
            acked = stored.outcome == "acked"
            yield (
                stored.ack_s,
                "ledger/w0",
                "write",
                {
                    "object": stored.name,
                    "op": stored.op,
                    "sha256": hashlib.sha256(stored.name.encode()).hexdigest(),
                    "size_bytes": 1000,
                    "planned_t": round(t0 + stored.planned_s, 6),
                    "outcome": stored.outcome,
                    "ack_t": round(t0 + stored.ack_s, 6) if acked else None,
                    "region": stored.region,
                },
            )
            if stored.name in self.traffic.deleted:
                at_s = self.traffic.deleted[stored.name]
                data = {"object": stored.name, "outcome": "acked", "region": stored.region}
                yield at_s, "ledger/w0", "delete", {**data, "ack_t": round(t0 + at_s, 6)}
        if self.uploads.followed < 1:
            yield self.day.end_s + 1.9, "ledger/w0", "share", {"share": self.uploads.followed}

    def readback(self) -> Iterator[_Line]:
        """What was found of them during the run and after it."""
        for phase in self.day.plan.phases:
            if phase.fault and phase.name not in self.uploads.unasked:
                yield from self._pass(phase)
        for stored in self.stored:
            result = self._result(stored)
            if stored.outcome == "acked" and result:
                yield self.day.end_s + 2.7, "readback", "readback", self._found(stored, result)
        if self.stored:
            yield self.day.end_s + 2.8, "readback", "listing", self._list()

    def _found(self, stored: Stored, result: str) -> dict[str, Any]:
        gone = stored.name in self.traffic.deleted
        return {
            "object": stored.name,
            "result": result,
            "region": self.day.primary,
            "detail": "",
            "expected": "must-be-gone" if gone else "must-be-present",
            "answers": 1,
        }

    def _result(self, stored: Stored) -> str:
        """What was found of an upload; empty when it was never looked for."""
        number = self.number.get(stored.name, 0)
        if stored.name in self.traffic.deleted:
            return "present" if stored.name in self.back else "missing"
        for every, result in (
            (self.uploads.unread_every, ""),
            (self.uploads.unreadable_every, "error"),
            (self.uploads.lost_every, "missing"),
            (self.uploads.altered_every, "altered"),
        ):
            if every and number % every == 0:
                return result
        return "missing" if self._behind(stored, self.uploads.unreplicated_s) else "present"

    def _behind(self, stored: Stored, lag_s: float) -> bool:
        """Whether it was acknowledged so shortly before the region was lost."""
        return any(
            fault.kind == "region" and fault.hits and 0 <= fault.landed_s - stored.ack_s < lag_s
            for fault in self.day.faults
        )

    # ---- towards the end of a phase ------------------------------------------------------------

    def _pass(self, phase: Phase) -> Iterator[_Line]:
        start_s, end_s = self.day.spans[phase.name]
        at_s, source = start_s + _ASKED_AT * (end_s - start_s), f"readback/{phase.name}"
        before = [s for s in self.stored if s.outcome == "acked" and s.ack_s < at_s - 0.5]
        if phase.kind == "fault":
            landed_s = next(f.landed_s for f in self.day.faults if f.name == phase.fault)
            before = [stored for stored in before if stored.ack_s < landed_s]
        chosen = [s for s in before if s.name not in self.traffic.deleted][-_ASKED:]
        state = self.day.state_at(at_s)
        dead = set(state.zones) <= state.dead
        yield at_s, source, "pass.start", {"phase": phase.name, "chosen": len(chosen), "rate": 2.5}
        for n, stored in enumerate(chosen):
            lag_s = max(self.uploads.away_s, self.uploads.unreplicated_s)
            away = phase.fault is not None and self._behind(stored, lag_s)
            result = "error" if dead else "missing" if away else "present"
            found = self._found(stored, result) | {"phase": phase.name}
            found["region"] = "" if dead else self.traffic.region_of(state.zones[0])
            yield at_s + 0.1 * n, source, "readback", found
        yield at_s + 1.0, source, "pass.end", {"phase": phase.name, "asked": len(chosen)}

    # ---- the service's own list ----------------------------------------------------------------

    def _list(self) -> dict[str, Any]:
        uploads = self.uploads
        if uploads.list_error:
            none = dict.fromkeys(("listed", "twice", "copies", "undeleted", "absent"), 0)
            return {"prefix": PREFIX, "error": uploads.list_error, **none, "names": {}}
        there = {s.name for s in self.stored if self._result(s) in ("present", "altered")}
        present = sorted(name for name in self.number if name in there)
        absent = sorted(set(self.number) - there - set(self.traffic.deleted))
        names = {
            "twice": present[: uploads.twice],
            "copies": [f"stray-{n} of {name}" for n, name in enumerate(present[: uploads.copies])],
            "undeleted": sorted(self.back),
            "absent": absent,
        }
        return {
            "prefix": PREFIX,
            "error": "",
            "listed": len(present) + uploads.twice + uploads.copies,
            **{what: len(found) for what, found in names.items()},
            "names": {what: found[:20] for what, found in names.items() if found},
        }
