"""Prometheus and the clients must tell the same; what Prometheus cannot tell is no agreement."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import pytest

from harness.verdict import Finding, Outcome, judge
from tests.verdict.build import T0, Day, plan


def agreement(day: Day) -> Finding:
    verdict = judge(plan(), day.evidence())
    return next(f for f in verdict.findings if f.objective.startswith("agreement"))


def scaled(share: float) -> Day:
    return Day().change_points(lambda t, v: str(round(v * share)))


def test_equal_counts_agree() -> None:
    finding = agreement(Day())
    assert finding.outcome is Outcome.PASS
    assert finding.measured and finding.measured.low is not None
    assert finding.measured.low < 0 < (finding.measured.high or 0)


@pytest.mark.parametrize("share", [0.993, 1.007])
def test_a_difference_within_the_tolerance_is_agreement(share: float) -> None:
    finding = agreement(scaled(share))
    assert finding.outcome is Outcome.PASS
    assert finding.measured and finding.measured.low and finding.measured.high
    assert -0.02 <= finding.measured.low < share - 1 < finding.measured.high <= 0.02


@pytest.mark.parametrize("share", [0.982, 1.018])
def test_a_difference_that_chance_may_have_hidden_is_unknown(share: float) -> None:
    finding = agreement(scaled(share))
    assert finding.outcome is Outcome.UNKNOWN
    assert "too few" in finding.because


@pytest.mark.parametrize("share", [0.88, 0.97, 1.03, 1.15])
def test_counts_that_differ_by_more_than_both_can_explain_are_unknown(share: float) -> None:
    finding = agreement(scaled(share))
    assert finding.outcome is Outcome.UNKNOWN
    assert "suspect gateway_requests" in finding.because


def no_number(t: float, v: float) -> str:
    return "NaN" if 19 < t < 20 else str(v)


def unscraped(t: float, v: float) -> str | None:
    return None if 19 < t < 25 else str(v)


def stale(t: float, v: float) -> str | None:
    return str(v) if t < 35 else None


def mid_start(t: float, v: float) -> str | None:
    return str(v) if t > 5 else None


BLIND: dict[str, tuple[Callable[[Day], Day], str]] = {
    "empty": (lambda d: d.change_requests(result=()), "empty"),
    "no points": (lambda d: d.change_points(lambda t, v: None), "empty"),
    "NaN": (lambda d: d.change_points(no_number, (0,)), "is not a number"),
    "infinite": (lambda d: d.change_points(lambda t, v: "+Inf", (0,)), "is not a number"),
    "negative": (lambda d: d.change_points(lambda t, v: "-1", (0,)), "is not a number"),
    "text": (lambda d: d.change_points(lambda t, v: "many", (0,)), "is not a number"),
    "warning": (lambda d: d.change_requests(warnings=("1 of 2 down",)), "partial: 1 of 2 down"),
    "error": (lambda d: d.change_requests(error="HTTP 503"), "HTTP 503"),
    "status": (lambda d: d.change_requests(status="error"), "error"),
    "no status": (lambda d: d.change_requests(status=""), "no status"),
    "missing scrapes": (lambda d: d.change_points(unscraped), "no scrape for"),
    "missing scrapes of one pod": (lambda d: d.change_points(unscraped, (0,)), "misses scrapes"),
    "stale end": (lambda d: d.change_points(stale), "no scrape for 6 s of the phase"),
    "late begin": (lambda d: d.change_points(mid_start), "no scrape for 5 s of the phase"),
    "not counting": (lambda d: d.change_points(lambda t, v: "7"), "no request was counted"),
}


@pytest.mark.parametrize("case", BLIND)
def test_what_prometheus_cannot_tell_is_unknown_and_says_why(case: str) -> None:
    change, words = BLIND[case]
    finding = agreement(change(Day()))
    assert finding.outcome is Outcome.UNKNOWN
    assert words in finding.because


def test_a_series_that_was_never_fetched_is_unknown() -> None:
    day = Day()
    day.series = {}
    assert agreement(day).because == "gateway_requests: not recorded"


def test_a_single_pod_that_ends_early_is_not_agreed_with() -> None:
    finding = agreement(Day().change_points(lambda t, v: str(v) if t < 20 else None, (0,)))
    assert finding.outcome is Outcome.UNKNOWN


def restarted(t: float, v: float) -> str:
    return str(v if t < 20 else v - 500)


def test_a_counter_that_was_reset_goes_on_from_zero() -> None:
    # One pod restarts at second 20, at which it had counted 500 (25 a second).
    whole = agreement(Day())
    reset = agreement(Day().change_points(restarted, (0,)))
    assert reset.outcome is Outcome.PASS
    assert whole.measured and reset.measured
    assert reset.measured.value == pytest.approx(whole.measured.value, abs=0.03)


def test_a_pod_that_appears_in_the_window_began_at_zero() -> None:
    """Half of one pod's traffic moves to a new pod in mid-window; nothing is lost."""
    day = Day()
    lines = day.series["gateway_requests"].result
    old = lines[0]
    at_20 = next(float(v) for t, v in old.points if t > 1_700_000_020)
    before = tuple((t, v if float(v) <= at_20 else str(at_20)) for t, v in old.points)
    after = tuple((t, str(float(v) - at_20)) for t, v in old.points if float(v) > at_20)
    new = dataclasses.replace(old, labels={**old.labels, "instance": "new"}, points=after)
    day.change_requests(result=(dataclasses.replace(old, points=before), *lines[1:], new))
    assert agreement(day).because == agreement(Day()).because


