"""MTTR and MTBF: from what was before the run, as intervals; unknown when that is too little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from harness.evidence.model import Series, SeriesLine
from harness.plan.model import Plan
from harness.verdict import Finding, Outcome, judge
from tests.verdict.build import T0, Day, plan

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
HOUR, DAY, STEP = 3600.0, 86_400.0, 60.0
OVER = 30 * DAY
_LAST = "  - agreement: client and Prometheus within 2 %\n    in: [baseline]\n"


def planned(entry: str) -> Plan:
    return plan((_LAST, f"{_LAST}  - {entry}\n"))


def earlier(
    *repairs: tuple[float, float | None], complete: bool = True, **changes: Any
) -> Mapping[str, Any]:
    """A run of before, as plan.json remembers it."""
    found = [{"fault": "zone", "low_s": low, "high_s": high} for low, high in repairs]
    return {
        "complete": complete, "repairs": found, "watched_s": 3600, "failures": 0,
        "started_t": T0 - 9 * OVER, "ended_t": T0 - 9 * OVER + 60, **changes,
    }  # fmt: skip


def found(
    entry: str, runs: Sequence[Mapping[str, Any]] = (), series: Series | None = None
) -> Finding:
    with_it = planned(entry).with_recorded(history={"runs": list(runs)})
    day = Day()
    objective = with_it.objectives[-1]
    if series is not None:
        day.series[objective.series_name] = series  # type: ignore[union-attr]
    findings = judge(with_it, day.evidence()).findings
    (finding,) = [f for f in findings if f.objective == objective.text]
    assert finding.phase == "all"
    return finding


# ---- from earlier game days ---------------------------------------------------------------------


def test_the_mean_of_a_few_repairs_has_an_exponential_interval() -> None:
    runs = [earlier((9, 10), (19, 20)), earlier((29, 30), (39, 40))]
    finding = found("mttr: below 15m", runs)
    assert finding.outcome is PASS
    assert finding.measured is not None
    # χ² with 8 degrees of freedom: 2.732637 and 15.507313.
    assert finding.measured.value == 25
    assert finding.measured.low == pytest.approx(2 * 96 / 15.507313, rel=1e-5)
    assert finding.measured.high == pytest.approx(2 * 100 / 2.732637, rel=1e-5)
    assert "4 repairs in 2 earlier game days" in finding.because
    assert found("mttr: below 10s", runs).outcome is FAIL
    unsure = found("mttr: below 30s", runs)
    assert unsure.outcome is UNKNOWN
    assert "about 87 more like these are needed to tell" in unsure.because
    close = found("mttr: below 25100ms", runs)
    assert "more than 10000 more like these are needed to tell" in close.because


def test_a_repair_that_did_not_end_lengthens_the_mean() -> None:
    whole = [earlier((10, 10)), earlier((10, 10))]
    open_ = [earlier((10, 10)), earlier((600, None))]
    assert found("mttr: below 3m", whole).outcome is PASS
    finding = found("mttr: below 3m", open_)
    assert finding.outcome is UNKNOWN
    assert "1 more not over when watching ended" in finding.because
    never = [earlier((600, None)), earlier((600, None))]
    finding = found("mttr: below 3m", never)
    assert finding.measured is not None
    assert (finding.outcome, finding.measured.value, finding.measured.high) == (FAIL, None, None)


@pytest.mark.parametrize("entry", ["mttr: below 15m", "mtbf: above 1h"])
def test_never_by_a_single_run_nor_by_runs_that_left_evidence_out(entry: str) -> None:
    for runs, missing in (
        ([], 2),
        ([earlier((1, 1), (1, 1), (1, 1))], 1),
        ([earlier((1, 1)), earlier((1, 1), complete=False)], 1),
    ):
        finding = found(entry, runs)
        assert finding.outcome is UNKNOWN
        assert f"{missing} more are needed at least" in finding.because
    assert "(1 more left evidence out)" in finding.because


def test_days_without_a_failure_say_nothing_of_repairs() -> None:
    finding = found("mttr: below 15m", [earlier(), earlier()])
    assert finding.outcome is UNKNOWN
    assert "no failure was repaired" in finding.because


def test_hours_of_game_days_do_not_show_a_month_between_failures() -> None:
    runs = [earlier(), earlier()]
    finding = found("mtbf: above 720h", runs)
    assert finding.outcome is UNKNOWN
    # 720 h × 2.995732 − 2 h
    assert "2155 h (89.8 days) more without a failure are needed to tell" in finding.because
    assert found("mtbf: above 0.5h", runs).outcome is PASS
    worse = [earlier(failures=4), earlier(failures=5)]
    assert found("mtbf: above 1h", worse).outcome is FAIL


def test_a_plan_without_a_memory_is_unknown() -> None:
    with_it = planned("mttr: below 15m")
    findings = judge(with_it, Day().evidence()).findings
    assert [f.outcome for f in findings if f.objective.startswith("mttr")] == [UNKNOWN]
    broken = with_it.with_recorded(history={"runs": [{"repairs": []}]})
    findings = judge(broken, Day().evidence()).findings
    assert [f.outcome for f in findings if f.objective.startswith("mttr")] == [UNKNOWN]


# ---- from real incidents -------------------------------------------------------------------------

STEPS = int(OVER / STEP) + 1
ENTRY = "{mtbf: above %s, incidents: 'error_ratio > bool 0.01', over: 30d}"
REPAIR = "{mttr: below %s, incidents: 'error_ratio > bool 0.01', over: 30d}"


def incidents(
    *spans: tuple[int, int], without: Sequence[tuple[int, int]] = (), **changes: Any
) -> Series:
    """A month, a value a minute: 1 in ``spans`` of minutes, nothing in ``without``."""
    values = ["0"] * STEPS
    for first, last in spans:
        values[first:last] = ["1"] * (last - first)
    missing = {index for first, last in without for index in range(first, last)}
    begin = T0 - OVER
    points = tuple((begin + i * STEP, v) for i, v in enumerate(values) if i not in missing)
    fields: dict[str, Any] = {
        "name": "x", "query": "q", "step_s": STEP, "start": begin, "end": float(T0),
        "status": "success", "warnings": (), "fetched_t": T0 + 1.0, "error": "",
        "result": (SeriesLine({}, points),),
    }  # fmt: skip
    return Series(**{**fields, **changes})


def test_a_month_without_an_incident_shows_ten_days_between_them_and_not_thirty() -> None:
    assert found(ENTRY % "230h", series=incidents()).outcome is PASS
    finding = found(ENTRY % "720h", series=incidents())
    assert finding.outcome is UNKNOWN
    assert finding.measured is not None and finding.measured.high is None
    assert finding.measured.low == pytest.approx(720 / 2.995732, rel=1e-3)
    assert "1437 h (59.9 days) more without a failure are needed to tell" in finding.because


def test_incidents_are_counted_by_their_beginnings_and_timed_by_their_lengths() -> None:
    spans = [(1000 * n, 1000 * n + 10) for n in range(1, 11)]
    finding = found(ENTRY % "720h", series=incidents(*spans))
    assert finding.outcome is FAIL
    assert finding.because.startswith("10 failures in 718 h (29.9 days) of 30 days of Prometheus")
    assert finding.measured is not None and finding.measured.value is not None
    assert finding.measured.value == pytest.approx((STEPS - 100) / 60 / 10)
    finding = found(REPAIR % "21m", series=incidents(*spans))
    assert finding.outcome is PASS
    assert finding.measured is not None
    # In ten minutes each, so of eight at least, and one more unseen: χ², 20 degrees of freedom.
    assert finding.measured.low == pytest.approx(2 * 10 * 480 / 31.410433, rel=1e-5)
    assert finding.measured.high == pytest.approx(2 * 10 * 660 / 10.850811, rel=1e-5)


def test_an_incident_that_was_there_before_or_is_not_over_is_not_a_whole_one() -> None:
    finding = found(REPAIR % "20m", series=incidents((0, 50), (STEPS - 30, STEPS)))
    assert finding.outcome is UNKNOWN
    assert "0 repairs" in finding.because and "1 more not over" in finding.because
    finding = found(ENTRY % "1000h", series=incidents((0, 50)))
    assert finding.because.startswith("0 failures")


def test_what_was_not_seen_may_hide_incidents() -> None:
    finding = found(ENTRY % "230h", series=incidents(without=[(500, 520)]))
    assert finding.outcome is UNKNOWN
    assert "and 1 more may have begun unseen" in finding.because
    # An incident with a hole beside it may have lasted as long as the hole, too.
    beside = incidents((100, 110), without=[(110, 130)])
    finding = found(REPAIR % "20m", series=beside)
    assert "1 more not over" in finding.because
    finding = found(ENTRY % "1h", series=incidents(without=[(500, 1000)]))
    assert finding.outcome is UNKNOWN
    assert "8.3 h are missing" in finding.because


def test_failures_that_game_days_made_are_no_incidents() -> None:
    series = incidents((1000, 1010))
    begin = T0 - OVER + 1000 * STEP
    day = earlier(started_t=begin - 90, ended_t=begin + 9 * STEP)
    finding = found(ENTRY % "230h", [day], series)
    assert (finding.outcome, finding.because[:10]) == (PASS, "0 failures")
    long = earlier(started_t=T0 - OVER, ended_t=T0 - OVER + 4 * DAY)
    finding = found(ENTRY % "230h", [long], series)
    assert finding.outcome is UNKNOWN
    assert "were game days" in finding.because


@pytest.mark.parametrize(
    ("series", "said"),
    [
        (None, "was not asked"),
        (incidents(status="error", error="timeout: 10 s"), "no answer: timeout"),
        (incidents(warnings=("partial",)), "in part: partial"),
        (incidents(result=()), "0 series instead of one"),
        (incidents(result=incidents().result * 2), "2 series instead of one"),
        (incidents(start=T0 - DAY), "less than the time wanted"),
        (
            incidents(result=(SeriesLine({}, ((T0 - OVER, "NaN"),)),)),
            "720 h (30.0 days) are",
        ),
        (incidents(without=[(0, STEPS // 2)]), "15.0 days) are missing"),
    ],
)
@pytest.mark.parametrize("entry", [ENTRY % "1h", REPAIR % "15m"])
def test_an_answer_that_is_none_is_unknown(entry: str, series: Series | None, said: str) -> None:
    finding = found(entry, series=series)
    assert finding.outcome is UNKNOWN
    assert said in finding.because
