"""What one generator sustains: found in its tally, kept in a file, made a number of workers."""

from __future__ import annotations

import dataclasses
import json

import pytest

from harness.clock import SystemClock
from harness.evidence import histogram
from harness.load import alone, calibration
from harness.load.calibration import (
    BUSY_CPU,
    LATE,
    MACHINE,
    TARGET,
    MachineBusy,
    Staircase,
    Step,
    calibrated,
    steps_seen,
    workers_for,
)
from harness.plan.shapes import parse_rate

from .server import StandIn

T0 = 1_700_000_000.0
STAIRS = Staircase(first_rate=100, growth=2, steps=4, step_s=4, settle_s=1)


def tally(cpu=0.1, late_us=100, failed=0, not_sent=0):
    """Lines of a generator, one a second, of which each step is given as a function of n."""
    lines = [{"kind": "tally.start", "t": T0, "start_t": T0}]
    for second in range(1, 18):
        n = min((second - 1) // 4, 3)
        sent = round(STAIRS.rates[n])
        bad = failed(n) if callable(failed) else failed
        cells = [
            {"outcome": "ok", "n": sent - bad},
            {"outcome": "failed", "n": bad},
            {"outcome": "not_sent", "n": not_sent(n) if callable(not_sent) else not_sent},
        ]
        late = histogram.index_of(late_us(n) if callable(late_us) else late_us)
        lines.append(
            {
                "kind": "tally",
                "t": T0 + second,
                "seconds": {str(int(T0) + second - 1): {"planned": sent, "cells": cells}},
                "lateness": {str(late): sent},
                "cpu_s": cpu(n) if callable(cpu) else cpu,
            }
        )
    return lines


def test_the_staircase_is_a_rate_in_words_that_the_generator_can_read():
    curve = parse_rate(Staircase().shape)
    assert [curve.rate_at(n * 4 + 1) for n in range(14)] == Staircase().rates
    assert Staircase().duration_s <= 60
    assert curve.arrivals_by(60) < 1_000_000


def test_a_step_is_measured_when_it_is_over_and_after_it_settled():
    lines = tally(cpu=lambda n: 0.1 * (n + 1))
    assert steps_seen(lines[:5], STAIRS) == []
    step = steps_seen(lines[:6], STAIRS)[0]
    # Three lines of one second each; the first second of the step is left out.
    assert (step.rate, step.sent) == (100, 300)
    assert step.cpu_share == pytest.approx(0.1)
    assert step.cpu_us_per_request == pytest.approx(1000)
    assert [s.rate for s in steps_seen(lines, STAIRS)] == [100, 200, 400, 800]


@pytest.mark.parametrize(
    ("wrong", "limit"),
    [
        ({"cpu": lambda n: 0.75 if n == 2 else 0.2}, BUSY_CPU),
        ({"late_us": lambda n: 1500 if n == 2 else 300, "cpu": 0.5}, LATE),
        ({"failed": lambda n: 20 if n == 2 else 0}, TARGET),
        ({"not_sent": lambda n: 1 if n == 2 else 0}, TARGET),
    ],
)
def test_what_is_too_much_ends_it_and_the_step_before_counts(tmp_path, wrong, limit):
    locustfile = tmp_path / "reader.py"
    locustfile.write_text("# traffic")
    steps = steps_seen(tally(**wrong), STAIRS)
    assert [step.limit for step in steps] == ["", "", limit, ""]
    found = calibrated(locustfile, steps, T0)
    assert (found.rate, found.limited_by) == (200, limit)
    assert calibrated(locustfile, steps[2:], T0) is None
    assert calibrated(locustfile, [], T0) is None


def test_a_generator_that_waits_for_a_processor_others_use_is_not_measured(tmp_path):
    locustfile = tmp_path / "reader.py"
    locustfile.write_text("# traffic")
    steps = steps_seen(tally(late_us=lambda n: 1500 if n == 2 else 300, cpu=0.1), STAIRS)
    assert steps[2].limit == MACHINE
    with pytest.raises(MachineBusy, match="others use the processors"):
        calibrated(locustfile, steps, T0)


def test_it_is_found_again_for_the_same_locustfile_and_machine_only(tmp_path):
    locustfile = tmp_path / "reader.py"
    locustfile.write_text("# traffic")
    found = calibrated(locustfile, steps_seen(tally(), STAIRS), T0)
    assert calibration.find(tmp_path, locustfile) is None
    calibration.save(tmp_path, found)
    calibration.save(tmp_path, dataclasses.replace(found, machine={"processor": "another"}))
    better = dataclasses.replace(found, rate=9000)
    calibration.save(tmp_path, better)
    assert calibration.find(tmp_path, locustfile) == better
    assert len(json.loads((tmp_path / calibration.FILE).read_text())) == 2
    locustfile.write_text("# other traffic")
    assert calibration.find(tmp_path, locustfile) is None
    (tmp_path / calibration.FILE).write_text("{")
    assert calibration.find(tmp_path, locustfile) is None


def test_workers_are_as_many_as_the_peak_needs_with_headroom():
    step = Step(10_000, 1, 0.0001, 0.6, 0.0, 0)
    found = calibration.Calibration("x.py", "", {}, step.rate, 60.0, BUSY_CPU, "2026-01-02T03")
    assert [workers_for(peak, found).workers for peak in (1, 8000, 8001, 40_000)] == [1, 1, 2, 5]
    assert "sustained 10000/s here on 2026-01-02 (60 µs" in workers_for(1, found).because
    assert "at least" in workers_for(1, dataclasses.replace(found, limited_by=TARGET)).because
    assert workers_for(8000, None).workers == 5
    assert "nothing was measured" in workers_for(1, None).because


@pytest.mark.parametrize(
    ("url", "is_loopback"),
    [
        ("http://127.0.0.1:80", True),
        ("http://[::1]/", True),
        ("http://localhost:1", True),
        ("http://10.0.0.1", False),
        ("http://127.0.0.1.example.org", False),
        ("http://api.fileservice.lab:8080", False),
    ],
)
def test_only_this_machine_is_this_machine(url, is_loopback):
    assert calibration.is_loopback(url) is is_loopback


def test_a_real_generator_is_measured_and_its_sums_are_those_of_the_server(tmp_path):
    locustfile = tmp_path / "reader.py"
    locustfile.write_text(
        "from harness.load.user import OpenLoopUser, get\n"
        "class Reader(OpenLoopUser):\n"
        "    files = get('/v1/files?limit=1', expect=(401,))\n"
    )
    told = []
    with StandIn() as server:
        steps = alone.calibrate(
            tmp_path / "run",
            clock=SystemClock(),
            stairs=Staircase(first_rate=40, steps=2, step_s=1.3, settle_s=0.2),
            late_limit_s=10.0,
            tell=told.append,
            locustfile=locustfile,
            arrivals="poisson",
            seed=3,
            mix={},
            timeout_s=2.0,
            service_url=server.url,
            dns_server=None,
        )
        sums = alone.sums_of(tmp_path / "run", 1)
        assert steps == told
        assert [step.rate for step in steps] == [40, 60]
        assert all(step.sent and 0 < step.cpu_share < 2 for step in steps)
        assert sums.planned == sums.everything.sent == server.requests["GET"]
        assert sums.rows["files"].counts["ok"] == sums.planned
        assert (sums.gaps, sums.unknown, sums.workers_gone) == ([], 0, [])
        assert histogram.count(sums.lateness) == sums.planned
        assert sums.cpu_s > 0
