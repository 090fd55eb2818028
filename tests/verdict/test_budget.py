"""Objectives of one operation, error budgets and burn rates, counted by hand on the small day."""

from __future__ import annotations

import dataclasses
import math

import pytest

from harness.plan.model import BurnRate, ErrorBudget, Plan
from harness.verdict import Finding, Outcome, judge
from harness.verdict.budget import judge_burn_rate, judge_error_budget
from harness.verdict.case import Case
from tests.verdict.build import A, Day, plan

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
_END = "    in: [baseline]\n"


def planned(*entries: str) -> Plan:
    """The small day's plan with more objectives at its end."""
    text = "".join(f"  - {entry}\n" for entry in entries)
    return plan(
        (
            "  - agreement: client and Prometheus within 2 %\n" + _END,
            "  - agreement: client and Prometheus within 2 %\n" + _END + text,
        )
    )


def found(day: Day, entry: str) -> Finding:
    """What the last objective, ``entry``, is found to be."""
    with_it = planned(entry)
    text = with_it.objectives[-1].text
    (finding,) = [f for f in judge(with_it, day.evidence()).findings if f.objective == text]
    return finding


def failing(day: Day, op: str, n: int, offsets: range) -> Day:
    """``n`` arrivals of ``op`` a second fail."""
    for offset in offsets:
        second = day.seconds[offset]
        cells = []
        for cell in second.cells:
            take = min(n, cell.n) if cell.op == op else 0
            cells.append(day.cell(cell.op, cell.zone, cell.n - take))
            cells.append(day.cell(cell.op, "", take, error="500"))
        day.seconds[offset] = dataclasses.replace(
            second, cells=tuple(cell for cell in cells if cell.n)
        )
    return day


def losing(day: Day, op: str, offsets: range) -> Day:
    """Of the arrivals of ``op`` nothing is recorded."""
    for offset in offsets:
        second = day.seconds[offset]
        kept = tuple(cell for cell in second.cells if cell.op != op)
        day.seconds[offset] = dataclasses.replace(second, cells=kept)
    return day


def emptied(day: Day, offsets: range) -> Day:
    """In these seconds nothing was planned and nothing sent."""
    for offset in offsets:
        day.seconds[offset] = dataclasses.replace(day.seconds[offset], planned=0, cells=())
    return day


# ---- one operation -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wording", "upload", "download"),
    [
        ("availability: at least 99 %", FAIL, PASS),
        ("error rate: below 1 %", FAIL, PASS),
        ("latency: p95 below 200ms", FAIL, PASS),
        ("throughput: at least 95 % of planned", FAIL, PASS),
        ("throughput: at least 2/s", FAIL, PASS),
        ("http_req_failed: rate<0.01", FAIL, PASS),
        ("checks: rate>0.99", FAIL, PASS),
    ],
)
def test_what_one_operation_suffers_another_does_not(
    wording: str, upload: Outcome, download: Outcome
) -> None:
    # 5 of 80 uploads and no download: of all arrivals together 0.25 %.
    day = failing(Day(), "upload", 1, range(4, 9))
    for op, outcome in (("upload", upload), ("download", download)):
        finding = found(day, f"{{{wording}, for: {op}, in: [baseline]}}")
        assert finding.outcome is outcome, (op, finding)
        assert f"for {op}" in finding.objective


def test_an_operation_that_is_not_named_does_not_count() -> None:
    day = failing(Day(), "upload", 1, range(4, 8))
    entry = "{availability: at least 99 %, for: [download, upload], in: [baseline]}"
    assert found(day, entry).because.startswith("1996 of 2000")


def test_what_is_not_known_may_have_been_of_any_operation() -> None:
    day = losing(Day(), "download", range(4, 5))
    finding = found(day, "{availability: at least 99 %, for: upload, in: [baseline]}")
    assert finding.outcome is UNKNOWN
    assert finding.measured is not None
    assert (finding.measured.low, finding.measured.high) == (80 / 128, 1.0)


