"""What happens when on a simulated day: phases, faults, who serves, and from when it was good.

Instants here are seconds since the traffic began, by a clock that is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.errors import PlanInvalid, Where
from harness.plan.model import BlueGreen, Canary, Plan, RollingUpdate
from harness.selftest.world import Truth, Window, World

#: Undoing begins so long before a fault's phase ends, and takes so long.
UNDO_BEFORE_S = 0.35
UNDO_TAKES_S = 0.1
KINDS = {"pods": "pods", "services": "service", "zones": "zone", "region": "region"}
#: What becomes of a version that is delivered, by what must.
DELIVERIES = ("bad", "good", "switch", "rolling")


@dataclass(frozen=True)
class Course:
    """One fault: when it was called for, when it took hold, when it was taken back.

    ``kind``: pods, service, zone, region, or one of :data:`DELIVERIES`. ``hits`` is False when the
    call changed nothing.
    """

    name: str
    kind: str
    call_start_s: float
    call_end_s: float
    undo_start_s: float
    undo_done_s: float
    hits: bool

    @property
    def landed_s(self) -> float:
        """Half-way through the call: nobody knows it more closely than that it was within."""
        return (self.call_start_s + self.call_end_s) / 2


@dataclass(frozen=True)
class State:
    """Who serves in a stretch. ``zones`` share the requests, those in ``dead`` fail; writes
    succeed if ``writes``; of the requests to the first zone ``failing`` fail at once."""

    zones: tuple[str, ...]
    dead: frozenset[str]
    writes: bool
    failing: float


def after(start_s: float, duration_s: float | None) -> float:
    """The moment ``duration_s`` after ``start_s``; never when that is None."""
    return math.inf if duration_s is None else start_s + duration_s


class Day:
    """Plan and world as a sequence of instants."""

    def __init__(self, plan: Plan, world: World) -> None:
        self.plan, self.world = plan, world
        self.primary, self.standby = plan.target.primary, plan.target.standby
        self.zones = (f"{self.primary}a", f"{self.primary}b", f"{self.standby}a")
        self.spans = self._spans()
        self.end_s = max(end for _, end in self.spans.values())
        self.faults = tuple(self._course(fault.name) for fault in plan.faults)

    def _spans(self) -> dict[str, tuple[float, float]]:
        spans, at_s = {}, self.world.conductor.begin_s
        for phase in self.plan.phases:
            spans[phase.name] = (at_s, at_s + phase.duration_s)
            # The next phase begins a moment after the one before has ended.
            at_s += phase.duration_s + 0.013
        return spans

    def _course(self, name: str) -> Course:
        fault, chaos = self.plan.fault(name), self.world.chaos_of(name)
        kind = self._kind(name)
        if not kind:
            raise PlanInvalid(
                f"what {fault.experiment} breaks cannot be simulated",
                hint=f"experiments in folders called {', '.join(KINDS)} can, and in one called "
                "delivery if an objective says what must become of the version",
                where=Where(self.plan.file, key=f"faults.{name}"),
            )
        start_s, end_s = self.spans[f"fault:{name}"]
        call_s = start_s + chaos.made_after_s
        undo_s = end_s - UNDO_BEFORE_S
        return Course(
            name,
            kind,
            call_s,
            call_s + chaos.call_s,
            undo_s,
            undo_s + UNDO_TAKES_S,
            chaos.made and chaos.effective,
        )

    def _kind(self, name: str) -> str:
        """What the fault breaks or delivers, empty where that cannot be simulated."""
        folder = self.plan.fault(name).experiment.rpartition("/")[0].rpartition("/")[2]
        if folder != "delivery":
            return KINDS.get(folder, "")
        for objective in self.plan.objectives:
            if isinstance(objective, Canary) and name in objective.faults:
                return "bad" if objective.ends == "withdrawn" else "good"
            if isinstance(objective, BlueGreen) and name in objective.faults:
                return "switch"
            if isinstance(objective, RollingUpdate) and name in objective.faults:
                return "rolling"
        return ""

    def between(self, window: Window) -> tuple[float, float]:
        """Start and end of a window. PlanInvalid when the plan has no such phase."""
        if window.phase == "all":
            start_s, end_s = 0.0, self.end_s + 10.0
        elif window.phase in self.spans:
            start_s, end_s = self.spans[window.phase]
        else:
            raise PlanInvalid(
                f"there is no phase {window.phase!r}",
                hint=f"all, {', '.join(self.spans)}",
                where=Where(self.plan.file),
            )
        start_s += window.after_s
        return start_s, end_s if window.for_s is None else start_s + window.for_s

    # ---- who serves --------------------------------------------------------------------

    def back_s(self, fault: Course) -> float:
        """When clients are served by the primary region again."""
        return after(fault.undo_done_s, self.world.back.clients_s)

    def over_s(self, fault: Course) -> float:
        """When clients are served by the standby region."""
        return after(fault.landed_s, self.world.region.clients_s)

    def db_moved_s(self, fault: Course) -> float:
        """When a zone's database primary runs elsewhere; at the latest when the zone is back."""
        moved_s = after(fault.landed_s, self.world.zone.db_moved_s)
        return min(moved_s, fault.undo_done_s + self.world.zone.back_s)

    def writable_s(self, fault: Course) -> float:
        """When the standby acknowledges writes."""
        region = self.world.region
        return max(
            after(fault.landed_s, region.promoted_s), after(fault.landed_s, region.writable_s)
        )

    def state_at(self, at_s: float) -> State:
        """Who serves a request that is sent at ``at_s``."""
        first, second, standby = self.zones
        state = State((first, second), frozenset(), True, 0.0)
        for fault in self.faults:
            if not fault.hits or at_s < fault.landed_s or fault.kind in (*DELIVERIES, "service"):
                continue
            if fault.kind == "pods":
                if at_s < fault.landed_s + self.world.pods.failing_s:
                    state = State(state.zones, state.dead, True, self.world.pods.failing_share)
            elif fault.kind == "zone":
                away_s = after(fault.landed_s, self.world.zone.turned_away_s)
                writes = at_s >= self.db_moved_s(fault)
                if at_s < fault.undo_done_s and at_s < away_s:
                    state = State((first, second), frozenset({first}), writes, 0.0)
                elif at_s < fault.undo_done_s + self.world.zone.back_s and away_s < math.inf:
                    state = State((second,), frozenset(), writes, 0.0)
            elif self.over_s(fault) <= at_s < self.back_s(fault) and self.over_s(fault) < math.inf:
                state = State((standby,), frozenset(), at_s >= self.writable_s(fault), 0.0)
            elif at_s < fault.undo_done_s:
                state = State((first, second), frozenset({first, second}), False, 0.0)
        return state

    def changes_s(self) -> list[float]:
        """Every instant at which who serves may change, ascending."""
        found = {0.0}
        for fault in self.faults:
            if fault.kind in (*DELIVERIES, "service"):
                continue
            found |= {fault.landed_s, fault.undo_done_s, fault.landed_s + self.world.pods.failing_s}
            found |= {after(fault.landed_s, self.world.zone.turned_away_s)}
            found |= {fault.undo_done_s + self.world.zone.back_s, self.db_moved_s(fault)}
            found |= {self.over_s(fault), self.back_s(fault), self.writable_s(fault)}
        return sorted(at_s for at_s in found if 0.0 <= at_s < math.inf)

    # ---- the truth -----------------------------------------------------------------------

    def truth(self) -> Truth:
        """Of the faults' own course; troubles of the service come on top of it."""
        recovery: dict[str, float | None] = {}
        over: dict[str, float | None] = {}
        back: dict[str, float | None] = {}
        world = self.world
        for fault in self.faults:
            if fault.kind == "pods":
                recovery[fault.name] = world.pods.failing_s
            elif fault.kind == "zone":
                away_s = after(fault.landed_s, world.zone.turned_away_s)
                good_s = max(min(away_s, fault.undo_done_s), self.db_moved_s(fault))
                recovery[fault.name] = good_s - fault.landed_s
            elif fault.kind == "region":
                good_s = max(self.over_s(fault), self.writable_s(fault))
                recovery[fault.name] = _since(good_s, fault.landed_s)
                red_s = after(fault.landed_s, world.region.red_s)
                last_s = max(good_s, red_s, after(fault.landed_s, world.region.dns_s))
                over[fault.name] = _since(last_s, fault.landed_s)
                steps = (world.back.db_s, world.back.green_s, world.back.dns_s)
                last_s = max(self.back_s(fault), *(after(fault.undo_done_s, s) for s in steps))
                back[fault.name] = _since(last_s, fault.undo_done_s)
        return Truth(recovery, over, back)


def _since(at_s: float, from_s: float) -> float | None:
    return at_s - from_s if at_s < math.inf else None
