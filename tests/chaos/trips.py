"""How long from a breach that Prometheus shows to the undo: many trips, each of a real fault.

A scripted Prometheus says at a chosen instant that a bound is passed; the watcher process, the
conductor and the driver of Chaos Toolkit are the real ones, the fault is made in moto's AWS.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.chaos.guards import Trip, start_guards
from harness.chaos.undo import HISTORY_NAME
from harness.clock import SystemClock
from harness.conductor import Conductor
from harness.plan.guards import Guard
from harness.plan.model import Fault, Plan
from harness.target.model import Target
from harness.target.reader import write_target
from tests.target.prometheus_standin import Standin, send, success

from .conftest import Cloud

CONDITION = Guard("prometheus", "errors", line=0, above=0.5)


@dataclass(frozen=True)
class Taken:
    """One trip; seconds since the breach could be seen."""

    reason: str
    outcome: str
    because: str
    tripped_s: float
    undo_began_s: float
    restored_s: float


class Quiet:
    """Nobody is told anything."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


def run_folder(folder: Path, plan: Plan, target: Target) -> Path:
    """A run folder as it is when a run begins: its plan, and the target beside it."""
    run_dir = folder / "runs" / plan.name / "now"
    run_dir.mkdir(parents=True)
    (run_dir / "plan.json").write_text(json.dumps(plan.to_json()))
    write_target(target, run_dir / "target.yaml")
    return run_dir


def measure(cloud: Cloud, folder: Path, plan: Plan, *, count: int, seed: int = 7) -> list[Taken]:
    """``count`` trips, one after another."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        place = folder / str(number)
        place.mkdir()
        # Breaches must not fall into step with the polls.
        found.append(_one(cloud, place, plan, after_s=chance.random() * 0.5))
    return found


def _one(cloud: Cloud, folder: Path, plan: Plan, after_s: float) -> Taken:
    with _prometheus() as (standin, breach):
        target = replace(cloud.target, prometheus_url=standin.url, scrape_interval_s=1.0)
        fault = Fault("zone", str(_experiment(folder)), hold_s=60.0, recovery_s=1.0)
        day = replace(plan, faults=(fault,), guards=(CONDITION,))
        run_dir = run_folder(folder, day, target)
        tripped: list[tuple[float, Trip]] = []
        conductor = Conductor(
            day, target, target_file=run_dir / "target.yaml", run_dir=run_dir,
            clock=SystemClock(), progress=Quiet(),
        )  # fmt: skip

        def on_trip(trip: Trip) -> None:
            tripped.append((time.time(), trip))
            conductor.stop(trip.reason)

        guards = start_guards(
            run_dir, day.guards, target_file=run_dir / "target.yaml", on_trip=on_trip,
            clock=SystemClock(),
        )  # fmt: skip
        begun: list[float] = []

        def breach_once_made() -> None:
            deadline = time.monotonic() + 60
            while "fault.readback" not in _instants(run_dir) and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(after_s)
            begun.append(time.time())
            breach.set()

        threading.Thread(target=breach_once_made, daemon=True).start()
        try:
            guards.wait_ready()
            guards.arm()
            conductor._fault(fault)
        finally:
            guards.close()
    at = _instants(run_dir)
    end = at["experiment.end"]
    t, trip = tripped[0]
    return Taken(
        trip.reason, end["outcome"], end["because"], t - begun[0],
        at["undo.start"]["t"] - begun[0], at["undo.readback"]["t"] - begun[0],
    )  # fmt: skip


def _instants(run_dir: Path) -> dict[str, Any]:
    """The first line of each kind."""
    path = run_dir / HISTORY_NAME
    lines = path.read_text().splitlines() if path.exists() else []
    found: dict[str, Any] = {}
    for line in lines:
        with_kind = json.loads(line)
        found.setdefault(with_kind["kind"], with_kind)
    return found


def _experiment(folder: Path) -> Path:
    """The zone is cut off for as long as the run says, without any hypothesis or wait."""
    root = Path(__file__).resolve().parents[2]
    experiment = json.loads((root / "experiments/zones/lose-us-east-1a.json").read_text())
    del experiment["steady-state-hypothesis"]
    experiment["rollbacks"] = experiment["rollbacks"][:1]
    path = folder / "zone.json"
    path.write_text(json.dumps(experiment))
    return path


@contextmanager
def _prometheus() -> Iterator[tuple[Standin, threading.Event]]:
    breach = threading.Event()

    def script(path: str, query: dict[str, str], to: Any, over: threading.Event) -> None:
        now = time.time()
        value = now if query["query"].startswith("timestamp(") else float(breach.is_set())
        send(to, success([{"metric": {}, "value": [now, str(value)]}]))

    standin = Standin(script)
    try:
        yield standin, breach
    finally:
        standin.close()


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)]


def histogram(values: Sequence[float], width_s: float = 0.1) -> str:
    """Lines such as ``0.2–0.3 s  ######  6``."""
    lines = []
    for index in range(int(max(values) / width_s) + 1):
        n = sum(int(v / width_s) == index for v in values)
        lines.append(f"{index * width_s:4.1f}–{(index + 1) * width_s:.1f} s {'#' * n} {n}")
    return "\n".join(lines)
