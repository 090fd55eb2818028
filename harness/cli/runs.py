"""The verbs that run, judge, tell and undo."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from harness.cli import history
from harness.cli.lab import STATE_DIR
from harness.errors import ExitStatus, LabError, UndoIncomplete

if TYPE_CHECKING:
    from harness.chaos.undo import UndoReport
    from harness.load.calibration import Need
    from harness.plan.model import Entry, Plan, TargetNames
    from harness.target.model import Target
    from harness.verdict.model import Verdict

RUNS = Path("runs")
DEFAULT_RATE = "200/s"


def _seconds(_: click.Context, parameter: click.Parameter, value: str) -> float:
    """A duration such as ``20s`` or ``5m``, in seconds."""
    from harness.plan.quantities import duration_s

    try:
        return duration_s(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from error


def _address(
    _: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, int] | None:
    """``0.0.0.0:5557`` as address and port."""
    if value is None:
        return None
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdigit():
        raise click.BadParameter(f"{value!r} is not HOST:PORT", param=parameter)
    return host or "*", int(port)


_target_option = click.option(
    "--target",
    "target_name",
    default="lab",
    show_default=True,
    metavar="lab|FILE",
    help="`lab` (started if none is up, then taken down again) or a target file.",
)
_rate_option = click.option(
    "--rate", metavar="N/s", help="Planned arrivals, instead of the plan's."
)
_entry_option = click.option(
    "--entry",
    type=click.Choice(["origin", "edge"]),
    help="Where traffic enters, instead of what the plan says: the service, or the CDN before it.",
)
_defect_option = click.option(
    "--defect", metavar="NAME", help="Run against a lab with this seeded defect."
)
_runs_option = click.option(
    "--runs",
    "runs_root",
    type=click.Path(path_type=Path),
    default=RUNS,
    show_default=True,
    help="Where run folders go.",
)
_stop_file_option = click.option(
    "--stop-file",
    envvar="HARNESS_STOP_FILE",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A kill switch: the run stops as soon as FILE is there (as by STOP in its folder).",
)
_approval_option = click.option(
    "--approval",
    envvar="HARNESS_APPROVAL",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What `harness approve` wrote; a production target needs it.",
)


@click.command()
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path))
@_target_option
@_rate_option
@_entry_option
@_defect_option
@_runs_option
@_stop_file_option
@_approval_option
@click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=_address,
    help="The plan's workers are started elsewhere (`locust --worker`) and connect here.",
)
def run(
    plan_file: Path,
    target_name: str,
    rate: str | None,
    entry: Entry | None,
    defect: str | None,
    runs_root: Path,
    stop_file: Path | None,
    approval: Path | None,
    listen: tuple[str, int] | None,
) -> int:
    """Run the game day PLAN, judge it, and write its report."""
    from harness.plan.reader import read_plan

    plan = read_plan(plan_file, rate=_rate(rate))
    return _carry_out(
        plan, target_name, _Asked(rate, entry, defect, listen, stop_file, approval), runs_root
    )


@click.command()
@click.argument("experiment_file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--hold",
    default="20s",
    show_default=True,
    callback=_seconds,
    help="How long the fault is held.",
)
@click.option(
    "--recovery",
    default="40s",
    show_default=True,
    callback=_seconds,
    help="How long is watched after it.",
)
@_target_option
@_rate_option
@_entry_option
@_defect_option
@_runs_option
@_stop_file_option
@_approval_option
def experiment(
    experiment_file: Path,
    hold: float,
    recovery: float,
    target_name: str,
    rate: str | None,
    entry: Entry | None,
    defect: str | None,
    runs_root: Path,
    stop_file: Path | None,
    approval: Path | None,
) -> int:
    """Run one Chaos Toolkit experiment FILE under traffic, with a verdict."""
    from harness.plan import plan_for_experiment

    plan = plan_for_experiment(
        experiment_file,
        target=_names(target_name),
        rate=_rate(rate) or DEFAULT_RATE,
        hold_s=hold,
        recovery_s=recovery,
        scrape_interval_s=_scrape_interval_s(target_name),
    )
    return _carry_out(
        plan, target_name, _Asked(rate, entry, defect, None, stop_file, approval), runs_root
    )


@click.command()
@click.argument(
    "locustfile", metavar="[LOCUSTFILE]", required=False, type=click.Path(path_type=Path)
)
@click.option(
    "--duration",
    default="60s",
    show_default=True,
    callback=_seconds,
    help="How long traffic is sent.",
)
@click.option("--host", metavar="URL", help="With LOCUSTFILE: where to.")
@click.option(
    "--workers", metavar="N|auto", default="1", show_default=True, help="With LOCUSTFILE."
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=_address,
    help="With LOCUSTFILE: the workers are started elsewhere (`locust --worker`) and connect here.",
)
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True)
@click.option(
    "--calibrate",
    is_flag=True,
    help="With LOCUSTFILE: raise the rate until one worker is at its end; kept for plans.",
)
@click.option(
    "--late",
    default="1ms",
    show_default=True,
    callback=_seconds,
    help="With --calibrate: p99 of its own lateness at which a worker is at its end.",
)
@click.option("--yes", is_flag=True, help="With --calibrate: also a host that is not this machine.")
@_target_option
@_rate_option
@_entry_option
@_defect_option
@_runs_option
@_stop_file_option
@_approval_option
def load(
    locustfile: Path | None,
    duration: float,
    host: str | None,
    workers: str,
    listen: tuple[str, int] | None,
    seed: int,
    calibrate: bool,
    late: float,
    yes: bool,
    target_name: str,
    rate: str | None,
    entry: Entry | None,
    defect: str | None,
    runs_root: Path,
    stop_file: Path | None,
    approval: Path | None,
) -> int:
    """Send traffic without any fault.

    Without LOCUSTFILE: at the target, and the objectives are judged. With it: only traffic, at
    --host; what became of it is told, and nothing judged.
    """
    from harness.plan import plan_for_load

    if locustfile is not None:
        from harness.cli import traffic

        if host is None or not locustfile.is_file():
            problem = "give --host URL" if host is None else f"there is no file {locustfile}"
            raise click.UsageError(f"{problem}: `harness load LOCUSTFILE --host URL`")
        if workers != "auto" and not (workers.isdigit() and int(workers) > 0):
            raise click.BadParameter(f"{workers!r} is neither auto nor 1, 2, …")
        if calibrate:
            return traffic.calibrate(
                locustfile, host, late_s=late, seed=seed, runs_root=runs_root, yes=yes
            )
        return traffic.send(
            locustfile,
            host,
            rate=_rate(rate) or DEFAULT_RATE,
            duration_s=duration,
            workers=workers,
            listen=listen,
            seed=seed,
            runs_root=runs_root,
        )
    if host or listen or calibrate or workers != "1":
        raise click.UsageError("--host, --workers, --listen and --calibrate need a LOCUSTFILE")
    plan = plan_for_load(
        _rate(rate) or DEFAULT_RATE,
        duration,
        target=_names(target_name),
        scrape_interval_s=_scrape_interval_s(target_name),
    )
    return _carry_out(
        plan, target_name, _Asked(rate, entry, defect, None, stop_file, approval), runs_root
    )


@click.command()
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path))
@_target_option
@_rate_option
@_entry_option
@_approval_option
def check(
    plan_file: Path,
    target_name: str,
    rate: str | None,
    entry: Entry | None,
    approval: Path | None,
) -> int:
    """Say what PLAN would do, what should happen then, and what stands against it.

    Touches nothing. Without a lab or target that answers, only the plan is checked.
    """
    from harness.cli import showing
    from harness.plan.reader import read_plan

    plan = read_plan(plan_file, rate=_rate(rate))
    target, target_file = _find_target(target_name)
    if target is not None:
        plan = _entering(plan, target, _Asked(rate, entry))
    showing.plan(plan)
    showing.workers(plan, _needed(plan, RUNS))
    if target is None:
        click.echo("\nno lab is up, so only the plan was checked; `harness lab up` starts one")
        return ExitStatus.PASS
    from harness.chaos.before import Permission, checks_before
    from harness.chaos.blast import BlastRadius
    from harness.chaos.lease import holder_of
    from harness.chaos.registry import Reach
    from harness.clock import SystemClock
    from harness.target.aims import require_same_names
    from harness.target.expected import expected
    from harness.target.preflight import Check, preflight

    require_same_names(plan, target)
    showing.expected(expected(target), target)
    clock = SystemClock()
    radius = BlastRadius(plan, Reach(target), clock)
    more = checks_before(
        plan,
        target,
        clock,
        guards=plan.guards,
        radius=radius,
        permission=Permission(target_file, approval),
    )
    checks = preflight(target, edge=plan.traffic.entry == "edge", more=more)
    holder = holder_of(target)
    in_use = f"in use by {holder}" if holder else "nobody else runs on it"
    checks.append(Check("lease", holder is None, in_use, "wait for its end"))
    showing.blast_radius(plan, radius.aims)
    showing.checks(checks)
    return ExitStatus.PASS if all(c.ok is True for c in checks) else ExitStatus.REFUSED


@click.command()
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path))
@_target_option
@_rate_option
@_entry_option
@click.option("--for", "runner", required=True, metavar="USER", help="Who will run it.")
@click.option("--as", "approver", required=True, metavar="NAME", help="You, as in `approvers`.")
@click.option(
    "--key", required=True, type=click.Path(path_type=Path), help="Your SSH key, or its agent's."
)
@click.option(
    "--within", default="4h", show_default=True, callback=_seconds, help="From now on, for so long."
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("approval.json"), show_default=True
)
def approve(
    plan_file: Path,
    target_name: str,
    rate: str | None,
    entry: Entry | None,
    runner: str,
    approver: str,
    key: Path,
    within: float,
    out: Path,
) -> int:
    """Approve one run of PLAN on a production target, after `harness check` has shown it."""
    from harness.clock import SystemClock
    from harness.evidence.run import write_atomic
    from harness.plan.reader import read_plan
    from harness.target import approval
    from harness.target.aims import require_same_names

    plan = read_plan(plan_file, rate=_rate(rate))
    target, target_file = _find_target(target_name)
    if target is None:
        raise LabError("no lab is up", hint="only production targets need an approval")
    plan = _entering(plan, target, _Asked(rate, entry))
    require_same_names(plan, target)
    begin_t = SystemClock().wall_s()
    approved = approval.approve(
        plan,
        target_file,
        key=key,
        approver=approver,
        runner=runner,
        begin_t=begin_t,
        end_t=begin_t + within,
    )
    write_atomic(out, approved)
    click.echo(f"{out}: {runner} may run {plan.name} on {target.name} once, within {within:g} s")
    return ExitStatus.PASS


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
def judge(run_dir: Path) -> int:
    """Judge the run folder RUN again, offline; writes verdict.json."""
    from harness.cli import showing

    plan, verdict = _judge(run_dir)
    showing.verdict(plan, verdict, run_dir)
    return verdict.exit_status


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
def report(run_dir: Path) -> int:
    """Write report.html, junit.xml and summary.md of the run folder RUN again, offline."""
    _, verdict = _judge(run_dir)
    for path in _write_reports(run_dir):
        click.echo(str(path))
    return verdict.exit_status


@click.command()
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every run with something left in place.")
@click.option(
    "--target",
    "target_file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Take this target file, not the one that the log names.",
)
@_runs_option
def recover(runs: tuple[str, ...], every: bool, target_file: Path | None, runs_root: Path) -> int:
    """Undo whatever the runs RUN have left in place; safe to repeat.

    RUN is a run folder, or its undo log alone: a file, or s3://BUCKET/KEY.
    """
    from harness.chaos import recover as recovering

    where = [*runs]
    if every:
        where += [str(path) for path in recovering.runs_left_open(runs_root)]
    elif not runs:
        raise click.UsageError("which run? Name one, or --all of those in --runs")
    complete = True
    for name in where:
        with (
            tempfile.TemporaryDirectory() as scratch,
            recovering.run_folder(name, target_file, Path(scratch)) as run_dir,
        ):
            if len(where) > 1:
                click.echo(name)
            complete = _told(recovering.recover(run_dir, target_file=target_file)) and complete
    if not where:
        click.echo("nothing to undo")
    return ExitStatus.PASS if complete else ExitStatus.UNDO_INCOMPLETE


def _told(report: UndoReport) -> bool:
    """Print what an undo did; whether nothing is left in place."""
    for name in report.undone:
        click.echo(f"undone and read back: {name}")
    for name in report.not_restored:
        click.echo(f"nothing of ours is left, but the system did not come back by itself: {name}")
    for failure in report.failed:
        record = failure.record
        what = f"{record.fault} ({record.undo_kind} {record.undo}): {failure.error}"
        click.echo(f"STILL IN PLACE: {what}", err=True)
        if failure.by_hand:
            click.echo("  by hand:", err=True)
        for line in failure.by_hand:
            click.echo(f"    {line}", err=True)
    if not (report.undone or report.not_restored or report.failed):
        click.echo("nothing to undo")
    return report.complete


# ---- from a plan to a verdict ---------------------------------------------------------------


def _rate(rate: str | None) -> str | None:
    """``250`` means ``250/s`` on the command line and in ``make gameday RATE=250``."""
    return f"{rate}/s" if rate and rate.replace(".", "", 1).isdigit() else rate


class _Asked(NamedTuple):
    """What the command line says beside the plan."""

    rate: str | None = None
    entry: Entry | None = None
    defect: str | None = None
    listen: tuple[str, int] | None = None
    stop_file: Path | None = None
    approval: Path | None = None


def _entering(plan: Plan, target: Target, asked: _Asked) -> Plan:
    """The plan with where its traffic enters; says so where the plan does not."""
    from harness.target.entry import with_entry

    plan, line = with_entry(plan, target, entry=asked.entry, rate_asked_for=asked.rate is not None)
    if line:
        click.echo(line)
    return plan


def _carry_out(plan: Plan, target_name: str, asked: _Asked, runs_root: Path) -> int:
    from harness.cli import showing
    from harness.cli.progress import progress
    from harness.clock import SystemClock
    from harness.conductor import Conductor, new_run_dir
    from harness.target.aims import require_same_names

    clock = SystemClock()
    if plan.traffic.workers == "auto":
        needed = _needed(plan, runs_root)
        click.echo(f"workers: {needed.workers} ({needed.because})")
        traffic = dataclasses.replace(plan.traffic, workers=needed.workers)
        plan = dataclasses.replace(plan, traffic=traffic)
    lab_defects, kill_load_after_s = _seeded(asked.defect, plan)
    with _target(target_name, lab_defects) as (target, target_file):
        require_same_names(plan, target)
        plan = history.remembered(runs_root, _entering(plan, target, asked), target)
        with progress(plan.objectives) as shown:
            run_dir = new_run_dir(runs_root, plan, clock)
            conductor = Conductor(
                plan,
                target,
                target_file=target_file,
                run_dir=run_dir,
                clock=clock,
                progress=shown,
                kill_load_after_s=kill_load_after_s,
                listen=asked.listen,
                kill_switches=[asked.stop_file] if asked.stop_file else [],
                approval=asked.approval,
            )
            left: UndoIncomplete | None = None
            try:
                conductor.run()
            except UndoIncomplete as error:
                left = error
    read_plan, verdict = _judge(run_dir, keep_in=runs_root)
    _write_reports(run_dir)
    showing.verdict(read_plan, verdict, run_dir)
    if left is not None:
        # Last, so that it is what one sees: what to do now.
        raise left
    return verdict.exit_status


def _needed(plan: Plan, runs_root: Path) -> Need:
    """How many generator processes the plan's rate needs, by what was measured here."""
    from harness.load import calibration

    locustfile = Path(plan.traffic.locustfile)
    return calibration.workers_for(plan.traffic.curve.peak, calibration.find(runs_root, locustfile))


