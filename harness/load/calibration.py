"""What one generator process can send: measured step by step, kept in a file, used by plans.

The rate is raised until the process is late, or busier than it should be, or until the
target is what gives way (then the figure is only a lower bound). What a step shows is read
from the tally the generator writes anyway.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.errors import ExitStatus, HarnessError
from harness.evidence import histogram
from harness.evidence.run import write_atomic
from harness.load.outcome import NOT_SENT, OK

#: A generator that is later than this with one arrival in a hundred is at its end.
LATE_P99_S = 0.001
#: So is one that is busier than this share of a core: a burst would make it late.
BUSY = 0.7
#: One that is late while it uses less than this had to wait for a processor that others used:
#: that says nothing of the generator.
IDLE = BUSY / 2
#: More failures than this are the target's; what the generator could send is not known then.
FAILED_SHARE = 0.01
#: What one worker is counted on for where nothing was measured.
DEFAULT_RATE = 2000.0
#: Of what it sustained, a plan counts on this share.
HEADROOM = 0.8
FILE = "calibration.json"

LATE, BUSY_CPU, TARGET, MACHINE, NOTHING = "late", "processor", "target", "machine", ""


class MachineBusy(HarnessError):
    """Something else uses the processors, so nothing was learnt of the generator."""

    exit_status = ExitStatus.UNKNOWN


@dataclass(frozen=True)
class Staircase:
    """The traffic of a calibration: each step so much higher than the one before.

    The first ``settle_s`` seconds of a step are not looked at: connections are opened in them.
    """

    first_rate: float = 250.0
    growth: float = 1.5
    steps: int = 14
    step_s: float = 4.0
    settle_s: float = 1.0

    @property
    def rates(self) -> list[float]:
        return [float(round(self.first_rate * self.growth**n)) for n in range(self.steps)]

    @property
    def shape(self) -> str:
        """As a rate over time in words."""
        return ", then ".join(f"{rate:.12g}/s for {self.step_s:g}s" for rate in self.rates)

    @property
    def duration_s(self) -> float:
        return self.steps * self.step_s


@dataclass(frozen=True)
class Step:
    """What the generator did at one rate. ``limit`` says why that was too much, else ``""``."""

    rate: float
    sent: int
    late_p99_s: float
    #: of one core
    cpu_share: float
    failed_share: float
    not_sent: int
    late_limit_s: float = LATE_P99_S

    @property
    def cpu_us_per_request(self) -> float:
        return self.cpu_share / self.rate * 1e6

    @property
    def limit(self) -> str:
        if self.failed_share > FAILED_SHARE:
            return TARGET
        if self.cpu_share >= BUSY:
            return BUSY_CPU
        if self.late_p99_s > self.late_limit_s:
            return LATE if self.cpu_share >= IDLE else MACHINE
        return TARGET if self.not_sent else NOTHING


def steps_seen(
    lines: Sequence[Mapping[str, Any]], stairs: Staircase, late_limit_s: float = LATE_P99_S
) -> list[Step]:
    """The steps that are over, from the lines of the generator's tally."""
    start = next((line for line in lines if line["kind"] == "tally.start"), None)
    tallies = [line for line in lines if line["kind"] in ("tally", "tally.end")]
    if start is None:
        return []
    found = []
    for n, rate in enumerate(stairs.rates):
        begin_t = start["start_t"] + n * stairs.step_s
        end_t = begin_t + stairs.step_s + 0.1
        if not tallies or (tallies[-1]["t"] <= end_t and tallies[-1]["kind"] != "tally.end"):
            break
        window = [
            (line["t"] - before["t"], line)
            for before, line in zip([start, *tallies], tallies, strict=False)
            # The last line of all tells no processor time of its own.
            if "cpu_s" in line
            and line["kind"] == "tally"
            and begin_t + stairs.settle_s < line["t"] <= end_t
        ]
        if window:
            found.append(_step(rate, window, late_limit_s))
    return found


def _step(
    rate: float, window: Sequence[tuple[float, Mapping[str, Any]]], late_limit_s: float
) -> Step:
    lines = [line for _, line in window]
    late = histogram.merge(histogram.from_json(line["lateness"]) for line in lines)
    p99 = histogram.quantile_us(late, 0.99)
    outcomes: dict[str, int] = {}
    for cell in _cells(lines):
        outcomes[cell["outcome"]] = outcomes.get(cell["outcome"], 0) + cell["n"]
    not_sent = outcomes.pop(NOT_SENT, 0)
    answered = sum(outcomes.values())
    return Step(
        rate=rate,
        sent=histogram.count(late),
        # Nothing sent at all is as late as can be.
        late_p99_s=p99.high / 1e6 if p99 else math.inf,
        cpu_share=sum(line["cpu_s"] for line in lines) / sum(length_s for length_s, _ in window),
        failed_share=1 - outcomes.get(OK, 0) / answered if answered else 1.0,
        not_sent=not_sent,
        late_limit_s=late_limit_s,
    )


