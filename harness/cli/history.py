"""The verbs of past runs: keep, list, compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.errors import ExitStatus

if TYPE_CHECKING:
    from harness.evidence.model import Evidence
    from harness.history import Record
    from harness.plan.model import Plan
    from harness.target.model import Target
    from harness.verdict.model import Verdict

FILE = "history.sqlite"


def remembered(runs_root: Path, plan: Plan, target: Target) -> Plan:
    """The plan with what is known of earlier runs of its service on this target.

    A file that cannot be read stops no game day: what needs the past is then unknown.
    """
    from harness.history import History
    from harness.history.store import HistoryError

    try:
        known = History(runs_root / FILE).before(target.name, plan.target.service)
    except HistoryError as error:
        click.echo(f"history: {error}", err=True)
        known = {"runs": []}
    return plan.with_recorded(history=known)


def keep(runs_root: Path, run_dir: Path, plan: Plan, evidence: Evidence, verdict: Verdict) -> None:
    """Record a judged run. That it cannot be recorded is told, and changes no verdict."""
    from harness.history import History, record_of
    from harness.history.store import HistoryError

    try:
        History(runs_root / FILE).add(record_of(plan, evidence, verdict, str(run_dir.resolve())))
    except HistoryError as error:
        click.echo(f"history: {error}", err=True)


@click.group(invoke_without_command=True)
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path),
    default=Path("runs") / FILE,
    show_default=True,
    help="Where past runs are kept.",
)
@click.pass_context
def history(context: click.Context, path: Path) -> int | None:
    """Past runs; without a verb, the list of them."""
    from harness.history import History

    context.obj = History(path)
    return context.invoke(listed) if context.invoked_subcommand is None else None


@history.command()
@click.argument(
    "run_dirs", metavar="RUN…", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.pass_context
def add(context: click.Context, run_dirs: tuple[Path, ...]) -> int:
    """Judge the run folders RUN… from their evidence and keep what they show.

    `harness run` does so by itself. A run that is known already is replaced.
    """
    from harness.cli.runs import recorded_plan
    from harness.evidence.run import read_run
    from harness.history import record_of
    from harness.verdict import judge

    for run_dir in run_dirs:
        plan, evidence = recorded_plan(run_dir), read_run(run_dir)
        verdict = judge(plan, evidence)
        record = record_of(plan, evidence, verdict, str(run_dir.resolve()))
        new = context.obj.add(record)
        click.echo(f"{'kept' if new else 'replaced'}: {record.id} ({record.outcome})")
    return ExitStatus.PASS


@history.command("list")
@click.option("--plan", metavar="NAME", help="Only runs of this plan.")
@click.option("--last", type=click.IntRange(min=1), default=20, show_default=True)
@click.pass_context
def listed(context: click.Context, plan: str | None = None, last: int = 20) -> int:
    """The last runs, the latest at the end."""
    found = context.obj.runs(plan=plan)
    if not found:
        click.echo("no run is kept; `harness history add RUN…` keeps one")
    for record in found[-last:]:
        click.echo(_line(record))
    return ExitStatus.PASS


@history.command()
@click.argument("plan", metavar="PLAN")
@click.option("--phase", default="baseline", show_default=True, help="The phase of the figures.")
@click.option("--last", type=click.IntRange(min=1), default=20, show_default=True)
@click.pass_context
def trend(context: click.Context, plan: str, phase: str, last: int) -> int:
    """Figures of the plan named PLAN, run by run: one line each, the latest at the end."""
    found = context.obj.runs(plan=plan)[-last:]
    if not found:
        click.echo(f"no run of {plan} is kept")
        return ExitStatus.PASS
    click.echo(f"{'run':24} {'verdict':8} {'availability':>12} {'p50':>9} {'p95':>9} {'p99':>9}"
               "  recoveries")  # fmt: skip
    for record in found:
        shown = {f.name: (f.low + f.high) / 2 for f in record.figures if f.phase == phase}
        share = f"{shown['availability']:.4%}" if "availability" in shown else "–"
        times = " ".join(f"{_ms(shown.get(name)):>9}" for name in ("p50", "p95", "p99"))
        repairs = ", ".join(
            f"{r.fault} {'>' if r.high_s is None else ''}"
            f"{r.low_s if r.high_s is None else r.high_s:.1f} s"
            for r in record.repairs
        )
        click.echo(f"{record.run:24} {record.outcome:8} {share:>12} {times}  {repairs or '–'}")
    return ExitStatus.PASS


@history.command()
@click.option("--target", metavar="NAME", help="Only runs on this target.")
@click.pass_context
def times(context: click.Context, target: str | None) -> int:
    """Mean times to recovery and between failures, by service and target, as far as runs tell."""
    from harness.verdict.reliability import long, mean_between, mean_repair, remembered

    services: dict[tuple[str, str, bool], list[Record]] = {}
    for record in context.obj.runs(target=target):
        services.setdefault((record.service, record.target, record.simulated), []).append(record)
    for (service, name, simulated), records in sorted(services.items()):
        past = remembered([record.to_json() for record in records], simulated=simulated)
        click.echo(f"{service} on {name}: {past.source}")
        if past.why_not:
            click.echo(f"  cannot be told: {past.why_not}")
            continue
        if past.repairs:
            click.echo(f"  to recovery: {mean_repair(past).words}")
        failures = f"{past.failures} failures in {long(past.up_s)} without a fault"
        click.echo(f"  between failures: {failures}; {mean_between(past).words}")
    if not services:
        click.echo("no run is kept; `harness history add RUN…` keeps one")
    return ExitStatus.PASS


def _line(record: Record) -> str:
    bad = [f"{f.objective} ({f.phase})" for f in record.findings if f.outcome != "pass"]
    more = f": {bad[0]}" + (f" and {len(bad) - 1} more" if bad[1:] else "") if bad else ""
    return f"{record.plan}  {record.run}  {record.target}  {record.outcome}{more}"


def _ms(value_s: float | None) -> str:
    return "–" if value_s is None else f"{value_s * 1e3:.1f} ms"