def _seeded(defect: str | None, plan: Plan) -> tuple[tuple[str, ...], float | None]:
    """Defects for the lab, and when the load driver loses its process (a defect of its own)."""
    if defect is None:
        return (), None
    from harness.lab.defects import DEFECTS

    found = next((d for d in DEFECTS if d.name == defect), None)
    if found is None:
        raise LabError(
            f"no seeded defect named {defect!r}", hint="`harness lab defects` lists them"
        )
    return ((), plan.duration_s / 2) if found.where == "load" else ((defect,), None)


def _names(target_name: str) -> TargetNames:
    """Service and regions as the target has them, for a plan that nobody wrote."""
    from harness.plan.adhoc import LAB_TARGET
    from harness.plan.model import TargetNames

    if target_name == "lab":
        return LAB_TARGET
    target, _ = _find_target(target_name)
    assert target is not None
    return TargetNames(target.service_url, target.primary, target.standby)


def _scrape_interval_s(target_name: str) -> float:
    """How often the target is scraped; the lab every second."""
    target = None if target_name == "lab" else _find_target(target_name)[0]
    return 1.0 if target is None else target.scrape_interval_s


def _find_target(target_name: str) -> tuple[Target | None, Path]:
    from harness.target.reader import read_target

    if target_name != "lab":
        return read_target(Path(target_name)), Path(target_name)
    from harness.lab import handle

    running = handle.find(STATE_DIR)
    path = STATE_DIR / "target.yaml"
    return (read_target(path) if running else None), path