def test_what_a_pod_may_have_counted_after_its_last_scrape_widens_the_interval() -> None:
    """A pod that leaves in mid-phase takes its last answers with it, scraped by nobody."""
    day = Day()
    lines = day.series["gateway_requests"].result
    at_20 = next(float(v) for t, v in lines[0].points if t > T0 + 20)
    gone = lines[0].points[: [float(v) for _, v in lines[0].points].index(at_20) + 1]
    rest = tuple((t, str(float(v) - at_20)) for t, v in lines[0].points if float(v) > at_20)
    moved = dataclasses.replace(
        lines[0], labels={**lines[0].labels, "instance": "new"}, points=rest
    )
    day.change_requests(result=(dataclasses.replace(lines[0], points=gone), *lines[1:], moved))
    whole, left = agreement(Day()).measured, agreement(day).measured
    assert whole and left and whole.value == pytest.approx(left.value, abs=0.005)
    assert (left.high or 0) - (left.low or 0) > 2 * ((whole.high or 0) - (whole.low or 0))


def test_counts_are_compared_between_the_scrapes_and_not_between_whole_seconds() -> None:
    """The same answers, scraped at another moment of each second, agree as well."""
    day = Day()
    shifted = []
    for line in day.series["gateway_requests"].result:
        steps = [float(b) - float(a) for (_, a), (_, b) in itertools.pairwise(line.points)]
        later = [float(v) + 0.6 * step for (_, v), step in zip(line.points, steps, strict=False)]
        points = tuple((t + 0.6, str(v)) for (t, _), v in zip(line.points, later, strict=False))
        shifted.append(dataclasses.replace(line, points=points))
    finding = agreement(day.change_requests(result=tuple(shifted)))
    assert finding.outcome is Outcome.PASS
    assert finding.measured and finding.measured.low and finding.measured.high
    assert finding.measured.low < 0 < finding.measured.high


@pytest.mark.parametrize("op", ["health", "upload-create", "upload-part", "upload-offset"])
def test_what_is_not_an_operation_of_the_traffic_is_not_counted(op: str) -> None:
    day = Day()
    lines = day.series["gateway_requests"].result
    other = dataclasses.replace(lines[0], labels={**lines[0].labels, "op": op})
    day.change_requests(result=(*lines, other))
    assert agreement(day).because == agreement(Day()).because


def test_what_the_edge_answered_never_reached_a_gateway() -> None:
    day = Day()
    for offset, second in day.seconds.items():
        hits = dataclasses.replace(day.cell("download", "edge-", 400), region="edge", zone="")
        cells = (*second.cells, hits)
        planned = second.planned + hits.n
        day.seconds[offset] = dataclasses.replace(second, cells=cells, planned=planned)
    assert agreement(day).because == agreement(Day()).because
