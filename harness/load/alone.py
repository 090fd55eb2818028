"""Traffic by itself: no target file, faults or objectives; its evidence, and its sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.clock import Clock
from harness.evidence import histogram
from harness.evidence.histogram import Histogram, Interval
from harness.evidence.lines import read_lines
from harness.evidence.model import Gap
from harness.evidence.traffic import read_tally
from harness.load import calibration
from harness.load.driver import LiveFigures, LoadDriver
from harness.load.ledger import read_lines as whole_lines
from harness.load.outcome import DEGRADED, FAILED, NOT_SENT, OK, UNSURE
from harness.load.relay import HISTORY, tally_file

READY_S = 90.0
_TICK_S = 0.25
#: What a generator may need beyond its schedule and the timeout to end by itself.
_SLACK_S = 15.0


@dataclass
class Row:
    """What became of the arrivals of one operation, or of all."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys((OK, DEGRADED, FAILED, UNSURE, NOT_SENT), 0)
    )
    latency: Histogram = field(default_factory=dict)

    @property
    def sent(self) -> int:
        return sum(n for outcome, n in self.counts.items() if outcome != NOT_SENT)

    def quantile_ms(self, q: float) -> Interval | None:
        """Of the answers, from their planned instants; failures have no answer that counts."""
        found = histogram.quantile_us(self.latency, q)
        return Interval(found.low / 1000, found.high / 1000) if found else None


@dataclass
class Sums:
    """What the evidence of a run adds up to."""

    planned: int
    rows: dict[str, Row]
    everything: Row
    lateness: Histogram
    #: worker → share of a core
    cpu: dict[str, float]
    cpu_s: float
    gaps: list[Gap]
    #: what the master said of workers that went
    workers_gone: list[str]

    @property
    def unknown(self) -> int:
        """Planned arrivals of which nothing is recorded."""
        row = self.everything
        return max(0, self.planned - row.sent - row.counts[NOT_SENT])


def sums_of(run_dir: Path, workers: int) -> Sums:
    """Read the tallies of ``workers`` generators, with whatever is missing of them."""
    sums = Sums(0, {}, Row(), {}, {}, 0.0, [], [])
    for n in range(workers):
        name = f"w{n}"
        tally, gaps = read_tally(run_dir / tally_file(name), f"tallies/{name}.jsonl")
        sums.gaps += gaps
        for second in tally.seconds:
            sums.planned += second.planned
            for cell in second.cells:
                for row in (sums.everything, sums.rows.setdefault(cell.op, Row())):
                    row.counts[cell.outcome] += cell.n
                    if cell.outcome == OK:
                        row.latency = histogram.merge((row.latency, cell.latency))
        late = (lateness.late for lateness in tally.lateness)
        sums.lateness = histogram.merge((sums.lateness, *late))
        _add_cpu(sums, name, run_dir / tally_file(name))
    events, gaps = read_lines(run_dir / HISTORY, HISTORY)
    sums.gaps += gaps
    for event in events:
        if event.kind in ("worker.lost", "worker.left", "worker.failed", "worker.returned"):
            kind = event.kind.removeprefix("worker.")
            sums.workers_gone.append(f"{event.text('worker')} {kind}: {event.text('why')}")
    return sums


def _add_cpu(sums: Sums, name: str, path: Path) -> None:
    if not path.exists():
        return
    lines = [line for line in whole_lines(path) if line["kind"].startswith("tally")]
    used_s = sum(line.get("cpu_s", 0.0) for line in lines)
    length_s = lines[-1]["t"] - lines[0]["t"] if lines else 0.0
    sums.cpu_s += used_s
    if length_s > 0:
        sums.cpu[name] = used_s / length_s


def send(
    run_dir: Path,
    *,
    clock: Clock,
    processes: int,
    duration_s: float,
    timeout_s: float,
    tell: Callable[[float, LiveFigures], None],
    until: Callable[[], bool] = lambda: False,
    ready_s: float = READY_S,
    **traffic: Any,
) -> None:
    """Send traffic for ``duration_s`` and return when its evidence is closed.

    ``tell`` gets the seconds to go and live figures now and then; ``until`` ends it early;
    ``traffic`` is as for :meth:`LoadDriver.start`. Raises LoadFailed.
    """
    driver = LoadDriver(clock)
    try:
        driver.start(
            run_dir,
            processes=processes,
            duration_s=duration_s,
            timeout_s=timeout_s,
            **traffic,
        )
        driver.wait_ready(ready_s)
        end_m = clock.monotonic_s() + duration_s
        while not driver.over() and not until():
            left_s = end_m - clock.monotonic_s()
            if left_s < -(timeout_s + _SLACK_S):
                break
            tell(max(0.0, left_s), driver.latest())
            clock.sleep(_TICK_S)
    finally:
        driver.stop(timeout_s + _SLACK_S)


def calibrate(
    run_dir: Path,
    *,
    clock: Clock,
    late_limit_s: float,
    tell: Callable[[calibration.Step], None],
    stairs: calibration.Staircase,
    **traffic: Any,
) -> list[calibration.Step]:
    """Raise the rate of one generator until a step is too much; the steps that were seen."""
    seen: list[calibration.Step] = []

    def look() -> bool:
        path = run_dir / tally_file("w0")
        lines: list[Mapping[str, Any]] = list(whole_lines(path)) if path.exists() else []
        found = calibration.steps_seen(lines, stairs, late_limit_s)
        for step in found[len(seen) :]:
            tell(step)
            seen.append(step)
        return any(step.limit for step in seen)

    send(
        run_dir,
        clock=clock,
        processes=1,
        rate=max(stairs.rates),
        shape=stairs.shape,
        duration_s=stairs.duration_s,
        tell=lambda left_s, figures: None,
        until=look,
        **traffic,
    )
    look()
    return seen
