"""Prometheus and the clients must tell the same; what Prometheus cannot tell is no agreement."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable

import pytest

from harness.evidence.model import Readback, Series, SeriesLine
from harness.plan.model import Agreement
from harness.verdict import Finding, Outcome, judge
from harness.verdict.agreement import (
    BUCKETS,
    Growth,
    View,
    _answered_between,
    _growth,
    _mean,
    _rates_at_edges,
    by_our_clock,
    judge_agreement,
    unusable,
    view,
)
from harness.verdict.case import Case
from harness.verdict.clocks import Offset
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


@pytest.mark.parametrize("lines", [(0,), (0, 1, 2)])
@pytest.mark.parametrize(
    ("scraped_again", "outcome"), [(20.3, Outcome.PASS), (21.3, Outcome.UNKNOWN)]
)
def test_one_scrape_may_be_missed_but_not_two(
    lines: tuple[int, ...], scraped_again: float, outcome: Outcome
) -> None:
    def missed(t: float, v: float) -> str | None:
        return None if 18.5 < t < scraped_again - 0.1 else str(v)

    assert agreement(Day().change_points(missed, lines)).outcome is outcome


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


def test_where_the_rate_changes_at_an_edge_chance_goes_by_what_is_planned_around_it() -> None:
    """Within a second and a scrape interval on either side."""
    edges = View(start_t=T0 + 10.0, end_t=T0 + 39.3)
    assert _rates_at_edges(Case(plan(), Day().evidence()), edges) == (0.0,)
    shaped = plan(("rate: 50/s", "rate: 50/s for 40s, then 100/s"))
    often = Case(shaped, Day().evidence())
    assert _rates_at_edges(often, edges) == pytest.approx((50, (50 * 2.7 + 100 * 1.3) / 4))
    seldom = Case(
        shaped.with_recorded(target_description={"scrape_interval_s": 4}), Day().evidence()
    )
    assert _rates_at_edges(seldom, edges) == pytest.approx((50, (50 * 5.7 + 100 * 4.3) / 10))


# ---- how sure the difference is -----------------------------------------------------------------


def agreed(day: Day, scrape_interval_s: float = 1) -> Finding:
    """The baseline of a target that is scraped so often."""
    by = plan().with_recorded(target_description={"scrape_interval_s": scrape_interval_s})
    (objective,) = (o for o in by.objectives if isinstance(o, Agreement))
    return judge_agreement(Case(by, day.evidence()), objective, "baseline")


def half_width(finding: Finding) -> float:
    measured = finding.measured
    assert measured and measured.value and measured.high and measured.low is not None
    assert measured.high - measured.value == pytest.approx(measured.value - measured.low)
    return measured.high - measured.value


def chance(rate: float, scrape_interval_s: float = 1) -> float:
    """99 % of how much a Poisson count differs that is cut at two edges."""
    return 2.576 * math.sqrt(2 * rate * (1 + scrape_interval_s) / 4)


@pytest.mark.parametrize("interval_s", [1, 4, 15])
def test_the_difference_is_known_as_well_as_scrapes_are_frequent(interval_s: float) -> None:
    # From 0.3 s to 39.3 s: 39 s of 50 answers.
    finding = agreed(scaled(0.99), interval_s)
    assert half_width(finding) == pytest.approx(chance(50, interval_s) / 1950)


def test_arrivals_of_which_nothing_is_recorded_widen_the_difference() -> None:
    day = scaled(0.99)
    day.seconds[20] = dataclasses.replace(day.seconds[20], planned=60)
    assert half_width(agreed(day)) == pytest.approx((chance(50) + 10) / 1950)


def test_a_clock_that_moved_meanwhile_widens_the_difference_by_what_came_in_that_time() -> None:
    day = scaled(0.99)
    for offset, ahead_s in ((-1, 0.1), (20, 0.3)):
        data = {"subject": "clock:prometheus", "value": ahead_s, "uncertainty_s": 0.25}
        day.say("watch/nodes", offset, "sighting", **data)
    assert half_width(agreed(day)) == pytest.approx((chance(50) + 50 * 0.2) / 1950)


def test_what_a_counter_that_ended_may_have_counted_widens_the_difference() -> None:
    gone = scaled(0.99).change_points(lambda t, v: str(v) if t < 30.5 else None, (0,))
    seen = view(Case(plan(), gone.evidence()), "baseline")
    # Half of the downloads, and the uploads, for two and a half scrapes.
    assert seen.unseen == pytest.approx(2.5 * (24 + 2) * 0.99, rel=0.01)
    finding = agreed(gone)
    answered = _answered_between(Case(plan(), gone.evidence()), seen.start_t, seen.end_t)
    assert half_width(finding) == pytest.approx((chance(50) + seen.unseen) / answered)


def test_clients_that_no_gateway_answered_agree_with_nothing() -> None:
    day = Day()
    for offset, second in day.seconds.items():
        cells = tuple(dataclasses.replace(cell, region="") for cell in second.cells)
        day.seconds[offset] = dataclasses.replace(second, cells=cells)
    finding = agreed(day)
    assert (finding.outcome, finding.measured) == (Outcome.UNKNOWN, None)
    assert finding.because == "no client was answered by a gateway"


def test_read_back_while_the_traffic_runs_is_a_client_too() -> None:
    day = Day()
    for name, phase, offset in (
        ("a", "", 5.0),
        ("b", "baseline", 1.9),
        ("c", "baseline", 2.0),
        ("d", "baseline", 9.4),
        ("e", "baseline", 9.5),
    ):
        day.readbacks[name] = Readback(name, "present", "", "", phase, T0 + offset, 3)
    answered = _answered_between(Case(plan(), day.evidence()), T0 + 2.0, T0 + 9.5)
    assert answered == 7.5 * 50 + 3 + 3


# ---- counters ------------------------------------------------------------------------------------

PHASE = range(100, 140)


def counting(*instants: float, per_s: float = 10.0, begun: float = 0.0) -> SeriesLine:
    """A counter that grew evenly since ``begun``, scraped at some instants."""
    points = tuple((t, str((t - begun) * per_s)) for t in instants)
    return SeriesLine({"instance": "gateway"}, points)


def every_second(start: float, stop: float) -> tuple[float, ...]:
    return tuple(start + n for n in range(int(stop - start) + 1))


GROWN: dict[
    str, tuple[tuple[float, ...], tuple[float, float | None, float | None, float] | None]
] = {
    "scraped at both edges": (every_second(98, 142), (400, 100, 140, 0)),
    "within": (every_second(100.5, 139.5), (390, 100.5, 139.5, 0)),
    "a scrape missed": (
        (*every_second(99, 110), *every_second(112.5, 140.5)),
        (395, 100, 139.5, 0),
    ),
    "more missed": ((*every_second(99, 110), *every_second(112.75, 140)), None),
    "first late": ((90, *every_second(102.5, 140)), (370, 102.5, 139.5, 0)),
    "begins late": ((90, *every_second(102.75, 140)), None),
    "second late": ((102, *every_second(104, 140)), (380, 102, 140, 0)),
    "new": (every_second(102.75, 140), (1397.5, None, 139.75, 0)),
    "last early": (every_second(100.5, 137.5), (370, 100.5, 137.5, 0)),
    "ended": (every_second(100.25, 137.25), (370, 100.25, None, 25)),
    "scraped once": ((120,), (1200, None, None, 1200 * 2.5)),
    "long before": (every_second(80, 97), (0, None, None, 0)),
    "just before": ((90, 97.5), None),
    "just after": ((142.5, 150), None),
    "long after": ((142.75, 150), (0, None, None, 0)),
}


@pytest.mark.parametrize("how", GROWN)
def test_a_pods_counters_grow_from_its_first_scrape_in_the_phase_to_its_last(how: str) -> None:
    instants, expected = GROWN[how]
    growth = _growth([counting(*instants)], PHASE, 1.0)
    if expected is None:
        assert growth is None
    else:
        assert growth is not None
        found = (growth.total, growth.start_t, growth.end_t, growth.unseen)
        assert found == pytest.approx(expected)


def test_a_phase_too_short_for_a_scrape_need_not_have_one() -> None:
    around = [counting(98, 106)]
    assert _growth(around, range(100, 105), 2.0) == Growth((), None, None)
    assert _growth(around, range(99, 105), 2.0) is None


def test_a_counter_that_is_not_there_yet_is_at_zero_and_one_that_never_is_grew_by_nothing() -> None:
    always = counting(*every_second(100, 140))
    later = SeriesLine({"code": "500"}, tuple((float(t), str(t - 98)) for t in range(101, 141)))
    before = SeriesLine({"code": "404"}, ((90.0, "7"),))
    growth = _growth([always, later, before], PHASE, 1.0)
    assert growth is not None
    assert [count for _, count in growth.counts] == [400, 42, 0]
    assert growth.sum_where("code", lambda code: code.startswith("5")) == 42
    assert growth.sum_where("code", lambda code: not code) == 400
    holed = SeriesLine({}, tuple((t, "1") for t, _ in always.points if t != 120))
    assert _growth([always, holed], PHASE, 1.0) is None


def answer(*lines: SeriesLine, step_s: float = 1.0, name: str = BUCKETS) -> Series:
    return Series(name, "", step_s, 0, 0, "success", (), None, "", lines)


@pytest.mark.parametrize(
    ("instants", "hole"),
    [
        (range(100, 141), ""),
        ((104, 109, 114, 119, 124, 129, 134, 139), ""),
        ((105, 110, 115, 120, 125, 130, 135), ""),
        ((106, 110, 115, 120, 125, 130, 135), "6"),
        ((105, 110, 115, 120, 126, 130, 135), "6"),
        ((105, 110, 115, 120, 125, 130, 134), "6"),
        # A scrape from before the phase tells of it if it is one interval old at most.
        ((98, 104, 109, 114, 119, 124, 129, 134, 139), "6"),
        ((97.5, 104, 109, 114, 119, 124, 129, 134, 139), ""),
        ((101, 105.5, 110, 115, 120, 125, 130, 135), ""),
    ],
)
def test_an_answer_that_misses_scrapes_says_nothing(instants: Iterable[float], hole: str) -> None:
    found = unusable(answer(counting(*instants), step_s=2.0), "x", PHASE)
    assert found == (f"x: no scrape for {hole} s of the phase" if hole else "")


def test_an_answer_is_moved_to_our_clock_by_the_middle_of_what_it_may_be_ahead() -> None:
    assert by_our_clock(None, Offset(1.0, 3.0)) is None
    series = answer(counting(102, 103))
    assert by_our_clock(series, Offset(-1.0, 1.0)) is series
    moved = by_our_clock(series, Offset(1.0, 3.0))
    assert moved is not None and [t for t, _ in moved.result[0].points] == [100, 101]


def test_the_mean_of_instants_is_by_weight_and_of_those_known() -> None:
    assert _mean([(10.0, 1), (20.0, 3), (None, 5), (90.0, 0)], 7.0) == 17.5
    assert _mean([(90.0, 0), (None, 5)], 7.0) == 7.0


def test_an_error_rate_is_known_only_of_what_was_counted() -> None:
    assert View(requests=8, errors=2).error_rate == 0.25
    assert View(requests=8, errors=2, why_not="partial").error_rate is None
    assert View().error_rate is None


# ---- latency as the gateways saw it --------------------------------------------------------------


def below(*lines: tuple[str, str, str, float], **changes: object) -> tuple[float, float] | None:
    """Within 200 ms by histograms that grew so: (instance, operation, le, answers a second)."""
    buckets = [
        SeriesLine(
            {"instance": instance, "op": op, "le": le},
            tuple((T0 + t + 0.3, str(t * per_s)) for t in range(41)),
        )
        for instance, op, le, per_s in lines
    ]
    day = Day()
    day.series[BUCKETS] = dataclasses.replace(answer(*buckets), **changes)  # type: ignore[arg-type]
    return view(Case(plan(), day.evidence()), "baseline").below_200ms


def test_the_gateways_histograms_are_added_up_over_gateways_and_operations() -> None:
    assert below(("a", "download", "0.2", 6), ("a", "download", "+Inf", 8)) == (0.75, 0.75)
    both = (("a", "download", "0.2", 6), ("a", "download", "+Inf", 8), ("a", "upload", "+Inf", 2))
    assert below(*both) == (0.6, 0.6)
    assert below(*both, ("b", "download", "0.200", 1), ("b", "download", "+Inf", 4)) == (0.5, 0.5)
    assert below(*both, ("a", "health", "0.2", 90), ("a", "health", "+Inf", 90)) == (0.6, 0.6)
    assert below(*both, ("a", "download", "0.1", 5)) == (0.6, 0.6)
    assert below(("a", "download", "0.2", 9), ("a", "download", "+Inf", 8)) == (1.0, 1.0)
    assert below(("a", "download", "+Inf", 8)) == (0.0, 0.0)


def test_a_histogram_that_tells_nothing_is_none() -> None:
    both = (("a", "download", "0.2", 6), ("a", "download", "+Inf", 8))
    assert below() is None
    assert below(*both, status="error") is None
    assert below(("a", "download", "0.2", 6)) is None
    assert below(("a", "download", "0.2", 0), ("a", "download", "+Inf", 0)) is None
    assert below(*both, ("b", "download", "+Inf", float("nan"))) is None
    assert view(Case(plan(), Day().evidence()), "baseline").below_200ms is None
    one = below(("a", "download", "0.2", 1 / 39), ("a", "download", "+Inf", 1 / 39))
    assert one is not None and one == pytest.approx((1, 1))
