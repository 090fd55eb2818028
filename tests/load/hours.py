"""How memory grows over hours of counting: ``python -m tests.load.hours --hours 8``.

Seconds are simulated, each with a flush, many operations, regions and errors, put into Locust's own
statistics; few requests of each, since their number costs nothing but time. Prints JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
import tracemalloc
from types import SimpleNamespace

from locust.stats import RequestStats, update_stats_history

from harness.load.fold import KEEP_POINTS, Fold
from harness.load.tally import NoPen, Tally

#: The first seconds fill what is kept of the last ones.
START_S = 300
OPS = [f"op{n}" for n in range(6)]
REGIONS = [("east", "east-a"), ("east", "east-b"), ("west", "west-a")]
RESULTS = [("ok", "")] * 8 + [("failed", "status-503"), ("failed", "timeout"), ("unsure", "reset")]


def main() -> None:
    """Simulate and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=8.0)
    hours = parser.parse_args().hours
    source = random.Random(1)
    now = [1_700_000_000.0]
    time.time = lambda: now[0]  # Locust's and ours
    stats = RequestStats()
    fold = Fold(stats)

    tally = Tally(NoPen(), [0.2, 1.0], fold.add)
    runner = SimpleNamespace(stats=stats, user_count=1)

    def second() -> None:
        for _ in range(8):
            planned_t = now[0]
            latency_s = source.lognormvariate(-4, 1)
            tally.took_off(planned_t, latency_s / 100)
            served, result = source.choice(REGIONS), source.choice(RESULTS)
            tally.done(planned_t, source.choice(OPS), served, result, 999, latency_s, latency_s)
        now[0] += 1.0
        tally.flush()
        if int(now[0]) % 5 == 0:
            update_stats_history(runner, "now")

    tracemalloc.start()
    for _ in range(START_S):
        second()
    for _ in range(KEEP_POINTS):
        update_stats_history(runner, "now")
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(int(hours * 3600)):
        second()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    found = {
        "hours": hours,
        "requests": tally.sums.sent,
        "locust_requests": stats.total.num_requests,
        "grown_bytes": after - before,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
