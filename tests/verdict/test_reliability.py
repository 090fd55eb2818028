"""MTTR and MTBF: from what was before the run, as intervals; unknown when that is too little."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from harness.evidence.model import Series, SeriesLine
from harness.plan.model import Mtbf, Mttr, Plan
from harness.verdict import Finding, Outcome, judge, reliability
from harness.verdict.case import Case
from harness.verdict.intervals import poisson_lower
from harness.verdict.reliability import Repair, judge_mtbf, judge_mttr
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
    assert "1 more not seen from beginning to end" in finding.because
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
    assert "0 repairs" in finding.because and "1 more not seen" in finding.because
    finding = found(ENTRY % "1000h", series=incidents((0, 50)))
    assert finding.because.startswith("0 failures")


def test_what_was_not_seen_may_hide_incidents() -> None:
    finding = found(ENTRY % "230h", series=incidents(without=[(500, 520)]))
    assert finding.outcome is UNKNOWN
    assert "and 1 more may have begun unseen" in finding.because
    # 230 h × 4.743865 − 719.7 h
    assert "371 h (15.5 days) more without a failure are needed to tell" in finding.because
    # An incident with a hole beside it may have lasted as long as the hole, too.
    beside = incidents((100, 110), without=[(110, 130)])
    finding = found(REPAIR % "20m", series=beside)
    assert "1 more not seen" in finding.because
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


# ---- the bounds, from what is known of the past --------------------------------------------------


def past(
    *repairs: Repair, failures: int = 0, hidden: int = 0, hidden_s: float = 0.0
) -> reliability.Past:
    return reliability.Past(repairs, failures, hidden, 3600.0, "the past", "x", hidden_s=hidden_s)


def open_for(seconds: float) -> Repair:
    return Repair(seconds, seconds, ended=False)


#: Half the 95 % and 5 % quantiles of χ² with 2, 4 and 6 degrees of freedom.
UPPER = (5.991465 / 2, 9.487729 / 2, 12.591587 / 2)
LOWER = (0.0, 0.102587 / 2, 0.710723 / 2)


@pytest.mark.parametrize(
    ("repairs", "mean_s", "low_s", "high_s"),
    [
        ((), None, 0, math.inf),
        ((Repair(8, 10),), 10, 8 / UPPER[0], 10 / LOWER[1]),
        ((Repair(8, 10), Repair(18, 20)), 15, 26 / UPPER[1], 30 / LOWER[2]),
        ((Repair(8, 10), open_for(600)), 610, 608 / UPPER[1], 610 / LOWER[1]),
        ((open_for(60), open_for(600)), None, 660 / UPPER[0], math.inf),
    ],
)
def test_the_mean_time_to_recovery_lies_between_the_bounds_of_its_count(
    repairs: tuple[Repair, ...], mean_s: float | None, low_s: float, high_s: float
) -> None:
    mean = reliability.mean_repair(past(*repairs))
    assert mean.mean_s == mean_s
    assert mean.low_s == pytest.approx(low_s, rel=1e-5)
    assert mean.high_s == pytest.approx(high_s, rel=1e-5)


def test_what_may_have_begun_unseen_may_have_been_repaired_at_once_or_late() -> None:
    mean = reliability.mean_repair(past(Repair(8, 10), Repair(18, 20), hidden=1, hidden_s=100))
    assert mean.mean_s == 15
    assert mean.low_s == pytest.approx(26 / UPPER[2], rel=1e-5)
    assert mean.high_s == pytest.approx(130 / LOWER[2], rel=1e-5)


@pytest.mark.parametrize(
    ("failures", "hidden", "mean_s", "low_s", "high_s"),
    [
        (0, 0, None, 3600 / UPPER[0], math.inf),
        (0, 1, None, 3600 / UPPER[1], math.inf),
        (1, 0, 3600, 3600 / UPPER[1], 3600 / LOWER[1]),
        (2, 0, 1800, 3600 / UPPER[2], 3600 / LOWER[2]),
        (1, 1, 3600, 3600 / UPPER[2], 3600 / LOWER[1]),
    ],
)
def test_what_may_have_begun_unseen_shortens_the_time_between_failures_at_worst(
    failures: int, hidden: int, mean_s: float | None, low_s: float, high_s: float
) -> None:
    mean = reliability.mean_between(past(failures=failures, hidden=hidden))
    assert mean.mean_s == mean_s
    assert mean.low_s == pytest.approx(low_s, rel=1e-5)
    assert mean.high_s == pytest.approx(high_s, rel=1e-5)


def judged(objective: Mttr | Mtbf, known: reliability.Past) -> Outcome:
    judge_it: Any = judge_mttr if isinstance(objective, Mttr) else judge_mtbf
    runs = [{**earlier(), "failures": known.failures, "watched_s": known.up_s, "repairs": [
        {"low_s": r.low_s, "high_s": r.high_s if r.ended else None} for r in known.repairs
    ]}, {**earlier(), "watched_s": 0}]  # fmt: skip
    case = Case(plan().with_recorded(history={"runs": runs}), Day().evidence())
    finding: Finding = judge_it(case, objective)
    return finding.outcome


def test_a_bound_that_is_the_figure_itself_is_on_the_side_of_failure() -> None:
    known = past(Repair(8, 10), Repair(18, 20), failures=2)
    repair, between = reliability.mean_repair(known), reliability.mean_between(known)
    for below_s, outcome in (
        (repair.low_s, FAIL),
        (math.nextafter(repair.low_s, math.inf), UNKNOWN),
        (repair.high_s, UNKNOWN),
        (math.nextafter(repair.high_s, math.inf), PASS),
    ):
        assert judged(Mttr("o", 1, below_s), known) is outcome
    for above_s, outcome in (
        (between.high_s, FAIL),
        (math.nextafter(between.high_s, 0), UNKNOWN),
        (between.low_s, UNKNOWN),
        (math.nextafter(between.low_s, 0), PASS),
    ):
        assert judged(Mtbf("o", 1, above_s), known) is outcome


def test_a_mean_time_between_failures_is_shown_in_hours() -> None:
    finding = found("mtbf: above 1h", [earlier(failures=1), earlier(failures=1)])
    assert finding.outcome is UNKNOWN
    assert finding.measured is not None and finding.measured.unit == "h"
    assert finding.measured.value == 1
    assert finding.measured.low == pytest.approx(2 / UPPER[2], rel=1e-5)
    assert finding.measured.high == pytest.approx(2 / LOWER[2], rel=1e-5)
    assert (finding.required, finding.evidence) == ("> 60.0 min", ("plan.json history",))
    # 1 h × 6.295794 − 2 h
    assert "unseen" not in finding.because
    assert finding.because.endswith("; 4.3 h more without a failure are needed to tell")
    assert finding.because.startswith("2 failures in 2.0 h of 2 earlier game days; mean 60.0 min")
    none = found("mtbf: above 1h", [earlier(), earlier()])
    assert none.measured is not None and (none.measured.value, none.measured.high) == (None, None)
    sure = found("mtbf: above 0.1h", [earlier(), earlier()])
    assert "needed to tell" not in sure.because


def test_a_mean_time_to_recovery_says_what_it_is_made_of() -> None:
    finding = found("mttr: below 15m", [earlier((9, 10), (19, 20)), earlier((29, 30))])
    assert finding.because == (
        "3 repairs in 2 earlier game days; "
        "mean 20.0 s, at 95% confidence each above 9.1 s and below 73.4 s"
    )
    assert finding.required == "< 15.0 min"
    never = found("mttr: below 3m", [earlier((60, None)), earlier((600, None))])
    assert never.because == (
        "0 repairs in 2 earlier game days, 2 more not seen from beginning to end; "
        "at 95% confidence each above 3.7 min"
    )


@pytest.mark.parametrize(
    ("ended", "mean_s", "below_s", "said"),
    [
        (3, None, 30, "more repairs are needed to tell, and shorter ones to pass"),
        (3, 30, 30, "more repairs are needed to tell, and shorter ones to pass"),
        (0, 25, 30, "about 91 more like"),
        (4, 25, 30, "about 87 more like"),
        # Enough by the approximation, and not by the exact bound: one more at least.
        (91, 25, 30, "about 1 more like"),
        (95, 25, 30, "about 1 more like"),
        (0, 30, 30.5, "about 9999 more like"),
        (0, 30, 30.49997, "more than 10000 more like"),
        (5, 30, 30.4, "more than 10000 more like"),
    ],
)
def test_how_many_more_repairs_would_tell(
    ended: int, mean_s: float | None, below_s: float, said: str
) -> None:
    assert reliability._more_repairs(ended, mean_s, below_s).startswith(said)


@pytest.mark.parametrize("n", [1, 2, 5, 50, 500])
def test_the_quick_bound_is_about_the_exact_one(n: int) -> None:
    exact = poisson_lower(n)
    assert reliability._lower(n) == pytest.approx(exact, rel=0.25 if n == 1 else 0.03)
    assert reliability._lower(1) == pytest.approx((1 - 1 / 9 - 1.6449 / 3) ** 3)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "any time"), (math.inf, "any time"), (119.9, "119.9 s"), (120, "2.0 min"),
        (7199, "120.0 min"), (7200, "2.0 h"), (96 * HOUR - 1, "96.0 h"),
        (96 * HOUR, "96 h (4.0 days)"), (240 * HOUR, "240 h (10.0 days)"),
    ],
)  # fmt: skip
def test_times_are_said_in_the_unit_they_are_read_in(seconds: float | None, said: str) -> None:
    assert reliability.long(seconds) == said


def test_what_is_remembered_of_runs_is_added_up() -> None:
    runs = [
        earlier((1, 2), (3, None), failures=2, watched_s=10),
        earlier((5, 6), failures=1, watched_s=20),
        earlier((7, 8), failures=9, watched_s=90, complete=False),
    ]
    known = reliability.remembered(runs, simulated=True)
    assert known.repairs == (Repair(1, 2), Repair(3, 3, ended=False), Repair(5, 6))
    assert (known.failures, known.hidden, known.up_s, known.why_not) == (3, 0, 30, "")
    assert known.source == "2 earlier simulated game days (1 more left evidence out)"
    assert reliability.remembered(runs[:2], simulated=False).source == "2 earlier game days"


@pytest.mark.parametrize(
    ("target", "named"),
    [({}, "game days"), ({"simulated": True}, "simulated game days"),
     ({"simulated": "yes"}, "game days")],
)  # fmt: skip
def test_game_days_of_a_simulated_target_are_called_so(
    target: Mapping[str, Any], named: str
) -> None:
    with_it = planned("mttr: below 15m").with_recorded(
        history={"runs": []}, target_description=target
    )
    findings = judge(with_it, Day().evidence()).findings
    (finding,) = [f for f in findings if f.objective.startswith("mttr")]
    assert finding.because.startswith(f"there were 0 earlier {named} of this target")


# ---- incidents, step by step ---------------------------------------------------------------------

#: A state per letter: up, down, not known, a game day.
STATES = {"u": False, "d": True, "?": None, "g": "game day"}


@pytest.mark.parametrize(
    ("states", "repairs", "failures", "hidden", "hidden_s"),
    [
        ("", [], 0, 0, 0),
        ("uuu", [], 0, 0, 0),
        ("udu", [(0, 120, True)], 1, 0, 0),
        ("udddddu", [(180, 360, True)], 1, 0, 0),
        ("uddudddu", [(0, 180, True), (60, 240, True)], 2, 0, 0),
        # Not over when watching ended, or when a game day began.
        ("uuddd", [(60, 240, False)], 1, 0, 0),
        ("udddgu", [(60, 240, False)], 1, 0, 0),
        # There before anybody looked; what a game day left behind.
        ("dddu", [], 0, 0, 0),
        ("ugdddu", [], 0, 0, 0),
        ("dduddu", [(0, 180, True)], 1, 0, 0),
        # A hole hides a beginning, an end, or both.
        ("u?u", [], 0, 1, 120),
        ("u??u?u", [], 0, 2, 300),
        # Before the first look and after the last nobody watched at all.
        ("??udu?", [(0, 120, True)], 1, 2, 0),
        ("?u?u??", [], 0, 3, 120),
        ("u??dddu", [(60, 360, True)], 0, 1, 0),
        ("uddd??u", [(60, 360, False)], 1, 1, 0),
        ("u?ddd??", [(60, 420, False)], 0, 2, 0),
        ("udd?ddu", [(0, 240, False), (0, 240, True)], 1, 1, 0),
        ("u?dddu??u", [(60, 300, True)], 0, 2, 180),
        ("dd?u", [], 0, 1, 120),
        # Behind a hole with which watching began, or after a game day, it may be older than that.
        ("?dddu", [(60, 300, False)], 0, 1, 0),
        ("ug?dddu", [(60, 300, False)], 0, 1, 0),
        ("d?dddu", [(60, 300, False)], 0, 1, 0),
        ("gu?dddu", [(60, 300, True)], 0, 1, 0),
        ("?dduddu", [(0, 240, False), (0, 180, True)], 1, 1, 0),
    ],
)
def test_incidents_are_those_that_began_and_as_long_as_they_may_have_been(
    states: str,
    repairs: list[tuple[float, float, bool]],
    failures: int,
    hidden: int,
    hidden_s: float,
) -> None:
    found = reliability._incidents([STATES[letter] for letter in states], STEP)
    assert found == (tuple(Repair(*repair) for repair in repairs), failures, hidden, hidden_s)


def test_a_hole_may_hide_a_failure_that_was_repaired_slowly() -> None:
    spans = [(1000 * n, 1000 * n + 10) for n in range(1, 11)]
    assert found(REPAIR % "21m", series=incidents(*spans)).outcome is PASS
    # Seven hours of which nothing is known, between two minutes in which all was well.
    finding = found(REPAIR % "21m", series=incidents(*spans, without=[(500, 920)]))
    assert finding.outcome is UNKNOWN
    assert finding.because.startswith(
        "10 repairs in 30 days of Prometheus, and 1 more may have begun unseen; mean 11.0 min"
    )
    assert finding.measured is not None
    assert finding.measured.value == 660
    # χ², 22 and 20 degrees of freedom.
    assert finding.measured.low == pytest.approx(2 * 10 * 480 / 33.924438, rel=1e-5)
    assert finding.measured.high == pytest.approx(2 * (10 * 660 + 421 * 60) / 10.850811, rel=1e-5)


def one_series(*points: tuple[float, str], steps: int = 5, **changes: Any) -> Series:
    """``steps`` values a minute from 1000 s on were asked for."""
    end = 1000.0 + (steps - 1) * STEP
    return incidents(
        **{"start": 1000.0, "end": end, "result": (SeriesLine({}, points),), **changes}
    )


def test_each_value_is_of_the_step_it_was_asked_for() -> None:
    objective = Mtbf("o", 1, 1.0, "x", 5 * STEP)
    points = [
        (940, "1"), (969, "1"), (1000, "0"), (1061, "1"), (1119, "0.5"), (1180, "NaN"),
        (1240, "-1"), (1300, "1"), (1360, "1"),
    ]  # fmt: skip
    states = reliability._states(one_series(*points), objective)
    # What lies before the first step or beyond the last was not asked for.
    assert states == ("", [False, True, True, None, False])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        # A step short, however little of it.
        ({"end": 1239.0}, "Prometheus was asked for less than the time wanted"),
        # Instants are floats: a difference that is a whole step but for the last bit is one.
        ({"end": 1240.0 - 1e-9}, ""),
        ({"error": "half of it"}, "Prometheus gave no answer: half of it"),
        ({"status": "error"}, "Prometheus gave no answer: error"),
    ],
)
def test_as_much_must_have_been_asked_as_is_wanted(changes: Mapping[str, Any], said: str) -> None:
    objective = Mtbf("o", 1, 1.0, "x", 5 * STEP)
    assert reliability._states(one_series(**changes), objective)[0] == said


def test_the_steps_around_a_game_day_are_its_own() -> None:
    series = one_series(steps=10)
    up: list[Any] = [False] * 10
    for started, ended, ours in (
        (1120, 1240, "..gggg...."),
        (1119, 1241, ".gggggg..."),
        # Begun before what was asked for, or ended after it.
        (0, 1000, "gg........"),
        (1480, 9999, "........gg"),
        (0, 9999, "gggggggggg"),
        (0, 900, "g........."),
        (0, 800, ".........."),
    ):
        run = earlier(started_t=started, ended_t=ended)
        case = Case(plan().with_recorded(history={"runs": [run]}), Day().evidence())
        states = reliability._without_game_days(case, series, up)
        assert states == [reliability._GAME_DAY if o == "g" else False for o in ours]
    assert up == [False] * 10


def test_a_hundredth_of_the_time_may_be_missing_and_a_tenth_of_it_game_days() -> None:
    steps = int(OVER / STEP)
    enough = found(ENTRY % "1h", series=incidents(without=[(0, steps // 100)]))
    assert (enough.outcome, "missing" in enough.because) == (PASS, False)
    short = found(ENTRY % "1h", series=incidents(without=[(0, steps // 100 + 1)]))
    assert (short.outcome, short.measured) == (UNKNOWN, None)
    assert short.because == "of 30 days of Prometheus 7.2 h are missing"
    begin = T0 - OVER + 1000 * STEP
    # With one step more after the last.
    ours: dict[str, Any] = {"started_t": begin, "ended_t": begin + (steps // 10 - 2) * STEP}
    few = found(ENTRY % "1h", [earlier(**ours)], incidents())
    assert (few.outcome, "game days" in few.because) == (PASS, False)
    ours["ended_t"] += STEP
    many = found(ENTRY % "1h", [earlier(**ours)], incidents())
    assert (many.outcome, many.measured) == (UNKNOWN, None)
    assert many.because == (
        "of 30 days of Prometheus 72.0 h were game days, which say nothing of incidents"
    )
    assert many.evidence[0].startswith("series/incidents-")
