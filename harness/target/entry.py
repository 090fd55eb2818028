"""Where traffic enters a target: at the origin itself, or at the edge (CDN) in front of it."""

from __future__ import annotations

import dataclasses

from harness.errors import PlanInvalid, Where
from harness.plan.model import Entry, Plan
from harness.target.model import Target


def with_entry(
    plan: Plan, target: Target, *, entry: Entry | None = None, rate_asked_for: bool = False
) -> tuple[Plan, str]:
    """``plan`` as it enters ``target``, and one line for people where that is not as it says.

    ``entry`` is what was asked for beside the plan. Without that, a rate asked for beside the
    plan that is more than the origin is stated to carry goes to the edge: nobody
    plans to send a CDN's traffic to what is behind it. Raises PlanInvalid when there is no
    edge to go to.
    """
    traffic = plan.traffic
    wanted, line = entry or traffic.entry, ""
    most = target.origin_rate_max
    may = entry is None and rate_asked_for and wanted == "origin" and target.edge_url
    if may and most is not None and traffic.curve.peak > most:
        wanted = "edge"
        line = (
            f"traffic: {traffic.curve.peak:g}/s is more than the {most:g}/s the origin is stated "
            f"to carry: it goes through the edge, {target.edge_url}, which caches downloads and "
            "images (--entry origin sends it all to the origin)"
        )
    if wanted == "edge" and not target.edge_url:
        raise PlanInvalid(
            f"the traffic is to enter at the edge, and {target.name} has none",
            hint="give `edge_url` in the target file, or `entry: origin`",
            where=Where(plan.file, key="traffic.entry"),
        )
    if wanted == traffic.entry:
        return plan, line
    return dataclasses.replace(plan, traffic=dataclasses.replace(traffic, entry=wanted)), line


def url(plan: Plan, target: Target) -> str:
    """Where the traffic of ``plan`` is sent."""
    if plan.traffic.entry == "edge" and target.edge_url:
        return target.edge_url
    return target.service_url