def _cells(lines: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return (cell for line in lines for s in line["seconds"].values() for cell in s["cells"])


@dataclass(frozen=True)
class Calibration:
    """What one worker sustains of one locustfile on one kind of machine.

    ``rate`` in arrivals per second; ``limited_by`` is ``late``, ``processor`` or ``target``
    (then it is a lower bound), or empty when the last step was still no limit.
    """

    locustfile: str
    sha256: str
    machine: Mapping[str, Any]
    rate: float
    cpu_us_per_request: float
    limited_by: str
    measured_at: str

    @property
    def key(self) -> tuple[str, str]:
        return self.sha256, json.dumps(dict(self.machine), sort_keys=True)


def calibrated(locustfile: Path, steps: Sequence[Step], at_t: float) -> Calibration | None:
    """From the steps of a run; None when already the first was too much.

    Raises MachineBusy when the machine, not the generator, was at its end.
    """
    # The last before the first that was too much, whatever came after.
    first_bad = next((n for n, step in enumerate(steps) if step.limit), len(steps))
    if first_bad < len(steps) and steps[first_bad].limit == MACHINE:
        bad = steps[first_bad]
        raise MachineBusy(
            f"at {bad.rate:g}/s the generator was {bad.late_p99_s * 1000:.1f} ms late with "
            f"{bad.cpu_share:.0%} of a core: others use the processors",
            hint="on an idle machine, or --late with more than it is late here",
        )
    if first_bad == 0:
        return None
    best = steps[first_bad - 1]
    return Calibration(
        locustfile=str(locustfile),
        sha256=hashlib.sha256(locustfile.read_bytes()).hexdigest(),
        machine=machine(),
        rate=best.rate,
        cpu_us_per_request=round(best.cpu_us_per_request, 1),
        limited_by=steps[first_bad].limit if first_bad < len(steps) else NOTHING,
        measured_at=datetime.fromtimestamp(at_t, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def machine() -> dict[str, Any]:
    """What a figure depends on, of the machine."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def is_loopback(url: str) -> bool:
    """Whether ``url`` names this machine and nothing else."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# ---- the file ---------------------------------------------------------------------------------


def save(folder: Path, found: Calibration) -> Path:
    """Keep it in ``folder``, in place of one of the same locustfile and kind of machine."""
    others = [other for other in _load(folder) if other.key != found.key]
    document = [dataclasses.asdict(entry) for entry in (*others, found)]
    path = folder / FILE
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(document, indent=1, sort_keys=True).encode())
    return path


def find(folder: Path, locustfile: Path) -> Calibration | None:
    """The one measured with this very locustfile on this kind of machine, if any."""
    try:
        sha256 = hashlib.sha256(locustfile.read_bytes()).hexdigest()
    except OSError:
        return None
    here = machine()
    return next((c for c in _load(folder) if c.sha256 == sha256 and c.machine == here), None)


def _load(folder: Path) -> list[Calibration]:
    """What is there; what cannot be read is as if it were not: it can be measured again."""
    try:
        return [Calibration(**entry) for entry in json.loads((folder / FILE).read_bytes())]
    except (OSError, ValueError, TypeError):
        return []


@dataclass(frozen=True)
class Need:
    """How many workers a rate needs, and where that number comes from."""

    workers: int
    because: str


def workers_for(peak: float, found: Calibration | None) -> Need:
    """Workers for ``peak`` arrivals per second."""
    sustained = found.rate if found else DEFAULT_RATE
    workers = max(1, math.ceil(peak / (sustained * HEADROOM)))
    if found is None:
        source = (
            f"one is counted on for {DEFAULT_RATE:g}/s, as nothing was measured here "
            "(harness load --calibrate)"
        )
    else:
        bound = "at least " if found.limited_by in (TARGET, NOTHING) else ""
        source = (
            f"one sustained {bound}{found.rate:g}/s here on {found.measured_at[:10]} "
            f"({found.cpu_us_per_request:g} µs of processor per request)"
        )
    return Need(workers, f"{peak:g}/s at the peak; {source}, used to {HEADROOM:.0%}")