@contextmanager
def _target(target_name: str, defects: tuple[str, ...]) -> Iterator[tuple[Target, Path]]:
    """The target to use; a lab that was not up is started, and taken down at the end."""
    if target_name != "lab" and defects:
        raise LabError("seeded defects exist only in the lab", hint="leave --target away")
    target, path = _find_target(target_name)
    if target is not None:
        if target_name == "lab":
            _require_defects(defects)
        yield target, path.resolve()
        return
    from harness.lab import handle
    from harness.target.reader import read_target

    click.echo("lab: starting" + (f" with {', '.join(defects)}" if defects else ""))
    running = handle.up(STATE_DIR, defects=defects, owner=os.getpid())
    click.echo(f"lab: up in {running.boot_s:.1f} s")
    try:
        yield read_target(running.target_file), running.target_file.resolve()
    finally:
        handle.down(STATE_DIR)
        click.echo("lab: down")


def _require_defects(defects: tuple[str, ...]) -> None:
    from harness.lab import handle

    running = handle.find(STATE_DIR)
    if running is not None and set(defects) - set(running.defects):
        raise LabError(
            "the lab that is up was started without that defect", hint="`harness lab down` first"
        )


def _judge(run_dir: Path, *, keep_in: Path | None = None) -> tuple[Plan, Verdict]:
    """Plan and verdict of a run folder; verdict.json is written, and what the run showed is
    kept with the past runs in ``keep_in``."""
    from harness.evidence.run import read_run, write_atomic
    from harness.verdict import judge as judge_run

    evidence = read_run(run_dir)
    plan = recorded_plan(run_dir)
    verdict = judge_run(plan, evidence)
    write_atomic(run_dir / "verdict.json", verdict.to_bytes())
    if keep_in is not None:
        history.keep(keep_in, run_dir, plan, evidence, verdict)
    return plan, verdict


def recorded_plan(run_dir: Path) -> Plan:
    """The plan in the run folder. Raises EvidenceError when it is not one."""
    from harness.errors import EvidenceError, Where
    from harness.plan.model import Plan

    path = run_dir / "plan.json"
    try:
        return Plan.from_json(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError) as error:
        raise EvidenceError(
            f"not a recorded plan: {error!r}",
            where=Where(str(path)),
            hint="the run cannot be judged without its plan",
        ) from error


def _write_reports(run_dir: Path) -> list[Path]:
    from harness.evidence.run import read_run, write_atomic
    from harness.report import documents

    evidence = read_run(run_dir)
    verdict = json.loads((run_dir / "verdict.json").read_bytes())
    written = []
    for name, content in documents(recorded_plan(run_dir), evidence, verdict).items():
        write_atomic(run_dir / name, content)
        written.append(run_dir / name)
    return written
