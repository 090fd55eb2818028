"""What keeps a pace says how late it was made, and is busy for half of the time."""

from __future__ import annotations

import os

import pytest

from harness.evidence import histogram
from tests.bench import pacer


class Machine:
    """A clock that looking at and sleeping move on; it oversleeps at the sleeps named."""

    def __init__(self, oversleeps_s: dict[int, float]) -> None:
        self.at_s = 100.0
        self.slept_s = 0.0
        self._oversleeps_s = oversleeps_s
        self._sleeps = 0

    def now(self) -> float:
        self.at_s += 1e-6
        return self.at_s

    def sleep(self, length_s: float) -> None:
        self._sleeps += 1
        self.slept_s += length_s
        self.at_s += length_s + self._oversleeps_s.get(self._sleeps, 0.0)


def test_each_instant_counts_by_how_late_its_turn_was() -> None:
    machine = Machine({10: 0.003})
    found = pacer.lateness(0.1, machine.now, machine.sleep)
    assert histogram.count(found) == 200
    # Slept 3 ms too long: the instant it slept for, and those that fell due meanwhile and until it
    # had caught up, half a period at a time.
    late = sum(n for index, n in found.items() if histogram.bounds_us(index).low > 100)
    assert late == 12
    assert histogram.quantile_us(found, 1.0).low == pytest.approx(3000, rel=0.01)
    assert histogram.quantile_us(found, 0.5).high < 10


def test_it_is_busy_for_half_of_the_time() -> None:
    machine = Machine({})
    pacer.lateness(0.1, machine.now, machine.sleep)
    assert machine.slept_s == pytest.approx(0.05, rel=0.02)


def test_a_process_of_its_own_says_how_late_it_was() -> None:
    found = pacer.on({min(os.sched_getaffinity(0))}, 0.05)
    assert 0 < found["p50"] <= found["p95"] <= found["p99"] <= found["max"]
