"""What must hold before a plan is run on a target, beside the target's own health."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.chaos.blast import BlastRadius
from harness.chaos.conditions import checks_of
from harness.clock import Clock
from harness.plan.guards import Guard
from harness.plan.model import Plan
from harness.target.model import Target
from harness.target.preflight import Finding
from harness.target.windows import utc, why_not_now

#: What the run takes beside its phases: warming up, draining, reading back.
_AROUND_S = 120.0


def checks_before(
    plan: Plan, target: Target, clock: Clock, guards: Sequence[Guard], radius: BlastRadius
) -> dict[str, Callable[[], Finding]]:
    """Preflight's checks of this plan on this target; they only read. ``radius`` is filled."""
    checks = checks_of(guards, plan, target)
    checks["hours"] = lambda: _hours(plan, target, clock)
    if plan.faults:
        checks["targets"] = radius.look
    return checks


def _hours(plan: Plan, target: Target, clock: Clock) -> Finding:
    begin_t = clock.wall_s()
    end_t = begin_t + plan.duration_s + _AROUND_S
    why = why_not_now(begin_t, end_t, target.allowed_hours, target.freezes)
    if why is not None:
        return False, why, "run it later; allowed_hours and freezes stand in the target file"
    said = f"until {utc(end_t)}" if target.allowed_hours or target.freezes else "always allowed"
    return True, said, ""
