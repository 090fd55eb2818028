"""Arrivals added up: what is known of them, and how far what is not known may move a share."""

from __future__ import annotations

import pytest

from harness.evidence import histogram
from harness.evidence.model import TallyCell, TallySecond, WorkerTally
from harness.verdict.counts import BySecond, Counts, Share, add


def cell(
    outcome: str,
    n: int,
    error: str = "",
    *,
    op: str = "download",
    zone: str = "a",
    ms: float = 0,
    below: dict[str, int] | None = None,
) -> TallyCell:
    latency = {histogram.index_of(ms * 1e3): n} if ms else {}
    return TallyCell(op, "", zone, outcome, error, n, 0, latency, {}, below or {})


#: One of each: 50 answered well, 20 of 100 of which nothing is recorded or nobody was asked.
MIXED = add(
    (
        cell("ok", 50),
        cell("degraded", 2, "stale"),
        cell("failed", 7, "500"),
        cell("unsure", 3, "timeout"),
        cell("not_sent", 8, "generator-late"),
        cell("not_sent", 4, "worker-lost"),
        cell("not_sent", 1, "worker-left"),
        cell("not_sent", 18, "no-slot"),
    ),
    100,
)
NOTHING = add((), 0)


def test_every_arrival_is_one_of_a_kind_or_of_none() -> None:
    assert (MIXED.ok, MIXED.degraded, MIXED.failed, MIXED.unsure) == (50, 2, 7, 3)
    assert (MIXED.sent, MIXED.not_sent, MIXED.accounted, MIXED.unaccounted) == (62, 31, 93, 7)
    assert MIXED.either_way == 7 + 8 + 4 + 1


def test_what_may_have_gone_either_way_makes_a_share_an_interval() -> None:
    assert MIXED.availability() == Share(0.5, 0.7)
    assert MIXED.of_planned(90) == Share(0.9, 1.0)
    assert MIXED.error_rate() == pytest.approx((10 / 69, 17 / 69))
    whole = add((cell("ok", 3), cell("failed", 1, "500")), 4)
    assert (whole.availability(), whole.error_rate()) == (Share(0.75, 0.75), Share(0.25, 0.25))


def test_more_outcomes_than_were_planned_are_shares_of_the_outcomes() -> None:
    more = add((cell("ok", 30), cell("failed", 10)), 20)
    assert (more.unaccounted, more.either_way) == (0, 0)
    assert more.availability() == Share(0.75, 0.75)
    assert more.within(0.2) == Share(0.0, 0.75)
    assert add((cell("ok", 1),), 0).availability() == Share(1.0, 1.0)


def test_one_arrival_of_which_nothing_is_recorded_may_have_gone_either_way() -> None:
    one = add((), 1)
    assert (one.availability(), one.error_rate()) == (Share(0.0, 1.0), Share(0.0, 1.0))
    assert (one.within(0.2), one.quantile_s(0.5)) == (Share(0.0, 1.0), None)


@pytest.mark.parametrize("counts", [NOTHING, add((), 0).of(["upload"])])
def test_without_arrivals_there_is_no_share(counts: Counts) -> None:
    assert counts.availability() is None
    assert counts.error_rate() is None
    assert counts.within(0.2) is None
    assert counts.good(0.2) is None
    assert counts.quantile_s(0.5) is None


def test_where_nothing_was_sent_there_is_no_error_rate_but_no_availability_either() -> None:
    idle = add((cell("not_sent", 5, "no-slot"),), 5)
    assert (idle.error_rate(), idle.availability()) == (None, Share(0.0, 0.0))


# ---- some operations, and degraded answers -----------------------------------------------------


def test_what_is_not_recorded_may_have_been_of_any_operation() -> None:
    both = add((cell("ok", 6), cell("ok", 3, op="upload"), cell("failed", 1, op="upload")), 12)
    uploads = both.of(["upload"])
    assert (uploads.ok, uploads.failed, uploads.planned, uploads.unaccounted) == (3, 1, 6, 2)
    assert both.of(["delete"]).availability() == Share(0.0, 1.0)
    assert both.of([]) is both
    assert both.of(["download", "upload"]).availability() == both.availability()


def test_a_degraded_answer_is_as_good_as_any_only_where_it_counts() -> None:
    assert MIXED.with_degraded(False) is MIXED
    assert MIXED.with_degraded() == MIXED.with_degraded(True)
    counted = MIXED.with_degraded()
    assert (counted.ok, counted.degraded, counted.sent) == (52, 0, 62)
    assert [c.n for c in counted.ok_cells()] == [50, 2]
    assert [c.n for c in MIXED.ok_cells()] == [50]
    assert counted.errors() == {"no-slot": 18, "generator-late": 8, "500": 7, "worker-lost": 4} | {
        "timeout": 3,
        "worker-left": 1,
    }
    none = add((cell("ok", 1),), 1)
    assert none.with_degraded() is none


def test_what_was_wrong_is_told_the_commonest_first_and_nothing_of_degraded_answers() -> None:
    assert list(MIXED.errors().items()) == [
        ("no-slot", 18),
        ("generator-late", 8),
        ("500", 7),
        ("worker-lost", 4),
        ("timeout", 3),
        ("worker-left", 1),
    ]