def test_an_operation_of_which_nothing_was_sent_is_unknown() -> None:
    day = Day()
    for offset, second in day.seconds.items():
        cells = [dataclasses.replace(cell, op="download") for cell in second.cells]
        day.seconds[offset] = dataclasses.replace(second, cells=tuple(cells))
    finding = found(day, "{availability: at least 99 %, for: upload, in: [baseline]}")
    assert (finding.outcome, finding.because) == (UNKNOWN, "no arrivals")


# ---- error budget --------------------------------------------------------------------------------


def budget(
    day: Day, spent: str, more: str = "slo: 99.9 %, period: 30d", where: str = "all"
) -> Finding:
    return found(day, f"{{error budget: at most {spent} spent, {more}, in: {where}}}")


def test_a_budget_is_spent_by_burn_rate_times_length_over_period() -> None:
    # 25 of 50 fail for 2 s and all for 3 s: 4 s of total failure, of 2592 s; and half of the
    # uploads' share (1 of 50) goes wrong with the first: 2 s × 24/50 + uploads.
    finding = budget(Day(), "0.16 %")
    assert finding.measured is not None
    bad = 2 * 24 + 3 * 50
    assert finding.measured.high == pytest.approx(bad / 50 / 2592)
    assert (finding.outcome, finding.phase) == (PASS, "all")
    assert "most of it in fault:region: 3.00 s" in finding.because
    assert budget(Day(), "0.15 %").outcome is FAIL
    assert budget(Day(), "0.16 %", "slo: 99.9 %, period: 1d").outcome is FAIL
    assert budget(Day(), "0.01 %", where="[baseline]").outcome is PASS
    assert budget(Day(), "0.01 %", where="[baseline]").phase == "baseline"
    two = budget(Day(), "0.01 %", where="[baseline, cool-down]")
    assert (two.outcome, two.required[-32:]) == (PASS, " in baseline, cool-down together")


def test_slow_is_bad_where_the_slo_says_within() -> None:
    slow = Day(latency_s=0.3)
    assert budget(slow, "4 %", "slo: 99.9 % within 200ms, period: 30d").outcome is FAIL
    assert budget(slow, "4 %", "slo: 99.9 % within 400ms, period: 30d").outcome is PASS


def test_a_budget_of_which_not_all_is_known_is_unknown() -> None:
    day = losing(Day(), "download", range(4, 6))
    finding = budget(day, "0.16 %")
    assert finding.outcome is UNKNOWN
    assert finding.measured is not None
    assert finding.measured.low == pytest.approx((2 * 24 + 3 * 50) / 50 / 2592)


def test_a_budget_over_a_phase_that_did_not_run_is_unknown() -> None:
    day = Day().without(lambda e: e.kind == "phase.end" and e.data.get("phase") == "cool-down")
    finding = budget(day, "5 %")
    assert (finding.outcome, finding.because) == (UNKNOWN, "no arrivals in cool-down")


def budgeted(day: Day, where: str) -> Finding:
    with_it = planned(f"{{error budget: at most 1 % spent, slo: 99.9 %, period: 30d, in: {where}}}")
    objective = with_it.objectives[-1]
    assert isinstance(objective, ErrorBudget)
    return judge_error_budget(Case(with_it, day.evidence()), objective, "all")


def test_a_budget_over_a_phase_in_which_nothing_was_planned_is_unknown() -> None:
    day = emptied(Day(), range(116, 126))
    finding = budgeted(day, "[baseline, cool-down]")
    assert (finding.outcome, finding.because) == (UNKNOWN, "no arrivals in cool-down")


