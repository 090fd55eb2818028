"""A service that is stopped on a simulated day: what those get who ask for it, and its breaker."""

from __future__ import annotations

from typing import Any

from harness.plan.model import Degradation
from harness.selftest.course import Course, Day, after

_NEVER = float("inf")
Changes = list[tuple[float, Any]]


class Degradations:
    """Operations that degrade, as the plan says; none where it says nothing of it."""

    def __init__(self, day: Day) -> None:
        self.day, self.world = day, day.world.degradation
        self.asked = [o for o in day.plan.objectives if isinstance(o, Degradation)]
        self.operations = frozenset(op for o in self.asked for op in o.operations)
        self._faults = [f for f in day.faults if f.kind == "service" and f.hits]
        self._spans = [self._span(fault) for fault in self._faults if self.world.felt]

    def _span(self, fault: Course) -> tuple[float, float, float]:
        """From when what is asked of it fails, is answered with less, is whole again."""
        degrades_s = fault.landed_s + self.world.failing_s
        return fault.landed_s, degrades_s, after(fault.undo_done_s, self.world.whole_s)

    def fate(self, at_s: float, chance: float) -> tuple[str, str] | None:
        """``(outcome, error)`` of a request of theirs; None where nothing is wrong."""
        world = self.world
        for fails_s, degrades_s, whole_s in self._spans:
            if fails_s <= at_s < degrades_s:
                return ("failed", world.error) if chance < world.failing_share else None
            if degrades_s <= at_s < whole_s:
                declared = world.degraded and chance < world.answered
                return ("degraded", world.degraded) if declared else ("failed", world.error)
        return None

    def targets(self) -> list[str]:
        """What is stopped."""
        return [f"deployment:{zone}/image" for zone in self.day.zones[:2]]

    def pods(self) -> dict[str, dict[str, Changes]]:
        """observer → subject → (from when, what is true of it)."""
        found: dict[str, dict[str, Changes]] = {}
        for zone in self.day.zones[:2] if self.asked else ():
            there, none = _pods([f"{zone}-image-0"]), _pods([])
            changes: Changes = [(-_NEVER, there)]
            for fault in self._faults:
                back_s = after(fault.undo_done_s, self.world.back_s)
                changes += [(after(fault.landed_s, self.world.gone_s), none), (back_s, there)]
            subject = f"pods:{zone}/image"
            found[f"pods-{zone}"] = {subject: [c for c in changes if c[0] < _NEVER]}
        return found

    def series(self, t0: float, begins_s: float) -> list[dict[str, Any]]:
        """The state of each gateway's circuit breaker, as Prometheus has it."""
        said = self.day.world.prometheus
        found = []
        for objective in self.asked:
            count = int((self.day.end_s + 3.0 - begins_s) / said.scrape_s) + 1
            instants = [begins_s + n * said.scrape_s for n in range(count)]
            missed = [self.day.between(window) for window in said.missed]
            kept = [s for s in instants if not any(a <= s < b for a, b in missed)]
            points = [
                [round(t0 + s + said.offset_s, 3), said.value or str(self._state(s))] for s in kept
            ]
            lines = [
                {"labels": {"instance": f"gateway-{zone}", "zone": zone}, "points": points}
                for zone in self.day.zones[:2]
            ]
            found.append(
                {
                    "name": objective.series_name,
                    "query": objective.breaker,
                    "step_s": said.scrape_s,
                    "start": t0 + begins_s,
                    "end": t0 + self.day.end_s + 3.0,
                    "status": "error" if said.error else "success",
                    "warnings": [said.warning] if said.warning else [],
                    "fetched_t": t0 + self.day.end_s + 4.0,
                    "error": said.error or None,
                    "result": [] if said.error or said.empty else lines,
                }
            )
        return found

    def _state(self, at_s: float) -> int:
        for fault in self._faults:
            if self.world.open_before and at_s < fault.landed_s:
                return 2
            opens_s = after(fault.landed_s, self.world.opens_s)
            if opens_s <= at_s < after(fault.undo_done_s, self.world.closes_s):
                return 2
        return 0


def _pods(uids: list[str]) -> dict[str, Any]:
    return {"ready": len(uids), "total": len(uids), "uids": uids}
