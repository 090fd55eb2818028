"""What must hold before a plan is run on a target, beside the target's own health."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.chaos.blast import BlastRadius
from harness.chaos.conditions import checks_of
from harness.clock import Clock
from harness.plan.guards import Guard
from harness.plan.model import Plan
from harness.target.approval import Approval, claim, require_approval
from harness.target.model import Target
from harness.target.preflight import Finding
from harness.target.state import state_dir
from harness.target.windows import utc, why_not_now

#: What the run takes beside its phases: warming up, draining, reading back.
_AROUND_S = 120.0


@dataclass
class Permission:
    """The approval of a run on a production target; ``approval`` is set once it was verified."""

    target_file: Path
    file: Path | None
    approval: Approval | None = None

    def use(self) -> None:
        """Use the approval up, where one is needed. Raises Refused."""
        if self.approval is not None:
            claim(self.approval, state_dir())


def checks_before(
    plan: Plan,
    target: Target,
    clock: Clock,
    *,
    guards: Sequence[Guard],
    radius: BlastRadius,
    permission: Permission,
) -> dict[str, Callable[[], Finding]]:
    """Preflight's checks of this plan on this target; they only read. ``radius`` and
    ``permission`` are filled."""
    checks = checks_of(guards, plan, target)
    checks["hours"] = lambda: _hours(plan, target, clock)
    if target.production:
        checks["approval"] = lambda: _approved(plan, target, clock, permission)
    if plan.faults:
        checks["targets"] = radius.look
    return checks


def _approved(plan: Plan, target: Target, clock: Clock, permission: Permission) -> Finding:
    begin_t = clock.wall_s()
    permission.approval = require_approval(
        permission.file,
        plan,
        target,
        permission.target_file,
        begin_t=begin_t,
        end_t=begin_t + plan.duration_s + _AROUND_S,
        state=state_dir(),
    )
    return True, f"by {permission.approval.approver}, once", ""


def _hours(plan: Plan, target: Target, clock: Clock) -> Finding:
    begin_t = clock.wall_s()
    end_t = begin_t + plan.duration_s + _AROUND_S
    why = why_not_now(begin_t, end_t, target.allowed_hours, target.freezes)
    if why is not None:
        return False, why, "run it later; allowed_hours and freezes stand in the target file"
    said = f"until {utc(end_t)}" if target.allowed_hours or target.freezes else "always allowed"
    return True, said, ""
