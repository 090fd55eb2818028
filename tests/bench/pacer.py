"""How late this machine lets a process be that does nothing but keep a pace.

It wakes up twice a millisecond, as the engine does, and keeps its core busy for half of the time,
as the engine may. It sends nothing and waits for nobody: what it is late by is the machine's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable

from harness.evidence import histogram
from tests.bench.children import spawn
from tests.bench.contestants import REPO, quantiles_ms

PERIOD_S = 0.0005
BUSY_SHARE = 0.5


def lateness(
    duration_s: float,
    now: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> histogram.Histogram:
    """Of each instant of the grid: how much later than that it was its turn."""
    found: histogram.Histogram = {}
    start_s = now()
    for n in range(1, round(duration_s / PERIOD_S) + 1):
        due_s = start_s + n * PERIOD_S
        while (at_s := now()) < due_s:
            sleep(due_s - at_s)
        histogram.record(found, at_s - due_s)
        while now() < at_s + PERIOD_S * BUSY_SHARE:
            pass
    return found


def on(cores: set[int], duration_s: float) -> dict[str, float]:
    """p50, p95, p99 and max in milliseconds, of a process on ``cores``."""
    child = spawn(
        [sys.executable, "-m", "tests.bench.pacer", str(duration_s)],
        {"PYTHONPATH": str(REPO)},
        cores,
        subprocess.PIPE,
    )
    said, _ = child.communicate(timeout=duration_s + 60)
    found: dict[str, float] = json.loads(said)
    return found


def main() -> None:
    """Keep the pace and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("duration_s", type=float)
    print(json.dumps(quantiles_ms(lateness(parser.parse_args().duration_s))))


if __name__ == "__main__":
    main()
