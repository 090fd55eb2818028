"""Plans that nobody wrote: one experiment with defaults, or traffic without faults.

Both are written as YAML and read like any other plan, so the run folder holds a document
the user can save, edit and run again.
"""

from __future__ import annotations

from pathlib import Path

from harness.plan.model import Plan, TargetNames
from harness.plan.reader import parse_plan, relative

_HEAD = """\
version: 1
name: {name}
description: {description}
target:
  service: {target.service}
  primary: {target.primary}
  standby: {target.standby}
traffic:
  locustfile: {locustfile}
  rate: {rate}
  arrivals: poisson
  seed: {seed}
  mix: {{download: 64, upload: 12, image: 15, list: 6, delete: 3}}
  timeout: 5s
baseline: {baseline_s:g}s
"""
_STEADY = """\
  - availability: at least 99.9 %
    in: [{steady}]
  - latency: p95 below 200ms
    in: [{steady}]
  - error rate: below 1 %
    in: [{steady}]
  - throughput: at least 95 % of planned
    in: [{steady}]
  - durability: no upload lost or altered
{rpo}  - agreement: client and Prometheus within 2 %
    in: [{steady}]
"""
LAB_TARGET = TargetNames("http://api.fileservice.lab:8080", "us-east-1", "us-west-2")


def plan_for_experiment(
    file: Path,
    *,
    target: TargetNames = LAB_TARGET,
    rate: str = "200/s",
    baseline_s: float = 15,
    hold_s: float = 20,
    recovery_s: float = 40,
    cool_down_s: float = 10,
    locustfile: str = "locustfiles/mixed.py",
    seed: int = 7,
) -> Plan:
    """A plan of one fault, with the usual objectives.

    A fault of a whole region (a file in a folder ``region``) is also judged for failover
    and failback. Raises PlanInvalid as the reader does.
    """
    region = file.resolve().parent.name.startswith("region")
    head = _HEAD.format(
        name=file.stem.lower().replace("_", "-"),
        description=f"One experiment, {file.name}, under traffic.",
        target=target,
        locustfile=locustfile,
        rate=rate,
        seed=seed,
        baseline_s=baseline_s,
    )
    fault = (
        "faults:\n  - name: fault\n"
        f"    experiment: {relative(file)}\n"
        f"    hold: {hold_s:g}s\n    recovery: {recovery_s:g}s\n"
        f"cool_down: {cool_down_s:g}s\nobjectives:\n"
    )
    rpo = "    rpo: 5s\n    of: [fault]\n" if region else ""
    text = head + fault + _STEADY.format(steady="baseline, cool-down", rpo=rpo)
    text += f"  - recovery: within {hold_s:g}s\n    of: [fault]\n"
    if region:
        text += f"  - failover: within {hold_s:g}s\n    of: [fault]\n"
        text += f"  - failback: within {recovery_s:g}s\n    of: [fault]\n"
    return parse_plan(text, Path("experiment.yaml"))


def plan_for_load(
    rate: str,
    duration_s: float,
    *,
    target: TargetNames = LAB_TARGET,
    locustfile: str = "locustfiles/mixed.py",
    seed: int = 7,
) -> Plan:
    """Traffic at ``rate`` (such as ``200/s``) for ``duration_s``, no faults, usual objectives."""
    head = _HEAD.format(
        name="load",
        description="Traffic without faults.",
        target=target,
        locustfile=locustfile,
        rate=rate,
        seed=seed,
        baseline_s=duration_s,
    )
    text = head + "objectives:\n" + _STEADY.format(steady="baseline", rpo="")
    return parse_plan(text, Path("load.yaml"))
