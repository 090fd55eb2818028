"""Objectives of one operation, error budgets and burn rates, counted by hand on the small day."""

from __future__ import annotations

import dataclasses

import pytest

from harness.plan.model import Plan
from harness.verdict import Finding, Outcome, judge
from tests.verdict.build import Day, plan

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
