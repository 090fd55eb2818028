"""The schedule follows from rate, seed and number, and from nothing else."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest

from harness.errors import PlanInvalid
from harness.load.arrivals import EVEN, POISSON, Schedule
from harness.plan.rates import constant, ramp


def test_even_arrivals_are_exactly_one_gap_apart():
    offsets = list(Schedule(constant(200), EVEN, duration_s=2).offsets_s())
    assert offsets == [n / 200 for n in range(400)]


def test_poisson_arrivals_are_the_same_for_the_same_seed_and_others_for_another():
    def first(seed):
        return list(itertools.islice(Schedule(constant(50), POISSON, seed).offsets_s(), 100))

    assert first(7) == first(7)
    assert first(7) != first(8)


def test_poisson_gaps_have_the_mean_and_spread_of_an_exponential():
    offsets = list(Schedule(constant(100), POISSON, seed=7, duration_s=100).offsets_s())
    gaps = [b - a for a, b in itertools.pairwise(offsets)]
    assert statistics.mean(gaps) == pytest.approx(0.01, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("arrivals", [EVEN, POISSON])
def test_workers_share_one_schedule_without_loss_or_overlap(arrivals):
    schedule = Schedule(constant(100), arrivals, seed=3, duration_s=5)
    shares = [list(schedule.share_s(worker, 3)) for worker in range(3)]
    assert sorted(itertools.chain(*shares)) == list(schedule.offsets_s())


def test_a_ramp_sends_half_as_many_while_it_lasts_and_reaches_the_rate():
    offsets = list(Schedule(ramp(0, 100, over_s=10), EVEN, duration_s=20).offsets_s())
    assert sum(t < 10 for t in offsets) == 500
    assert sum(10 <= t < 11 for t in offsets) == 100
    assert offsets == sorted(offsets)


def test_a_schedule_without_duration_does_not_end():
    assert len(list(itertools.islice(Schedule(constant(1000), EVEN).offsets_s(), 5000))) == 5000


def test_arrivals_of_an_unknown_kind_are_refused():
    with pytest.raises(PlanInvalid):
        Schedule(constant(1), "random")


def test_poisson_arrivals_follow_a_curve():
    offsets = list(Schedule(ramp(0, 400, over_s=20), POISSON, seed=7, duration_s=20).offsets_s())
    halves = [sum(t < 10 for t in offsets), sum(t >= 10 for t in offsets)]
    assert halves == [pytest.approx(1000, rel=0.1), pytest.approx(3000, rel=0.1)]
    assert offsets == sorted(offsets)


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("curve", [constant(300), ramp(10, 500, 4)], ids=["constant", "ramp"])
def test_an_arrival_is_due_when_the_sum_of_exponential_gaps_says_to_the_last_bit(curve, workers):
    """As anybody would write it: a schedule must not change with how it is computed."""
    uniform, area, instants = random.Random("arrivals:11").random, 0.0, []
    while True:
        area -= math.log(1.0 - uniform())
        instant_s = area / curve.peak if curve.is_constant else curve.instant_s(area)
        if instant_s >= 6:
            break
        instants.append(instant_s)
    assert len(instants) > 1000
    schedule = Schedule(curve, POISSON, seed=11, duration_s=6)
    for worker in range(workers):
        assert list(schedule.share_s(worker, workers)) == instants[worker::workers]


@pytest.mark.parametrize("duration_s", [2, 2.0])
def test_what_is_due_at_the_very_end_is_no_longer_sent(duration_s):
    offsets = list(Schedule(constant(4), EVEN, duration_s=duration_s).offsets_s())
    assert offsets == [n / 4 for n in range(8)]