@pytest.mark.parametrize(
    ("where", "outage", "most"),
    [
        ("[baseline, cool-down]", range(0), ""),
        ("[baseline]", range(4, 6), ""),
        ("[baseline, cool-down]", range(4, 6), "; most of it in baseline: 0.40 s"),
        ("[baseline, cool-down]", range(120, 121), "; most of it in cool-down: 0.20 s"),
    ],
)
def test_a_budget_says_where_most_of_it_went_if_it_went_anywhere(
    where: str, outage: range, most: str
) -> None:
    day = failing(Day(), "download", 5, outage)  # of each zone
    finding = budgeted(day, where)
    wrong = 0.2 * len(outage)
    assert finding.because == (
        f"as much went wrong as in {wrong:.2f} s of total failure, of 2592 s that 0.999 leaves in "
        f"30 d at this traffic{most}"
    )
    assert finding.measured and finding.measured.high == pytest.approx(wrong / 2592)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("all", ""),
        ("[baseline, cool-down]", " in baseline, cool-down together"),
    ],
)
def test_a_budget_says_of_which_phases_it_is(where: str, said: str) -> None:
    assert budgeted(Day(), where).required == f"≤ 1.00% of the budget of 30 d{said}"


def test_a_budget_of_one_phase_is_judged_there_and_need_not_say_so() -> None:
    finding = budget(Day(), "1 %", where="[baseline]")
    assert finding.required == "≤ 1.00% of the budget of 30 d"


# ---- burn rate -----------------------------------------------------------------------------------


def burn(day: Day, wording: str, where: str = "all", more: str = "") -> dict[str, Finding]:
    with_it = planned(f"{{burn rate: {wording}, slo: 99 %, in: {where}{more}}}")
    text = with_it.objectives[-1].text
    verdict = judge(with_it, day.evidence())
    return {f.phase: f for f in verdict.findings if f.objective == text}


def test_a_burn_is_the_slower_of_its_windows_at_its_fastest_second() -> None:
    # In fault:region 3 s fail wholly; within the 10 s before its end that is 0.3 of 0.01.
    finding = burn(Day(), "below 31 over 10s and 2s", '["fault:region"]')["fault:region"]
    assert finding.measured is not None
    assert finding.outcome is PASS
    assert finding.measured.high == pytest.approx(30)
    assert "fastest 4 s into the phase" in finding.because
    assert (
        burn(Day(), "below 30 over 10s and 2s", '["fault:region"]')["fault:region"].outcome is FAIL
    )
    # The short window alone burns a hundred times as fast.
    alone = burn(Day(), "below 31 over 2s", '["fault:region"]')["fault:region"]
    assert (alone.outcome, alone.measured and alone.measured.high) == (FAIL, pytest.approx(100))


def test_a_burn_long_over_is_not_confirmed_by_the_short_window() -> None:
    found_in = burn(Day(), "below 9.9 over 30s and 2s")
    # Ten seconds into the recovery the 30 s still hold the outage; the last 2 s do not.
    assert found_in["recovery:region"].outcome is PASS
    assert (
        burn(Day(), "below 9.9 over 30s", '["recovery:region"]')["recovery:region"].outcome is FAIL
    )
    assert found_in["baseline"].outcome is PASS


def test_a_window_that_reaches_beyond_the_run_is_bounded_not_guessed() -> None:
    day = failing(Day(), "download", 10, range(4, 6))
    # 20 of 50 a second for 2 s; 60 s before, of which 54 are not seen: 0.2/60… to nearly all.
    finding = burn(day, "below 5 over 60s and 2s", "[baseline]")["baseline"]
    assert finding.outcome is UNKNOWN
    assert "perhaps" in finding.because
    # The same in the short window alone is known.
    assert burn(day, "below 41 over 2s", "[baseline]")["baseline"].outcome is PASS
    # A total outage of 9 of 60 s is a failure whatever came before.
    out = Day(outage=range(4, 13))
    assert burn(out, "below 14.4 over 60s and 5s", "[baseline]")["baseline"].outcome is FAIL


def test_a_phase_shorter_than_every_window_is_unknown_and_says_what_is_missing() -> None:
    finding = burn(Day(), "below 14.4 over 1h and 5m", "[baseline]")["baseline"]
    assert finding.outcome is UNKNOWN
    assert "300 s of traffic are needed to tell, there were 40 s" in finding.because


def test_seconds_in_which_nothing_was_sent_are_not_good_ones() -> None:
    day = Day()
    for offset in range(20, 24):
        day.seconds[offset] = dataclasses.replace(day.seconds[offset], planned=0, cells=())
    finding = burn(day, "below 14.4 over 10s and 2s", "[baseline]")["baseline"]
    assert finding.outcome is PASS  # the ten seconds before the hole bound it
    finding = burn(day, "below 14.4 over 2s", "[baseline]")["baseline"]
    assert finding.outcome is UNKNOWN
    assert "nothing was sent" in finding.because


