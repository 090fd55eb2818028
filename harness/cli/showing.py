"""What the verbs print about plans, checks and verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from harness.chaos.blast import Aim
    from harness.load.calibration import Need
    from harness.plan.model import Plan
    from harness.plan.recording import Recording
    from harness.target.model import Target
    from harness.target.preflight import Check
    from harness.verdict.model import Verdict


def plan(plan: Plan) -> None:
    """The day in order, and what must hold."""
    click.echo(f"{plan.name}: {plan.description}")
    traffic = plan.traffic
    mix = ", ".join(f"{op} {share:g}" for op, share in traffic.mix.items())
    rate = traffic.shape or f"{traffic.rate:g} arrivals/s"
    if traffic.recording is not None:
        rate, mix = traffic.recording.words, ", ".join(_left_out(traffic.recording)) or "whole"
    entry = "through the edge; " if traffic.entry == "edge" else ""
    said = f"traffic: {rate} ({traffic.arrivals}), {mix}; {entry}{plan.duration_s:.0f} s in all"
    click.echo(said)
    if traffic.behaviour:
        said = ", ".join(f"{name} {value:g}" for name, value in traffic.behaviour.items())
        click.echo(f"  users: {said} (docs/traffic.md)")
    begin_s = 0.0
    for phase in plan.phases:
        what = f"  {plan.fault(phase.fault).experiment}" if phase.kind == "fault" else ""
        end_s = begin_s + phase.duration_s
        if not traffic.curve.is_constant:
            due = traffic.curve.arrivals_by(end_s) - traffic.curve.arrivals_by(begin_s)
            what = f"  {due:7.0f} arrivals, {due / phase.duration_s:5.0f}/s{what}"
        begin_s = end_s
        click.echo(f"  {phase.name:18} {phase.duration_s:4.0f} s{what}")
    click.echo("objectives:")
    for objective in plan.objectives:
        places = getattr(objective, "phases", None) or getattr(objective, "faults", ())
        by = "by the surge" if objective.kind == "scaling" else "by what was before"
        click.echo(f"  {objective.text}  ({', '.join(places) or by})")
    for start in plan.starts:
        click.echo(f"starts only when: {start.text}")
    if plan.guards:
        click.echo("stops when:")
    for guard in plan.guards:
        click.echo(f"  {guard.text}  (or no data for {guard.no_data_s:g} s)")


def workers(plan: Plan, needed: Need) -> None:
    """How many generator processes will send, and how many the rate needs."""
    import os

    wanted = plan.traffic.workers
    count = needed.workers if wanted == "auto" else wanted
    click.echo(f"workers: {count}{' (auto)' if wanted == 'auto' else ''}; {needed.because}")
    if needed.workers > count:
        click.echo(f"  the rate needs {needed.workers}: with {count} the generator may be late")
    if count > len(os.sched_getaffinity(0)):
        click.echo("  more than this machine has cores; others can send too: docs/generators.md")


def _left_out(recording: Recording) -> Iterator[str]:
    """What of a recording is not replayed as it stands."""
    for why, n in recording.skipped.items():
        yield f"{n} left out: {why}"
    if recording.out_of_order:
        yield f"{recording.out_of_order} put in order"


def expected(times: Mapping[str, Any], target: Target) -> None:
    """How long each step of a failover should take, by the live configuration."""
    click.echo(
        f"\nexpected times on {target.name}"
        + (f" (AWS intervals divided by {target.time_scale:g})" if target.time_scale != 1 else "")
    )
    for name, step in times.items():
        value = step["value_s"]
        figure = "?" if value is None else f"{value:.1f} s"
        click.echo(
            f"  {name.removesuffix('_s').replace('_', ' '):20} {figure:>8}  {step['because']}"
        )


def blast_radius(plan: Plan, aims: Sequence[Aim]) -> None:
    """What each fault would hit, as a table; nothing where that could not be told."""
    if not aims:
        return
    click.echo("\nblast radius")
    click.echo(
        f"  {'fault':16} {'action':16} {'hits':>4} {'of':>4} {'share':>6}  {'cap':14} targets"
    )
    for aim in aims:
        fault = plan.fault(aim.fault)
        caps = [f"{fault.at_most} targets"] if fault.at_most is not None else []
        caps += [f"{fault.share:.0%}"] if fault.share is not None else []
        share = "" if aim.share is None else f"{aim.share:.0%}"
        more = f" … {len(aim.targets) - 6} more" if len(aim.targets) > 6 else ""
        click.echo(
            f"  {aim.fault:16} {aim.action:16} {len(aim.targets):4} {aim.of or '?':>4} {share:>6}  "
            f"{', '.join(caps) or 'experiment':14} {', '.join(aim.targets[:6])}{more}"
        )


def checks(found: list[Check]) -> None:
    """Preflight, one line a check."""
    click.echo("\npreflight")
    for check in found:
        mark = {True: "ok", False: "REFUSED", None: "UNKNOWN"}[check.ok]
        click.echo(f"  {mark:8} {check.name}: {check.detail}")
        if check.ok is not True and check.hint:
            click.echo(f"           try: {check.hint}")


def verdict(plan: Plan, verdict: Verdict, run_dir: Path) -> None:
    """The outcome, the reasons, and where the evidence lies."""
    from harness.report import terminal

    click.echo(terminal.render(plan, verdict.to_json()))
    click.echo(f"report: {run_dir / 'report.html'}")
