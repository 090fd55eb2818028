"""Plans that nobody wrote: one experiment with defaults, or traffic without faults.

Both are written as YAML and read like any other plan, so the run folder holds a document
the user can save, edit and run again.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from harness.plan.model import Plan, TargetNames
from harness.plan.nodes import relative
from harness.plan.reader import parse_plan
from harness.plan.shapes import parse_rate

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
{rpo}  - agreement: client and Prometheus within {agreement} %
    in: [{steady}]
"""
#: Agreement is asked for as closely as so short a phase can tell.
_AGREEMENT_PERCENT = (2, 5, 10, 20)
#: Tag of an experiment that delivers a version → what must become of it, and in which share of
#: the hold: a withdrawal is clocked from the first request the version serves, which is later.
_DELIVERIES = {
    "withdrawn": ("canary: withdrawn", 0.6),
    "promoted": ("canary: promoted", 1.0),
    "switched": ("blue/green: switched", 1.0),
    "complete": ("rolling update: complete", 1.0),
}
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
    scrape_interval_s: float = 1.0,
) -> Plan:
    """A plan of one fault, with the usual objectives.

    A fault of a whole region (a file in a folder ``region``) is also judged for failover
    and failback, a delivery (in a folder ``delivery``) by what its tags say must become of
    the version: withdrawn, promoted, switched or complete. Raises PlanInvalid as the reader does.
    """
    region = file.resolve().parent.name.startswith("region")
    delivery = _delivery(file, hold_s)
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
    agreement = agreement_percent(rate, min(baseline_s, cool_down_s), scrape_interval_s)
    text = head + fault
    text += _STEADY.format(steady="baseline, cool-down", rpo=rpo, agreement=agreement)
    if delivery:
        return parse_plan(text + delivery, Path("experiment.yaml"))
    text += f"  - recovery: within {hold_s:g}s\n    of: [fault]\n"
    if region:
        text += f"  - failover: within {hold_s:g}s\n    of: [fault]\n"
        text += f"  - failback: within {recovery_s:g}s\n    of: [fault]\n"
    return parse_plan(text, Path("experiment.yaml"))


def _delivery(file: Path, hold_s: float) -> str:
    """The objective of a delivery, by its tags; empty for another experiment."""
    if file.resolve().parent.name != "delivery":
        return ""
    try:
        tags = json.loads(file.read_bytes()).get("tags") or []
    except (OSError, ValueError, AttributeError):
        return ""  # the reader says what is wrong with it
    for words, share in (found for tag, found in _DELIVERIES.items() if tag in tags):
        return f"  - {words} within {share * hold_s:g}s\n    of: [fault]\n"
    return ""


def plan_for_load(
    rate: str,
    duration_s: float,
    *,
    target: TargetNames = LAB_TARGET,
    locustfile: str = "locustfiles/mixed.py",
    seed: int = 7,
    scrape_interval_s: float = 1.0,
) -> Plan:
    """Traffic at ``rate`` (such as ``200/s``) for ``duration_s``, no faults, usual objectives.

    A ``rate`` may change over time, as in a plan.
    """
    head = _HEAD.format(
        name="load",
        description="Traffic without faults.",
        target=target,
        locustfile=locustfile,
        rate=rate,
        seed=seed,
        baseline_s=duration_s,
    )
    agreement = agreement_percent(rate, duration_s, scrape_interval_s)
    text = head + "objectives:\n"
    text += _STEADY.format(steady="baseline", rpo="", agreement=agreement)
    return parse_plan(text, Path("load.yaml"))


def agreement_percent(rate: str, duration_s: float, scrape_interval_s: float) -> int:
    """How closely a phase can tell that clients and Prometheus agree, in percent.

    What is unsure at its edges is chance (see :mod:`harness.verdict.agreement`); an equal count
    passes nearly always when six standard deviations of it are within the tolerance. An
    unreadable rate is the reader's to refuse.
    """
    try:
        per_s = parse_rate(rate).arrivals_by(duration_s) / duration_s
    except ValueError:
        return _AGREEMENT_PERCENT[0]
    counted_s = max(1.0, duration_s - 2 * scrape_interval_s)
    chance = 6 * math.sqrt(2 * per_s * (1 + scrape_interval_s) / 4) / (per_s * counted_s)
    enough = [percent for percent in _AGREEMENT_PERCENT if percent / 100 >= chance]
    return enough[0] if enough else _AGREEMENT_PERCENT[-1]
