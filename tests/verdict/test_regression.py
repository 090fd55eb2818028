"""A run against the green ones before it: runs are the unit, and chance is theirs."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from harness.plan.model import Plan
from harness.verdict import Finding, Outcome, judge
from tests.verdict.build import Day, plan

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
_LAST = "  - agreement: client and Prometheus within 2 %\n    in: [baseline]\n"
P95 = "p95 at most 20 % above the last 10 green runs"
T95 = {2: 2.919986, 4: 2.131847, 9: 1.833113}


def planned(wording: str) -> Plan:
    return plan((_LAST, f"{_LAST}  - {{regression: {wording}, in: [baseline]}}\n"))


def green(with_it: Plan, figure: str, value: float, **changes: Any) -> Mapping[str, Any]:
    """An earlier run of the same plan in which ``figure`` of the baseline was ``value``."""
    figures = [
        {"phase": "baseline", "name": figure, "low": value, "high": value},
        {"phase": "baseline", "name": "planned", "low": 2000.0, "high": 2000.0},
    ]
    return {
        "plan": with_it.name, "plan_sha256": with_it.sha256,
        "traffic": with_it.traffic.rate_words, "outcome": "pass", "complete": True,
        "figures": figures, **changes,
    }  # fmt: skip


def found(
    wording: str, values: Sequence[float], day: Day, figure: str = "p95", **changes: Any
) -> Finding:
    with_it = planned(wording)
    runs = [green(with_it, figure, value, **changes) for value in values]
    verdict = judge(with_it.with_recorded(history={"runs": runs}), day.evidence())
    (finding,) = [f for f in verdict.findings if f.objective == with_it.objectives[-1].text]
    assert finding.phase == "baseline"
    return finding


STEADY = [0.0100, 0.0101, 0.0099, 0.0100, 0.0102, 0.0098, 0.0101, 0.0099, 0.0100, 0.0100]
NOISY = [0.0060, 0.0170, 0.0090, 0.0120, 0.0070, 0.0140, 0.0080, 0.0110, 0.0160, 0.0065]


def test_a_run_like_those_before_passes_and_a_slower_one_fails() -> None:
    assert found(P95, STEADY, Day(latency_s=0.010)).outcome is PASS
    assert found(P95, STEADY, Day(latency_s=0.0115)).outcome is PASS
    worse = found(P95, STEADY, Day(latency_s=0.014))
    assert worse.outcome is FAIL
    assert worse.because.startswith("39.8% worse than the mean of 10 green runs")
    assert found(P95, STEADY, Day(latency_s=0.007)).outcome is PASS


def test_the_bounds_are_those_of_a_new_observation() -> None:
    finding = found(P95, STEADY, Day(latency_s=0.012))
    logs = [math.log(value) for value in STEADY]
    margin = T95[9] * statistics.stdev(logs) * math.sqrt(1.1)
    middle = math.log(0.012) - statistics.fmean(logs)
    assert finding.measured is not None
    assert finding.measured.low == pytest.approx(math.exp(middle - margin) - 1, abs=0.005)
    assert finding.measured.high == pytest.approx(math.exp(middle + margin) - 1, abs=0.005)
    assert finding.outcome is UNKNOWN


def test_runs_that_differ_much_tell_little_and_say_how_little() -> None:
    finding = found(P95, NOISY, Day(latency_s=0.010))
    assert finding.outcome is UNKNOWN
    assert "more than the 20.0% allowed" in finding.because
    assert "the smallest change it sees four times in five is 1" in finding.because
    assert found(P95, NOISY, Day(latency_s=0.100)).outcome is FAIL


def test_a_change_of_the_size_stated_is_seen_four_times_in_five_and_no_change_is_not() -> None:
    rng, n, sd = random.Random(11), 6, 0.05
    seen = wrong = 0
    for _ in range(4000):
        logs = [rng.gauss(0.0, sd) for _ in range(n)]
        margin = 2.015048 * statistics.stdev(logs) * math.sqrt(1 + 1 / n)
        size = (2.015048 + 0.919544) * sd * math.sqrt(1 + 1 / n)
        new = rng.gauss(0.0, sd)
        wrong += new - statistics.fmean(logs) > margin
        seen += new + size - statistics.fmean(logs) > margin
    assert wrong / 4000 == pytest.approx(0.05, abs=0.012)
    assert seen / 4000 == pytest.approx(0.8, abs=0.04)


def test_shares_are_compared_in_points_and_chance_is_never_less_than_a_coins() -> None:
    wording = "availability at most 0.5 % below the last 5 green runs"
    all_good = [1.0] * 5
    finding = found(wording, all_good, Day(), "availability")
    assert finding.outcome is PASS
    assert finding.measured is not None
    # No run ever failed; one failure among the 10,002 of all: √(10⁻⁴ / 2000) a run.
    chance = T95[4] * math.sqrt(1 / 10_002 / 2000) * math.sqrt(1.2)
    assert finding.measured.high == pytest.approx(chance, rel=1e-3)
    assert found(wording, all_good, Day(outage=range(9, 12)), "availability").outcome is FAIL
    narrow = "availability at most 0.03 % below the last 5 green runs"
    one = Day()
    second = one.seconds[7]
    cells = (*second.cells[1:], one.cell("download", "A", 23), one.cell("download", "", 1))
    one.seconds[7] = dataclasses.replace(second, cells=cells)
    assert found(narrow, all_good, one, "availability").outcome is UNKNOWN
    errors = "error rate at most 0.5 % above the last 5 green runs"
    assert found(errors, [0.0] * 5, Day(), "error_rate").outcome is PASS
    assert found(errors, [0.0] * 5, Day(outage=range(9, 12)), "error_rate").outcome is FAIL


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": "fail"},
        {"outcome": "unknown"},
        {"complete": False},
        {"plan_sha256": "other"},
        {"plan": "other"},
        {"traffic": "999 requests/s"},
        {"figures": []},
    ],
)
def test_only_green_runs_of_the_same_plan_count(changes: dict[str, Any]) -> None:
    finding = found(P95, STEADY, Day(), **changes)
    assert finding.outcome is UNKNOWN
    assert finding.because.startswith("0 green runs of this same plan")
    assert "3 more are needed" in finding.because


def test_too_few_runs_are_unknown_and_only_the_last_count() -> None:
    finding = found(P95, STEADY[:2], Day())
    assert (finding.outcome, "1 more are needed" in finding.because) == (UNKNOWN, True)
    last = "p95 at most 20 % above the last 3 green runs"
    assert found(last, [*NOISY, *STEADY], Day()).outcome is PASS


def test_a_quantile_beyond_what_succeeded_is_worse_than_any() -> None:
    day = Day(outage=range(5, 15))
    finding = found(P95, STEADY, day)
    assert (finding.outcome, finding.measured) == (FAIL, None)
    assert "there is no p95" in finding.because


def test_a_generator_that_was_late_itself_cannot_blame_the_service() -> None:
    finding = found(P95, STEADY, Day(latency_s=0.4, late_s=0.4))
    assert finding.outcome is UNKNOWN
    assert "the generator itself" in finding.because