def test_an_operation_burns_its_own_budget() -> None:
    day = failing(Day(), "upload", 1, range(10, 12))
    uploads = burn(day, "below 14.4 over 10s and 2s", "[baseline]", ", for: upload")["baseline"]
    everything = burn(day, "below 14.4 over 10s and 2s", "[baseline]")["baseline"]
    # 2 of the 20 uploads of 10 s, and of all arrivals 2 of 500.
    assert uploads.measured and uploads.measured.high == pytest.approx(10)
    assert everything.measured and everything.measured.high == pytest.approx(0.4)
    assert (uploads.outcome, everything.outcome) == (PASS, PASS)


def burnt(day: Day, wording: str, phase: str = "baseline", more: str = "") -> Finding:
    with_it = planned(f"{{burn rate: {wording}, slo: 99 %, in: all{more}}}")
    objective = with_it.objectives[-1]
    assert isinstance(objective, BurnRate)
    return judge_burn_rate(Case(with_it, day.evidence()), objective, phase)


def times(finding: Finding) -> tuple[float, float]:
    assert finding.measured and finding.measured.low is not None
    assert finding.measured.high is not None and finding.measured.value == finding.measured.high
    return finding.measured.low, finding.measured.high


def test_the_first_seconds_of_the_traffic_are_the_first_that_burn() -> None:
    assert times(burnt(Day(outage=range(1)), "below 51 over 2s")) == pytest.approx((50, 50))


def test_a_second_weighs_as_many_arrivals_as_were_planned_in_it() -> None:
    day = Day()
    for offset, n in ((10, 18), (11, 98)):
        second = day.seconds[offset]
        cells = (day.cell("download", A, n), day.cell("upload", "", 2))
        day.seconds[offset] = dataclasses.replace(second, planned=n + 2, cells=cells)
    assert times(burnt(day, "below 9 over 2s")) == pytest.approx((100 * 4 / 120,) * 2)


def test_arrivals_of_which_nothing_is_recorded_are_bad_at_worst_and_good_at_best() -> None:
    day = failing(Day(), "upload", 1, range(5, 6))
    day.seconds[5] = dataclasses.replace(day.seconds[5], cells=day.seconds[5].cells[1:])
    # Of the 50 of one second 24 downloads are not recorded and an upload failed.
    finding = burnt(day, "below 9 over 2s")
    assert times(finding) == pytest.approx((1, 25))
    assert (finding.outcome, finding.because) == (
        UNKNOWN,
        "the budget of 0.99 burnt 1 times as fast as it lasts, perhaps 25 times; "
        "fastest 6 s into the phase",
    )


def test_what_of_a_window_lies_before_the_traffic_is_good_at_best_and_bad_at_worst() -> None:
    # The last 2 of 40 s fail: of 50 s these at least, and at most the 10 that are not seen too.
    day = Day(outage=range(38, 40))
    assert times(burnt(day, "below 30 over 50s and 2s")) == pytest.approx((4, 24))
    assert times(burnt(day, "below 30 over 40s and 2s")) == pytest.approx((5, 5))


@pytest.mark.parametrize(
    ("wording", "outcome", "short"),
    [
        ("below 14.4 over 300s and 2s", UNKNOWN, "; the run is 174 s shorter than the longest"),
        ("below 14.4 over 127s and 2s", UNKNOWN, "; the run is 1 s shorter than the longest"),
        ("below 14.4 over 126s and 2s", UNKNOWN, ""),
        ("below 14.4 over 100s and 2s", UNKNOWN, ""),
        ("below 101 over 300s and 2s", PASS, ""),
        ("below 0.1 over 300s and 2s", FAIL, ""),
    ],
)
def test_a_burn_that_is_unknown_says_by_how_much_the_run_was_too_short(
    wording: str, outcome: Outcome, short: str
) -> None:
    finding = burnt(Day(outage=range(4, 6)), wording)
    assert finding.outcome is outcome
    assert ("; the run is" in finding.because) == bool(short)
    assert short in finding.because


