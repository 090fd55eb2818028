"""A run against the green ones before it: runs are the unit, and chance is theirs."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from harness.evidence import histogram
from harness.evidence.model import Evidence, Lateness, TallyCell
from harness.plan.model import Plan, Regression
from harness.verdict import Finding, Outcome, judge, regression
from harness.verdict.case import Case
from harness.verdict.counts import Counts, Share, add
from harness.verdict.intervals import student_quantile
from harness.verdict.regression import judge_regression
from tests.verdict.build import T0, Day, plan

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


# ---- the figures, exactly ------------------------------------------------------------------------

COUNTED = add((), 2000)


def objective(figure: str, at_most: float = 0.2, runs: int = 10) -> Regression:
    return Regression("o", ("baseline",), 1, figure=figure, at_most=at_most, runs=runs)


@pytest.mark.parametrize("latency_s", [0.010, 0.012, 0.014])
def test_the_change_of_a_latency_is_a_factor_between_the_ends_of_both_intervals(
    latency_s: float,
) -> None:
    day, wide = Day(latency_s=latency_s), [(0.98 * value, 1.01 * value) for value in STEADY]
    with_it = planned(P95)
    runs = [
        {**run, "figures": [{**run["figures"][0], "low": low, "high": high}, run["figures"][1]]}
        for run, (low, high) in zip(
            [green(with_it, "p95", 0.0)] * len(wide), wide, strict=True
        )
    ]  # fmt: skip
    case = Case(with_it.with_recorded(history={"runs": runs}), day.evidence())
    now = case.counts("baseline").quantile_s(0.95)
    assert now is not None and now.low < now.high
    lows, highs = ([math.log(pair[at]) for pair in wide] for at in (0, 1))
    spread = math.sqrt(1.1) * statistics.stdev(
        [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]
    )
    low = math.log(now.low) - statistics.fmean(highs)
    high = math.log(now.high) - statistics.fmean(lows)
    margin = student_quantile(0.95, 9) * spread
    finding = judge_regression(case, objective("p95"), "baseline")
    assert finding.measured is not None
    assert finding.measured.unit == "ratio"
    figures = (finding.measured.value, finding.measured.low, finding.measured.high)
    expected = tuple(math.expm1(x) for x in ((low + high) / 2, low - margin, high + margin))
    assert figures == pytest.approx(expected, rel=1e-9)
    # Judged by the ends: at the bound it passes, and from just below the better end on it fails.
    best, worst = expected[1], expected[2]
    for at_most, outcome in (
        (worst + 1e-9, PASS), (worst - 1e-9, UNKNOWN), (best + 1e-9, UNKNOWN), (best - 1e-9, FAIL),
    ):  # fmt: skip
        assert judge_regression(case, objective("p95", at_most), "baseline").outcome is outcome
    seen = math.expm1(margin + student_quantile(0.8, 9) * spread)
    assert finding.because.endswith(f"sees four times in five is {seen:.1%}")
    assert finding.required == "≤ 0.2 of what it was worse than the last 10 green runs"
    assert finding.evidence == ("tallies/", "plan.json history")


def test_the_change_of_a_share_is_in_points() -> None:
    wording = "error rate at most 0.5 % above the last 5 green runs"
    finding = found(wording, [0.0, 0.002, 0.004, 0.002, 0.002], Day(), "error_rate")
    spread = math.sqrt(1.2) * statistics.stdev([0.0, 0.002, 0.004, 0.002, 0.002])
    assert finding.measured is not None
    assert finding.measured.value == pytest.approx(-0.002)
    assert finding.measured.low == pytest.approx(-0.002 - T95[4] * spread, rel=1e-6)
    assert finding.measured.high == pytest.approx(-0.002 + T95[4] * spread, rel=1e-6)
    assert finding.because == (
        "0.2 points better than the mean of 5 green runs, with what runs differ by chance "
        "0.53 points better to 0.13 points worse (Student's t, each at 95% confidence); "
        "the smallest change it sees four times in five is 0.476 points"
    )
    assert finding.required == "≤ 0.005 of the arrivals worse than the last 5 green runs"


@pytest.mark.parametrize(
    ("figure", "now", "change"),
    [
        # At least: the best of now against the worst of then; at most: the other way about.
        ("error rate", Share(0.2, 0.3), (0.2 - 0.04, 0.3 - 0.02)),
        ("availability", Share(0.7, 0.8), (0.02 - 0.8, 0.04 - 0.7)),
        ("p50", Share(0.2, 0.3), (math.log(0.2 / 0.04), math.log(0.3 / 0.02))),
        # Nothing is quicker than a nanosecond.
        ("p50", Share(0.0, 0.0), (math.log(1e-9 / 0.04), math.log(1e-9 / 0.02))),
    ],
)
def test_a_change_is_between_the_nearest_and_the_farthest_ends(
    figure: str, now: Share, change: tuple[float, float]
) -> None:
    before = regression._Before((Share(0.02, 0.04),) * 3, (2000.0,) * 3)
    low, high, spread = regression._change(now, before, COUNTED, objective(figure))
    assert (low, high) == pytest.approx(change)
    coins = math.sqrt(1 + 1 / 3) * regression._chance([0.03] * 3, (2000.0,) * 3, COUNTED)
    assert spread == pytest.approx(0.0 if figure == "p50" else coins)


@pytest.mark.parametrize(
    ("shares", "planned", "now", "counted"),
    [
        ([0.1, 0.0], (100.0, 300.0), 2000, 10),
        ([0.0, 0.02], (100.0, 300.0), 2000, 6),
        # As of failures, so of successes.
        ([0.9, 1.0], (100.0, 300.0), 2000, 10),
        # The smallest of all runs differs most, be it the new one.
        ([0.1, 0.0], (100.0, 300.0), 50, 10),
        ([0.0, 0.0], (0.0, 0.0), 0, 0),
    ],
)
def test_coins_are_thrown_as_often_as_in_the_smallest_run(
    shares: list[float], planned: tuple[float, ...], now: int, counted: int
) -> None:
    share = (counted + 1) / (sum(planned) + 2)
    deviation = math.sqrt(share * (1 - share) / max(1, min(now, *planned)))
    found = regression._chance(shares, planned, add((), now))
    assert found == pytest.approx(deviation)


# ---- which runs, and what if there is no figure --------------------------------------------------


def before(figure: str, *values: tuple[str, float], runs: int = 10) -> list[float]:
    """The figures compared with, of a history with one run for each ``(phase, value)``."""
    with_it, name = planned(P95), figure.replace(" ", "_")
    history = []
    for n, (phase, value) in enumerate(values, 1):
        figures = [
            {"phase": phase, "name": name, "low": value, "high": value},
            {"phase": "baseline", "name": "planned", "low": 1000.0 * n, "high": 0.0},
            {"phase": "cool-down", "name": name, "low": 0.5, "high": 0.5},
        ]
        history.append({**green(with_it, name, value), "figures": figures})
    case = Case(with_it.with_recorded(history={"runs": history}), Day().evidence())
    known = regression._before(case, objective(figure, runs=runs), "baseline")
    kept = [n for n, (phase, v) in enumerate(values, 1) if Share(v, v) in known.figures]
    assert known.planned == tuple(1000.0 * n for n in kept)
    return [share.low for share in known.figures]


def test_a_run_is_compared_with_the_last_that_have_the_figure_in_that_phase() -> None:
    values = [("baseline", 0.1), ("cool-down", 0.2), ("baseline", 0.3), ("baseline", 0.4)]
    assert before("p95", *values) == [0.1, 0.3, 0.4]
    assert before("p95", *values, runs=2) == [0.3, 0.4]
    # A latency of nothing has no logarithm; a share of nothing is one.
    assert before("p95", ("baseline", 0.0), *values) == [0.1, 0.3, 0.4]
    assert before("error rate", ("baseline", 0.0), *values) == [0.0, 0.1, 0.3, 0.4]


def test_a_plan_without_a_memory_is_compared_with_nothing() -> None:
    finding = judge_regression(Case(planned(P95), Day().evidence()), objective("p95"), "baseline")
    assert (finding.outcome, finding.measured) == (UNKNOWN, None)
    assert finding.because == (
        "0 green runs of this same plan with whole evidence are known here; "
        "3 more are needed at least"
    )


def test_three_runs_are_enough() -> None:
    assert found(P95, [0.0100, 0.0101, 0.0099], Day(latency_s=0.010)).outcome is PASS


def only(outcome: str, n: int, more: int = 0) -> Counts:
    """``n`` arrivals that went so, of ``n + more``."""
    return add((TallyCell("download", "", "", outcome, "", n, 0, {}, {}, {}),), n + more)


@pytest.mark.parametrize(
    ("counts", "figure", "outcome", "because"),
    [
        (add((), 0), "p95", UNKNOWN, "no arrivals"),
        (add((), 0), "error rate", UNKNOWN, "no arrivals"),
        (only("failed", 100), "p50", FAIL, "so few arrivals succeeded (0.000%) that there is no"),
        (only("failed", 51, 49), "p50", FAIL, "so few arrivals succeeded (49.000%)"),
        # Those of which nothing is known may have succeeded, and just be enough.
        (only("failed", 50, 50), "p50", UNKNOWN, "there may be no p50"),
        (only("not_sent", 100), "error rate", UNKNOWN, "there may be no error rate"),
    ],
)
def test_a_figure_that_does_not_exist_fails_only_where_it_surely_does_not(
    counts: Counts, figure: str, outcome: Outcome, because: str
) -> None:
    assert regression._now(counts, figure) is None
    found, said = regression._none(counts, figure)
    assert found is outcome
    assert said.startswith(because)


def test_each_figure_is_its_own() -> None:
    counts = Case(planned(P95), Day(outage=range(5, 6)).evidence()).counts("baseline")
    for figure, q in (("p50", 0.5), ("p95", 0.95)):
        assert regression._now(counts, figure) == counts.quantile_s(q)
    slow = TallyCell("download", "", "", "ok", "", 3, 0, {}, {}, {})
    many = add(
        [dataclasses.replace(slow, n=n, latency={bucket: n}) for n, bucket in
         ((960, 100), (25, 200), (15, 300))], 1000,
    )  # fmt: skip
    p95, p99 = regression._now(many, "p95"), regression._now(many, "p99")
    assert p95 is not None and p99 is not None and p95.high < p99.low
    assert p99 == many.quantile_s(0.99) != many.quantile_s(0.98)
    assert regression._now(counts, "availability") == counts.availability()
    assert regression._now(counts, "error rate") == counts.error_rate()


# ---- what is added to it -------------------------------------------------------------------------


def test_that_runs_differ_too_much_is_said_only_where_that_is_why() -> None:
    too_much = "runs differ too much, or are too few, to tell"
    assert too_much in found(P95, NOISY, Day(latency_s=0.010)).because
    assert too_much not in found(P95, NOISY, Day(latency_s=0.100)).because
    assert too_much not in found(P95, STEADY, Day(latency_s=0.012)).because
    narrow = "availability at most 0.03 % below the last 5 green runs"
    few = found(narrow, [0.99, 1.0, 0.995, 1.0, 1.0], Day(), "availability")
    assert few.because.endswith(f", more than the 0.03 points allowed: {too_much}")


def late(day: Day, n: int) -> Evidence:
    """``n`` of 2000 arrivals were sent late in the baseline."""
    at, quick = (histogram.index_of(int(s * 1e6)) for s in (0.4, 0.0005))
    evidence = day.evidence()
    lateness = (Lateness(T0 + 10.0, {quick: 2000 - n, at: n}),)
    tallies = tuple(dataclasses.replace(t, lateness=lateness) for t in evidence.tallies)
    return dataclasses.replace(evidence, tallies=tallies)


def test_one_late_arrival_in_a_hundred_excuses_a_latency_and_no_other_figure() -> None:
    with_it = planned(P95)

    def case(day: Day, n: int, figure: str = "p95", value: float = 0.010) -> Case:
        runs = [green(with_it, figure, value) for _ in range(5)]
        return Case(with_it.with_recorded(history={"runs": runs}), late(day, n))

    slow, p95 = Day(latency_s=0.4), objective("p95")
    excused = judge_regression(case(slow, 20), p95, "baseline")
    assert excused.outcome is UNKNOWN
    said = "; but the generator itself sent 1.0% of them over 50 ms late"
    assert excused.because.endswith(said)
    assert judge_regression(case(slow, 19), p95, "baseline").outcome is FAIL
    good = judge_regression(case(Day(latency_s=0.010), 20), p95, "baseline")
    assert (good.outcome, "late" in good.because) == (PASS, False)
    down = case(Day(outage=range(5, 10)), 20, "error_rate", 0.0)
    assert judge_regression(down, objective("error rate", 0.01), "baseline").outcome is FAIL


@pytest.mark.parametrize(
    ("change", "timed", "said"),
    [(0.5, True, "50.0% worse"), (0.0, True, "0.0% worse"), (-0.5, True, "50.0% better"),
     (0.005, False, "0.5 points worse"), (-0.005, False, "0.5 points better")],
)  # fmt: skip
def test_a_change_is_worse_or_better(change: float, timed: bool, said: str) -> None:
    assert regression._worse(change, timed) == said
