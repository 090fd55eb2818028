"""Tells Locust's own statistics and the batched ones the same, and compares all they know.

Run by test_fold.py (Locust patches the process): ``python -m tests.load.batched``. Prints as JSON
how many comparisons there were; ends with an error at the first difference.
"""

from __future__ import annotations

import gevent.monkey

gevent.monkey.patch_all()

import json  # noqa: E402
import random  # noqa: E402
import time  # noqa: E402
from types import SimpleNamespace  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from locust import stats as of_locust  # noqa: E402
from locust.stats import RequestStats, StatsEntry, update_stats_history  # noqa: E402

from harness.load.fold import BATCH_S, BatchedStats  # noqa: E402

NAMES = [("/a", "GET"), ("/b", "GET"), ("/b", "PUT"), ("/slow", "POST")]
ERRORS = [ValueError("x"), TimeoutError("late"), "a text"]


def known(entry: StatsEntry) -> dict[str, Any]:
    """All that an entry knows; a sum of floats to what its order may change."""
    found = {k: v for k, v in vars(entry).items() if k not in ("stats", "total_response_time")}
    found["response_times_cache"] = {
        t: (dict(c.response_times), c.num_requests, c.num_none_requests)
        for t, c in (entry.response_times_cache or {}).items()
    }
    found["average"] = round(entry.avg_response_time, 6)
    found["p95"] = entry.get_response_time_percentile(0.95)
    found["now"] = (entry.current_rps, entry.current_fail_per_sec, entry.fail_ratio)
    found["current p95"] = (
        entry.get_current_response_time_percentile(0.95) if found["response_times_cache"] else None
    )
    return found


def all_known(stats: RequestStats) -> dict[str, Any]:
    """All that statistics know."""
    return {
        "total": known(stats.total),
        "entries": {key: known(entry) for key, entry in stats.entries.items()},
        "errors": {key: error.occurrences for key, error in stats.errors.items()},
        "history": [{k: v for k, v in point.items() if k != "time"} for point in stats.history],
        "numbers": (stats.num_requests, stats.num_failures, stats.last_request_timestamp),
    }


def compare(seed: int, cached: bool) -> int:
    """One random history of a run; how often what was known was compared."""
    source = random.Random(seed)
    now = [1_700_000_000.0]
    time.time = lambda: now[0]
    stock, batched = RequestStats(cached), RequestStats(cached)
    BatchedStats.instead_of(batched)
    assert type(batched) is BatchedStats
    both = (stock, batched)
    compared = 0
    for _ in range(600):
        now[0] += source.choice([0.0, 0.001, 0.02, 0.3, 1.7])
        does = source.random()
        name, method = source.choice(NAMES)
        if does < 0.8:
            ms = source.choice([None, 0.0, 3, source.lognormvariate(4, 2), 99.5, 99.4, 61_000.0])
            size_bytes = source.randrange(10_000)
            for stats in both:
                stats.log_request(method, name, ms, size_bytes)
            if source.random() < 0.2:
                error = source.choice(ERRORS)
                for stats in both:
                    stats.log_error(method, name, error)
        elif does < 0.96:
            assert all_known(batched) == all_known(stock), (seed, now)
            compared += 1
        elif does < 0.97 and cached:
            for stats in both:
                update_stats_history(SimpleNamespace(stats=stats, user_count=1), "now")
        elif does < 0.98:
            # What a worker sends to its master, and forgets.
            told = [
                (s.serialize_stats(), s.total.get_stripped_report(), s.serialize_errors())
                for s in both
            ]
            for entry in (*told[0][0], *told[1][0], told[0][1], told[1][1]):
                entry["total_response_time"] = round(entry["total_response_time"], 6)
            for entries, _, _ in told:
                entries.sort(key=lambda entry: (entry["name"], entry["method"]))
            assert told[0] == told[1], seed
        elif does < 0.99:
            for stats in both:
                stats.reset_all()
        else:
            for stats in both:
                stats.clear_all()
    assert all_known(batched) == all_known(stock), seed
    return compared + 1


def held() -> None:
    """An entry that somebody took out is brought up to date by itself."""
    stats = RequestStats()
    BatchedStats.instead_of(stats)
    entry = stats.get("/a", "GET")
    stats.log_request("GET", "/a", 5.0, 10)
    gevent.sleep(BATCH_S * 5)
    assert entry.num_requests == 1


def nonsense() -> None:
    """What somebody tells that is no figure costs the others nothing."""
    stats = RequestStats()
    BatchedStats.instead_of(stats)
    for ms, size_bytes in ((5.0, 10), ("soon", 10), (7.0, None), (9.0, 10), (float("nan"), 10)):
        stats.log_request("GET", "/a", ms, size_bytes)
        stats.log_request("GET", "/b", 5.0, 10)
    assert stats.entries["/a", "GET"].num_requests == 2
    assert stats.entries["/b", "GET"].num_requests == 5
    assert stats.total.num_requests == 7
    assert stats.total.max_response_time == 9.0


def replaced() -> None:
    """A locustfile may round response times its own way."""
    was, of_locust.bucket_response_time = of_locust.bucket_response_time, lambda ms: int(ms) // 7
    stats = RequestStats()
    BatchedStats.instead_of(stats)
    for ms in (5.0, 8.0, 13.9):
        stats.log_request("GET", "/a", ms, 10)
    assert dict(stats.total.response_times) == {0: 1, 1: 2}
    of_locust.bucket_response_time = was


def others() -> None:
    """What somebody else made of the statistics is left to them."""
    mine = type("Mine", (RequestStats,), {})()
    BatchedStats.instead_of(mine)
    assert type(mine).__name__ == "Mine"


if __name__ == "__main__":
    real = time.time
    found = sum(compare(seed, cached=seed % 2 == 0) for seed in range(40))
    time.time = real
    held()
    nonsense()
    replaced()
    others()
    print(json.dumps({"compared": found}))
