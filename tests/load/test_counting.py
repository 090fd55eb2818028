"""What is counted is exact where it is said to be, and within its error everywhere else."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.evidence import histogram
from harness.load.tally import NAMES_MAX, OTHER_NAMES, Tally

ROOT = Path(__file__).parents[2]
SERVED, OK = ("east", "east-a"), ("ok", "")
#: What a test of the response times may look like, from 1 ms to 60 s.
SHAPES: dict[str, Callable[[random.Random], float]] = {
    "uniform": lambda r: r.uniform(0.001, 60.0),
    "even over magnitudes": lambda r: math.exp(r.uniform(math.log(0.001), math.log(60.0))),
    "lognormal": lambda r: min(60.0, max(0.001, r.lognormvariate(-3, 1.5))),
    "exponential": lambda r: min(60.0, 0.001 + r.expovariate(5)),
    "two hills": lambda r: max(0.001, r.gauss(0.02, 0.002) if r.random() < 0.9 else r.gauss(5, 1)),
    "all the same": lambda r: 0.2,
    "steps": lambda r: r.choice([0.001, 0.0125, 0.1, 0.2, 59.999]),
}


class Lines:
    """A pen that keeps what it is given, as it would be in the file."""

    def __init__(self) -> None:
        self.lines: list[dict] = []

    def write(self, kind: str, /, *, t: float | None = None, **data: object) -> None:
        self.lines.append({"kind": kind, **json.loads(json.dumps(data))})

    def close(self) -> None:
        pass

    def cells(self) -> list[dict]:
        return [c for line in self.lines for s in line["seconds"].values() for c in s["cells"]]


def counted(latencies_s: list[float], thresholds_s: list[float], every: int = 10**9) -> Lines:
    """What one process writes of these, with a flush after so many."""
    pen = Lines()
    tally = Tally(pen, thresholds_s)
    for n, latency_s in enumerate(latencies_s):
        tally.took_off(5.0, latency_s)
        tally.done(5.0, "op", SERVED, OK, n, latency_s, latency_s)
        if n % every == every - 1:
            tally.flush()
    tally.flush()
    return pen


def middle_s(found: dict[int, int], q: float) -> float:
    low, high = histogram.quantile_us(found, q)
    return (low + high) / 2e6


@pytest.mark.parametrize("shape", SHAPES)
def test_percentiles_differ_by_at_most_four_thousandths_from_exact_ones(shape: str) -> None:
    source = random.Random(shape)
    latencies_s = [SHAPES[shape](source) for _ in range(5_000)]
    cell = counted(latencies_s, [])
    for kind in ("latency", "service"):
        found = histogram.from_json(cell.cells()[0][kind])
        for q in (0.001, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0):
            rank = max(1, math.ceil(round(q * len(latencies_s), 6)))
            exact_s = sorted(latencies_s)[rank - 1]
            assert abs(middle_s(found, q) - exact_s) <= 0.004 * exact_s


def test_from_50_us_to_120_s_and_beyond_every_value_is_within_the_error() -> None:
    source = random.Random(5)
    values_s = [math.exp(source.uniform(math.log(50e-6), math.log(120.0))) for _ in range(20_000)]
    edges_s = [50e-6, 120.0, 3600.0, *(2.0**n * 1e-6 for n in range(6, 28))]
    edges_s += [math.nextafter(edge_s, way) for edge_s in edges_s for way in (0.0, 1e9)]
    for value_s in values_s + [edge_s for edge_s in edges_s if edge_s >= 50e-6]:
        low, high = histogram.bounds_us(histogram.index_of(value_s * 1e6))
        assert abs((low + high) / 2e6 - value_s) <= 0.004 * value_s


def test_a_tally_counts_into_the_bucket_the_format_says() -> None:
    source = random.Random(6)
    for _ in range(2_000):
        value_s = math.exp(source.uniform(math.log(1e-7), math.log(200.0)))
        for kind in ("latency", "service"):
            (index,) = counted([value_s], []).cells()[0][kind]
            assert int(index) == histogram.index_of(value_s * 1e6)


@pytest.mark.parametrize("threshold_s", [0.2, 0.1, 0.3, 0.29, 0.57, 1.1, 4.35, 0.001, 59.99])
def test_the_share_below_a_threshold_is_exact(threshold_s: float) -> None:
    source = random.Random(7)
    near = [math.nextafter(threshold_s, 0.0), threshold_s, math.nextafter(threshold_s, 99.0)]
    # Also what planned and finished instants leave of it: differences of large numbers.
    near += [(1e5 + n / 7 + threshold_s) - (1e5 + n / 7) for n in range(200)]
    near += [threshold_s + source.uniform(-2e-6, 2e-6) for _ in range(200)]
    (cell,) = counted(near, [threshold_s]).cells()
    assert cell["below"] == {str(threshold_s): sum(s <= threshold_s for s in near)}
    assert cell["n"] == len(near)


def test_the_share_below_any_threshold_is_exact_at_the_edges_of_buckets_too() -> None:
    source = random.Random(9)
    edges_s = [
        low_us / 1e6 for low_us in (65_536.0, 131_072.0)
    ]  # where another way to count begins
    edges_s += [histogram.bounds_us(source.randrange(600, 3000)).low / 1e6 for _ in range(60)]
    for edge_s in edges_s + [math.exp(source.uniform(math.log(5e-5), 4.0)) for _ in range(60)]:
        # Several in one bucket, and one in the next.
        thresholds_s = [math.nextafter(edge_s, 0.0), edge_s, edge_s * 1.0005, edge_s * 1.02]
        near_s = [t for s in thresholds_s for t in (math.nextafter(s, 0), s, math.nextafter(s, 99))]
        near_s += [edge_s * source.uniform(0.9, 1.1) for _ in range(30)] + [edge_s / 9, edge_s * 9]
        (cell,) = counted(near_s, thresholds_s).cells()
        assert cell["below"] == {str(t): sum(s <= t for s in near_s) for t in thresholds_s}


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_parts_put_together_are_the_whole_to_the_last_count(parts: int) -> None:
    source = random.Random(8)
    latencies_s = [SHAPES["lognormal"](source) for _ in range(3_000)]
    (whole,) = counted(latencies_s, [0.05, 0.2]).cells()
    cells = []
    for part in range(parts):
        cells += counted(latencies_s[part::parts], [0.05, 0.2], every=100).cells()
    for kind in ("latency", "service"):
        merged = histogram.merge(histogram.from_json(cell[kind]) for cell in cells)
        assert histogram.to_json(merged) == whole[kind]
    assert sum(cell["n"] for cell in cells) == whole["n"]
    for threshold, n in whole["below"].items():
        assert sum(cell["below"][threshold] for cell in cells) == n


def test_names_beyond_so_many_are_counted_as_one(caplog: pytest.LogCaptureFixture) -> None:
    pen = Lines()
    tally = Tally(pen, [0.2])
    for n in range(NAMES_MAX + 500):
        tally.took_off(5.0, 0.0)
        tally.done(5.0, f"/files/{n}", SERVED, OK, 10, 0.1, 0.1)
    tally.planned(5.0)
    tally.not_sent(5.0, "/files/new", "too-many-in-flight")
    tally.end()
    counts = [
        ((cell["op"], cell["outcome"]), cell["n"])
        for line in pen.lines[:-1]
        for cell in line["seconds"]["5"]["cells"]
    ]
    cells = dict(counts)
    assert len(cells) == len(counts)
    assert len(cells) == NAMES_MAX + 2
    assert cells[OTHER_NAMES, "ok"] == 500
    assert cells[OTHER_NAMES, "not_sent"] == 1
    assert sum(cells.values()) == pen.lines[-1]["planned"] == NAMES_MAX + 501
    assert pen.lines[-1]["names_max"] == NAMES_MAX
    assert caplog.text.count("give requests that differ by an id one name") == 1


def test_counting_for_hours_takes_no_more_memory() -> None:
    """A quarter of an hour of simulated seconds; in a process of its own, for Locust patches it."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.load.hours", "--hours", "0.25"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = json.loads(ran.stdout)
    assert found["requests"] == found["locust_requests"] > 5_000
    # 10 MiB in 8 hours.
    assert found["grown_bytes"] <= 10 * 1024 * 1024 * found["hours"] / 8
