"""``harness load LOCUSTFILE``: traffic by itself, and what one generator process can send."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.errors import ExitStatus, HarnessError, Refused

if TYPE_CHECKING:
    from harness.evidence.histogram import Interval
    from harness.load.alone import Row, Sums
    from harness.load.calibration import Step
    from harness.load.driver import LiveFigures

#: Live figures are told this often (seconds).
_TELL_S = 10.0
_TIMEOUT_S = 5.0
#: In a calibration: a target that lets so many pile up is what gives way.
_PILED_UP = 2000


def send(
    locustfile: Path,
    host: str,
    *,
    rate: str,
    duration_s: float,
    workers: str,
    listen: tuple[str, int] | None,
    seed: int,
    runs_root: Path,
) -> int:
    """Send, and print what became of it. UNKNOWN when the evidence is not whole."""
    from harness.clock import SystemClock
    from harness.load import alone, calibration
    from harness.plan.shapes import parse_rate

    clock = SystemClock()
    try:
        curve = parse_rate(rate)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--rate") from error
    need = calibration.workers_for(curve.peak, calibration.find(runs_root, locustfile))
    processes = need.workers if workers == "auto" else int(workers)
    run_dir = _run_dir(runs_root, "load", clock.wall_s())
    click.echo(f"{locustfile} → {host}: {rate} for {duration_s:g} s, {_workers(processes)}")
    click.echo(f"needed: {_workers(need.workers)} ({need.because})")
    if listen is not None:
        click.echo(f"waiting for {_workers(processes)} at {listen[0]}:{listen[1]}")
    told: list[float] = []

    def tell(left_s: float, figures: LiveFigures) -> None:
        if not told or told[-1] - left_s >= _TELL_S:
            told.append(left_s)
            if figures.at_t is not None:
                click.echo(
                    f"  {figures.achieved_rate:.0f} of {figures.planned_rate:.0f}/s, "
                    f"{left_s:.0f} s to go"
                )

    alone.send(
        run_dir,
        clock=clock,
        processes=processes,
        listen=listen,
        locustfile=locustfile,
        rate=curve.peak,
        shape="" if curve.is_constant else rate,
        arrivals="poisson",
        seed=seed,
        mix={},
        timeout_s=_TIMEOUT_S,
        service_url=host,
        dns_server=None,
        duration_s=duration_s,
        tell=tell,
    )
    sums = alone.sums_of(run_dir, processes)
    table(sums)
    click.echo(f"evidence: {run_dir}")
    return ExitStatus.UNKNOWN if sums.gaps or sums.unknown else ExitStatus.PASS


def calibrate(
    locustfile: Path, host: str, *, late_s: float, seed: int, runs_root: Path, yes: bool
) -> int:
    """Find what one worker sustains, and keep it for plans."""
    from harness.clock import SystemClock
    from harness.load import alone, calibration

    if not yes and not calibration.is_loopback(host):
        raise Refused(
            f"a calibration raises the rate until something gives way, and {host} is not this "
            "machine",
            hint="--yes, if that host is there to be loaded so",
        )
    clock = SystemClock()
    run_dir = _run_dir(runs_root, "calibration", clock.wall_s())
    stairs = calibration.Staircase()
    click.echo(f"{locustfile} → {host}: one worker, at most {stairs.duration_s:g} s")
    steps = alone.calibrate(
        run_dir,
        clock=clock,
        stairs=stairs,
        late_limit_s=late_s,
        tell=_tell_step,
        locustfile=locustfile,
        arrivals="poisson",
        seed=seed,
        mix={},
        timeout_s=_TIMEOUT_S,
        service_url=host,
        dns_server=None,
        max_in_flight=_PILED_UP,
    )
    found = calibration.calibrated(locustfile, steps, clock.wall_s())
    if found is None:
        raise HarnessError(
            "already the first step was too much: "
            + (steps[0].limit if steps else "no step ended"),
            hint=f"is the machine idle? what it did is in {run_dir}; --late allows more",
        )
    path = calibration.save(runs_root, found)
    why = {
        calibration.LATE: "beyond that it is late",
        calibration.BUSY_CPU: "beyond that it is too busy",
        calibration.TARGET: "at least: beyond that the target gave way",
        calibration.NOTHING: "at least: nothing faster was tried",
    }[found.limited_by]
    click.echo(
        f"one worker sustains {found.rate:g}/s ({why}), "
        f"{found.cpu_us_per_request:g} µs of processor per request"
    )
    click.echo(f"kept in {path}")
    return ExitStatus.PASS


def _tell_step(step: Step) -> None:
    click.echo(
        f"  {step.rate:7.0f}/s  late p99 {step.late_p99_s * 1000:6.2f} ms  "
        f"processor {step.cpu_share:4.0%}  {step.limit or 'ok'}"
    )


def table(sums: Sums) -> None:
    """What was planned and what became of it; latencies are intervals, from planned instants."""
    less = sums.everything.counts["degraded"] > 0
    head = f"{'':18}{'planned':>9}{'sent':>9}{'not sent':>9}{'failed':>8}{'unsure':>8}"
    head += f"{'degraded':>10}" if less else ""
    click.echo(head + "".join(f"{name:>16}" for name in ("p50 ms", "p95 ms", "p99 ms")))
    for name, row in sorted(sums.rows.items()):
        click.echo(_line(name or "(of lost workers)", "", row, less))
    click.echo(_line("all", str(sums.planned), sums.everything, less))
    if sums.unknown:
        click.echo(f"of {sums.unknown} planned arrivals nothing is known")
    late = _quantile_ms(sums, 0.99)
    busiest = max(sums.cpu.values(), default=0.0)
    sent = sums.everything.sent
    each_us = f"{sums.cpu_s / sent * 1e6:.0f} µs per request" if sent else "nothing sent"
    click.echo(f"generators: late p99 {late}, the busiest used {busiest:.0%} of a core, {each_us}")
    for gone in sums.workers_gone:
        click.echo(f"worker {gone}")
    for gap in sums.gaps[:5]:
        click.echo(f"missing: {gap.source}: {gap.detail}")


def _line(name: str, planned: str, row: Row, less: bool) -> str:
    counts = row.counts
    figures = f"{name:18}{planned:>9}{row.sent:>9}{counts['not_sent']:>9}"
    figures += f"{counts['failed']:>8}{counts['unsure']:>8}"
    figures += f"{counts['degraded']:>10}" if less else ""
    return figures + "".join(f"{_ms(row.quantile_ms(q)):>16}" for q in (0.5, 0.95, 0.99))


def _ms(interval: Interval | None) -> str:
    return f"{interval.low:.2f}–{interval.high:.2f}" if interval else "–"


def _quantile_ms(sums: Sums, q: float) -> str:
    from harness.evidence import histogram

    found = histogram.quantile_us(sums.lateness, q)
    return f"{found.high / 1000:.2f} ms" if found else "unknown"


def _workers(n: int) -> str:
    return f"{n} worker" if n == 1 else f"{n} workers"


def _run_dir(root: Path, name: str, now_t: float) -> Path:
    from harness.conductor import run_dir_in

    return run_dir_in(root / name, now_t)
