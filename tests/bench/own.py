"""What counting a request and judging a run cost."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

from harness.evidence.run import read_run
from harness.load.outcome import OK, Outcome
from harness.load.tally import NOBODY, NoPen, Tally
from harness.plan.model import Plan
from harness.verdict import judge

RUN = Path(__file__).resolve().parents[1] / "runs/lab-passes"
_CALLS = 200_000
#: Counted at once: those of 10 ms (engine.FOLD_S) at 10,000/s.
_FOLDED = 100
#: What Tally.done records of a request: latency and service time.
VALUES_PER_REQUEST = 2


def recording(rounds: int) -> dict[str, Any]:
    """µs to count one request (two durations, size, threshold), less the loop around it."""
    values_s = [0.0001 + (i * 7919 % 997) / 1e5 for i in range(_FOLDED)]
    ok = Outcome(OK)
    found = []
    for _ in range(rounds):
        tally = Tally(NoPen(), (0.2,))
        landings, fold, key = tally.landings, tally.fold, tally.key("get", NOBODY, ok)
        start = time.process_time()
        for _ in range(_CALLS // len(values_s)):
            for _value_s in values_s:
                pass
        loop_s = time.process_time() - start
        start = time.process_time()
        for _ in range(_CALLS // len(values_s)):
            for value_s in values_s:
                # The second one as it is in an open schedule: a little less, and another object.
                landings.append((1e9, key, 200, value_s, value_s - 1e-5))
            fold()
        found.append((time.process_time() - start - loop_s) / _CALLS * 1e6)
    return {"request_us": [round(x, 3) for x in found]}


def judging(rounds: int) -> dict[str, Any]:
    """Seconds to read and judge the recorded run, beside how long that lasted."""
    plan = Plan.from_json(json.loads((RUN / "plan.json").read_bytes()))
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        judge(plan, read_run(RUN))
        took.append(time.perf_counter() - start)
    return {"judge_s": round(statistics.median(took), 3), "run_s": plan.duration_s}
