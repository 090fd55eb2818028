"""Recovery, failover and failback as judged, held against what really happened.

Thirty days at 50 requests a second, each with other timings and with clocks up to 5 s apart:
Prometheus's, and the generators' own. What was scripted must lie within the interval the judge
states, give or take 0.1 s.
"""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from harness.plan.model import Plan
from harness.plan.reader import read_plan
from harness.selftest.check import judge_folder
from harness.selftest.simulate import Simulator
from harness.selftest.world import (
    Back,
    Generator,
    Pods,
    Prometheus,
    Region,
    Truth,
    Watch,
    World,
    Zone,
)
from harness.verdict import Measured, Verdict

DAYS = range(30)
MORE_S = 0.1
#: Stated intervals are no wider than this: a second of counting, and the polls and calls around it.
WIDEST_S = 2.0


@pytest.fixture(scope="module")
def plan(repo: Path) -> Plan:
    """The plan of the selftest, with writes enough to tell when they come back (of a window of
    150 requests one may fail), and without the time in which nothing happens."""
    plan = read_plan(repo / "experiments/gamedays/selftest.yaml")
    plan = dataclasses.replace(plan, baseline_s=5.0, cool_down_s=5.0)
    assert plan.traffic.rate == 50
    mix = {"download": 30.0, "delete": 54.0, "upload": 16.0}
    return dataclasses.replace(plan, traffic=dataclasses.replace(plan.traffic, mix=mix))


@pytest.fixture(scope="module")
def simulator(plan: Plan) -> Simulator:
    return Simulator(plan)


def world(seed: int) -> World:
    """A day on which every step happens at a moment of its own."""
    rng = random.Random(seed)
    over = sorted(rng.uniform(0.3, 5.0) for _ in range(5))
    back = sorted(rng.uniform(0.3, 5.5) for _ in range(4))
    turned_away_s, db_moved_s = rng.uniform(0.3, 4.0), rng.uniform(0.3, 4.8)
    return World(
        seed=seed,
        pods=Pods(failing_s=rng.uniform(0.3, 1.5), failing_share=1.0),
        zone=Zone(turned_away_s=turned_away_s, db_moved_s=db_moved_s, back_s=rng.uniform(0.2, 3)),
        region=Region(*over),
        back=Back(*back),
        prometheus=Prometheus(offset_s=round(rng.uniform(-5, 5), 1)),
        generator=Generator(
            workers=2, drift_s=rng.uniform(-0.03, 0.03), wall_offset_s=rng.uniform(-5, 5)
        ),
        watch=Watch(period_s=rng.choice([0.25, 0.5])),
    )


@pytest.mark.parametrize("seed", DAYS)
def test_what_is_judged_is_what_happened(seed: int, simulator: Simulator, tmp_path: Path) -> None:
    truth = simulator.write(world(seed), tmp_path)
    verdict = judge_folder(tmp_path)
    for told, happened_s in times(verdict, truth):
        assert told.low is not None and told.high is not None
        assert told.low - MORE_S <= happened_s <= told.high + MORE_S, (told, happened_s)
        assert told.high - told.low <= WIDEST_S


def times(verdict: Verdict, truth: Truth) -> list[tuple[Measured, float]]:
    """Each figure of the verdict beside the truth."""
    wanted = {
        ("recovery", "recovery:pod"): truth.recovery_s["pod"],
        ("recovery", "recovery:zone"): truth.recovery_s["zone"],
        ("recovery", "recovery:region"): truth.recovery_s["region"],
        ("failover", "fault:region"): truth.failover_s["region"],
        ("failback", "recovery:region"): truth.failback_s["region"],
    }
    found = {
        (finding.objective.partition(":")[0], finding.phase): finding.measured
        for finding in verdict.findings
    }
    pairs = []
    for key, happened_s in wanted.items():
        told = found[key]
        assert told is not None and happened_s is not None, key
        pairs.append((told, happened_s))
    return pairs


def test_a_truth_that_was_otherwise_would_be_noticed(simulator: Simulator, tmp_path: Path) -> None:
    simulator.write(world(0), tmp_path)
    verdict = judge_folder(tmp_path)
    for seconds in (-2.3, 2.3):
        other = {"pod": 0.3, "zone": 3.0, "region": 3.0}
        truth = Truth(other, {"region": 3.0}, {"region": 3.0})
        for told, _ in times(verdict, truth):
            assert told.value is not None
            happened_s = told.value + seconds
            assert not told.low - MORE_S <= happened_s <= told.high + MORE_S
