"""Game day, traffic and objectives as immutable values, and the reader of plans."""

from harness.plan.adhoc import plan_for_experiment, plan_for_load
from harness.plan.model import Fault, Objective, Phase, Plan, TargetNames, Traffic
from harness.plan.reader import parse_plan, read_plan

__all__ = [
    "Fault",
    "Objective",
    "Phase",
    "Plan",
    "TargetNames",
    "Traffic",
    "parse_plan",
    "plan_for_experiment",
    "plan_for_load",
    "read_plan",
]