def test_counts_by_a_key_are_of_one_outcome_or_of_all_and_equal_ones_by_name() -> None:
    counts = add(
        (
            cell("ok", 2, zone="b"),
            cell("ok", 2, zone="a"),
            cell("ok", 1, zone="c"),
            cell("failed", 4, zone="c"),
            cell("ok", 1, zone="c"),
        ),
        10,
    )
    assert list(counts.by(lambda c: c.zone).items()) == [("c", 6), ("a", 2), ("b", 2)]
    assert list(counts.by(lambda c: c.zone, "ok").items()) == [("a", 2), ("b", 2), ("c", 2)]


# ---- latency -----------------------------------------------------------------------------------


def test_what_succeeded_within_a_threshold_is_counted_exactly_where_it_was() -> None:
    told = {"0.1": 3, "0.2": 7, "0.25": 8}
    counts = add((cell("ok", 9, ms=150, below=told), cell("failed", 1, below={"0.2": 1})), 10)
    assert counts.within(0.2) == Share(0.7, 0.7)
    assert counts.within(0.25) == Share(0.8, 0.8)
    assert (counts.good(0.2), counts.good(0.0)) == (Share(0.7, 0.7), Share(0.9, 0.9))


def test_thresholds_are_the_same_number_and_not_the_same_text() -> None:
    told = {"none": 1, "0.2": 7, "0.20": 8}
    assert add((cell("ok", 10, below=told),), 10).within(0.2) == Share(0.7, 0.7)
    assert add((cell("ok", 10, below={"2e-1": 6}),), 10).within(0.2) == Share(0.6, 0.6)
    # A little further apart it is another one: of this nothing was counted.
    assert add((cell("ok", 10, below={"0.2000000015": 6}),), 10).within(0.2) == Share(0.0, 1.0)


def test_elsewhere_the_bucket_that_a_threshold_cuts_through_may_lie_on_either_side() -> None:
    at = histogram.bounds_us(histogram.index_of(200e3))
    counts = add((cell("ok", 6, ms=200), cell("ok", 2, ms=1), cell("failed", 1)), 10)
    for at_us, share in (
        (at.low - 0.1, Share(0.2, 0.3)),
        (at.low + 0.1, Share(0.2, 0.9)),
        (at.high - 0.1, Share(0.2, 0.9)),
        (at.high + 0.1, Share(0.8, 0.9)),
    ):
        assert counts.within(at_us / 1e6) == share, at_us


def test_a_success_whose_latency_nobody_wrote_down_may_have_been_in_time_or_not() -> None:
    counts = add((cell("ok", 4), cell("ok", 5, below={"0.2": 5}), cell("ok", 1, ms=1)), 10)
    assert counts.within(0.2) == Share(0.6, 1.0)


def bucket_of(ms: float) -> Share:
    at = histogram.bounds_us(histogram.index_of(ms * 1e3))
    return Share(at.low / 1e6, at.high / 1e6)


def test_a_quantile_is_of_the_planned_arrivals_and_what_did_not_succeed_is_slowest() -> None:
    counts = add((cell("ok", 5, ms=10), cell("ok", 4, ms=100), cell("failed", 1, "500")), 10)
    for q, ms in ((0.0, 10), (0.5, 10), (0.51, 100), (0.9, 100)):
        assert counts.quantile_s(q) == bucket_of(ms), q
    assert counts.quantile_s(0.91) is None
    assert add((cell("failed", 9, ms=10),), 9).quantile_s(0.0) is None
    assert add((cell("ok", 1, ms=10),), 1).quantile_s(0.95) == bucket_of(10)


def test_a_quantile_is_of_all_that_is_recorded_where_that_is_more_than_was_planned() -> None:
    more = add((cell("ok", 5, ms=10), cell("failed", 5, "500")), 5)
    assert more.quantile_s(0.5) == bucket_of(10)
    assert more.quantile_s(0.6) is None
    fewer = add((cell("ok", 5, ms=10),), 10)
    assert fewer.quantile_s(0.5) == bucket_of(10)
    assert fewer.quantile_s(0.6) is None


# ---- seconds -----------------------------------------------------------------------------------


def worker(name: str, *seconds: TallySecond) -> WorkerTally:
    return WorkerTally(name, {}, seconds, (), None)


def by_second() -> BySecond:
    good, bad = (cell("ok", 5),), (cell("failed", 4, "500"),)
    w0 = worker("w0", TallySecond(12, 5, good), TallySecond(10, 3, (cell("ok", 2),)))
    return BySecond([w0, worker("w1", TallySecond(10, 4, bad), TallySecond(14, 1, ()))])


def test_what_workers_counted_in_a_second_is_added_up() -> None:
    counted = by_second()
    assert counted.seconds() == [10, 12, 14]
    at = counted.at(10)
    assert (at.planned, at.ok, at.failed, at.unaccounted) == (7, 2, 4, 1)
    assert counted.at(14).planned == 1
    assert counted.at(11) == NOTHING


@pytest.mark.parametrize(
    ("seconds", "planned", "ok"),
    [
        (range(10, 13), 12, 7),
        (range(10, 12), 7, 2),
        (range(11, 12), 0, 0),
        ([12, 14], 6, 5),
        (range(15), 13, 7),
        (range(14), 12, 7),
        (range(11, 2**50), 6, 5),
        (range(0), 0, 0),
    ],
)
def test_seconds_are_added_up_of_however_many_nothing_is_recorded(
    seconds: range | list[int], planned: int, ok: int
) -> None:
    over = by_second().over(seconds)
    assert (over.planned, over.ok) == (planned, ok)
