"""Ratios, bounds, the truth about stalls, what a process uses: by example."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.bench import figures, own, truth
from tests.bench.figures import Bound, Spread
from tests.bench.target import Stall
from tests.bench.usage import of_trees


def closed(**costs: dict[str, list[float]]) -> dict:
    """Results of flat-out runs: workload → contestant → CPU µs of each round."""
    return {
        "closed": {
            workload: {
                name: [{"round": n, "cpu_us": x} for n, x in enumerate(values)]
                for name, values in of.items()
            }
            for workload, of in costs.items()
        }
    }


def test_a_ratio_is_taken_within_a_round_and_then_its_median() -> None:
    results = closed(small={"fast": [100, 300, 90], "engine": [10, 20, 10]})
    found = figures.ratio(
        figures.cpu(results, "small", "fast"), figures.cpu(results, "small", "engine")
    )
    assert found == Spread(10.0, 9.0, 15.0)


def test_a_round_that_one_of_them_missed_does_not_count() -> None:
    assert figures.ratio({0: 10.0, 2: 30.0}, {1: 5.0, 2: 10.0}) == Spread(3.0, 3.0, 3.0)
    assert figures.ratio({0: 1.0}, {1: 1.0}) is None


def test_the_mix_of_wrk_is_the_weighted_sum_of_its_single_requests() -> None:
    results = closed(
        small={"wrk": [10.0, 20.0]}, large={"wrk": [20.0, 20.0]}, upload={"wrk": [50.0]}
    )
    assert figures.cpu(results, "mix", "wrk") == {0: pytest.approx(7 + 4 + 5)}
    assert figures.cpu(results, "mix", "hey") == {}


def test_a_bound_is_met_not_met_or_not_measured() -> None:
    assert Bound("x", 1.3, Spread(1.3, 1.0, 2.0)).met is True
    assert Bound("x", 1.3, 1.31).met is False
    assert Bound("x", 5.0, 4.9, at_most=False).met is False
    assert Bound("x", 5.0, 5.0, at_most=False).met is True
    assert Bound("x", 5.0, None).met is None


def bound(results: dict, what: str) -> Bound:
    (found,) = [b for b in figures.bounds(results) if b.what == what]
    return found


def test_bounds_are_computed_from_what_was_seen() -> None:
    results = {
        **closed(
            mix={"fast": [100.0], "engine": [10.0], "event": [25.0], "full": [20.0]},
            small={"engine": [8.0], "wrk": [5.0]},
        ),
        "missing": [{"name": "k6", "get": "build it"}],
        "open": {
            "engine": [
                {"planned": 10, "sent": 10 - n, "cores": 0.4, "lateness_ms": {"p99": late}}
                for n, late in ((0, 0.5), (1, 1.2), (3, 9.0))
            ]
        },
        "still": {"engine": [{"latency_ms": {"p50": 0.1}}]},
        "freeze": {
            "engine": [
                {
                    "latency_ms": {"p50": 0.3, "p95": 460.0, "p99": 890.0, "max": 1000.0},
                    "truth_ms": {"p50": 0.1, "p95": 500.0, "p99": 900.0, "max": 1000.0},
                }
            ]
        },
        "many": {"engine": [{"new_connections": 1, "window_requests": 100}]},
        "recording": {"request_us": [0.5, 0.4, 0.7]},
    }
    met = {b.what: b.met for b in figures.bounds(results)}
    assert met["FastHttpUser / ours (engine), mix"] is True
    assert met["FastHttpUser / ours (declared, event), mix"] is False
    assert met["FastHttpUser / ours (tasks), mix"] is True
    assert met["ours (engine) / wrk, GET 200 B"] is False
    assert met["ours (engine) / wrk, PUT 256 KiB"] is None
    assert bound(results, "k6 / ours (tasks), mix").why == "k6 not installed"
    assert bound(results, "10,000/s of the mix, planned − sent").value == Spread(1, 0, 3)
    assert met["10,000/s of the mix, planned − sent"] is False
    assert met["10,000/s, cores used"] is True
    assert met["10,000/s, lateness p99"] is False
    assert met["40,000/s from two workers, planned − sent"] is None
    assert bound(results, "frozen, p95 off the truth by").value == pytest.approx(8.0)
    assert met["frozen, p99 off the truth by"] is True
    assert met["frozen, p50 / p50 without stalls"] is False
    assert met["new connections per request above 10,000, engine"] is False
    assert bound(results, "recording a duration").value == Spread(0.25, 0.2, 0.35)


def test_nothing_measured_meets_nothing() -> None:
    assert {b.met for b in figures.bounds({})} == {None}


def test_the_truth_is_what_is_left_of_the_stall_an_arrival_falls_into() -> None:
    stalls = [Stall(20.0, 21.0), Stall(10.0, 11.0)]
    found = truth.latencies_ms([9.9, 10.0, 10.75, 11.0, 15.0, 20.5], stalls, 0.1)
    assert found == pytest.approx([0.1, 1000.1, 250.1, 0.1, 0.1, 500.1])


def test_percentiles_of_an_even_load_with_a_tenth_of_it_frozen() -> None:
    planned = [n / 100 for n in range(1000)]
    found = truth.percentiles_ms(truth.latencies_ms(planned, [Stall(5.0, 6.0)], 0.0))
    assert found == pytest.approx({"p50": 0.0, "p95": 500.0, "p99": 900.0, "max": 1000.0}, abs=11)
    with pytest.raises(ValueError):
        truth.percentiles_ms([])


BURN = """
import subprocess, sys, time
def burn():
    while time.process_time() < 0.3: pass
if sys.argv[1] == "parent":
    child = subprocess.Popen([sys.executable, __file__, "child"], stdout=subprocess.PIPE)
    child.stdout.read(1)
burn(); print("x", flush=True); time.sleep(30)
"""


def test_cpu_and_memory_of_a_process_and_its_children_are_counted(tmp_path) -> None:
    script = tmp_path / "burn.py"
    script.write_text(BURN)
    root = subprocess.Popen([sys.executable, str(script), "parent"], stdout=subprocess.PIPE)
    try:
        assert root.stdout is not None
        root.stdout.read(1)
        time.sleep(0.01)
        used = of_trees([root.pid])
    finally:
        import psutil

        for child in psutil.Process(root.pid).children():
            child.kill()
        root.kill()
        root.wait()
    assert 0.55 <= used.cpu_s <= 1.5, "0.3 s in each of two processes"
    assert used.peak_mib > 5


def test_counting_and_judging_are_timed() -> None:
    (request_us,) = own.recording(1)["request_us"]
    assert 0 < request_us < 100
    judged = own.judging(1)
    assert 0 < judged["judge_s"] < judged["run_s"]