def test_where_nothing_went_wrong_nothing_was_fastest() -> None:
    finding = burnt(Day(), "below 1 over 2s")
    assert (finding.outcome, times(finding)) == (PASS, (0, 0))
    assert finding.because == "the budget of 0.99 burnt 0 times as fast as it lasts"
    some = burnt(failing(Day(), "upload", 1, range(10, 11)), "below 1 over 4s")
    assert times(some) == pytest.approx((0.5, 0.5))
    assert some.because == (
        "the budget of 0.99 burnt 0.5 times as fast as it lasts; fastest 11 s into the phase"
    )


def test_a_hole_in_the_traffic_burnt_nothing_for_sure() -> None:
    finding = burnt(emptied(Day(), range(20, 24)), "below 1 over 2s")
    assert (finding.outcome, times(finding)) == (UNKNOWN, (0, math.inf))
    assert finding.because == (
        "the budget of 0.99 burnt 0 times as fast as it lasts, perhaps any number of times: "
        "for a whole window nothing was sent; fastest 22 s into the phase"
    )


@pytest.mark.parametrize(
    ("phase", "there_were"), [("baseline", 0), ("cool-down", 0), ("never planned", 0)]
)
def test_without_any_traffic_no_burn_is_known(phase: str, there_were: int) -> None:
    day = Day()
    day.seconds = {}
    finding = burnt(day, "below 9 over 2s", phase)
    assert (finding.outcome, finding.measured) == (UNKNOWN, None)
    assert finding.because == f"2 s of traffic are needed to tell, there were {there_were} s"


def test_a_phase_that_did_not_run_burnt_an_unknown_amount() -> None:
    day = Day().without(lambda e: e.kind == "phase.end" and e.data.get("phase") == "cool-down")
    finding = burnt(day, "below 9 over 2s", "cool-down")
    assert (finding.outcome, finding.measured) == (UNKNOWN, None)


# ---- burn rate of a rare operation


def uploads_only(offsets: range) -> Day:
    """Elsewhere downloads are all there is."""
    day = Day()
    for offset, second in day.seconds.items():
        if offset not in offsets:
            cells = tuple(dataclasses.replace(cell, op="download") for cell in second.cells)
            day.seconds[offset] = dataclasses.replace(second, cells=cells)
    return day


def test_a_window_without_any_of_a_rare_operation_burns_nothing_of_its_budget() -> None:
    day = failing(uploads_only(range(10, 11)), "upload", 1, range(10, 11))
    finding = burnt(day, "below 51 over 3s and 2s", more=", for: upload")
    assert finding.outcome is PASS
    assert times(finding) == pytest.approx((50, 50))
    good = burnt(uploads_only(range(10, 11)), "below 1 over 3s and 2s", more=", for: upload")
    assert (good.outcome, times(good)) == (PASS, (0, 0))


def test_one_arrival_of_a_rare_operation_may_burn_all_of_its_budget() -> None:
    day = uploads_only(range(10, 11))
    cells = (day.cell("download", A, 49), day.cell("upload", "", 1))
    day.seconds[10] = dataclasses.replace(day.seconds[10], cells=cells)
    assert times(burnt(day, "below 9 over 2s", more=", for: upload")) == pytest.approx((100, 100))


@pytest.mark.parametrize(
    ("sent_at", "outcome"), [(37, UNKNOWN), (38, PASS), (44, PASS), (45, UNKNOWN)]
)
def test_an_operation_that_no_window_of_the_phase_holds_is_unknown(
    sent_at: int, outcome: Outcome
) -> None:
    day = uploads_only(range(sent_at, sent_at + 1))
    finding = burnt(day, "below 9 over 3s and 2s", "fault:pod", ", for: upload")
    assert finding.outcome is outcome
    if outcome is UNKNOWN:
        assert (finding.measured, finding.because) == (None, "no arrivals")
