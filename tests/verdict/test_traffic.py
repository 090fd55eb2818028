"""Availability, error rate, latency and throughput of one phase, judged as intervals."""

from __future__ import annotations

import dataclasses

import pytest

from harness.evidence import histogram
from harness.evidence.model import Lateness, TallyCell, TallySecond
from harness.plan.model import Availability, ErrorRate, Latency, Plan, Throughput
from harness.verdict import Finding, Outcome
from harness.verdict.case import Case
from harness.verdict.traffic import (
    Trial,
    judge_availability,
    judge_content,
    judge_error_rate,
    judge_latency,
    judge_throughput,
)
from tests.verdict.build import T0, Day, plan

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
#: Every objective is judged of the cool-down: ten seconds of 50 arrivals.
PHASE, SECONDS, PLANNED = "cool-down", range(116, 126), 500


def cell(outcome: str, n: int, error: str = "", op: str = "download", ms: float = 0) -> TallyCell:
    latency = {histogram.index_of(ms * 1e3): n} if ms else {}
    return TallyCell(op, "", "", outcome, error, n, 0, latency, {}, {})


def day(*cells: TallyCell, planned: int = PLANNED) -> Day:
    """The small day, the last phase of which went so (all of it counted to its first second)."""
    found = Day()
    for offset in SECONDS:
        mine = (planned, cells) if offset == SECONDS.start else (0, ())
        found.seconds[offset] = TallySecond(T0 + offset, *mine)
    return found


def case_of(found: Day, by: Plan | None = None) -> Case:
    return Case(by or plan(), found.evidence())


def figures(finding: Finding) -> tuple[float | None, float | None, float | None]:
    assert finding.measured is not None
    return finding.measured.value, finding.measured.low, finding.measured.high


@pytest.mark.parametrize("not_asked", [(), (cell("not_sent", 10, "generator-late"),)])
@pytest.mark.parametrize(
    ("at_least", "outcome"), [(0.96, PASS), (0.961, UNKNOWN), (0.98, UNKNOWN), (0.981, FAIL)]
)
def test_availability_passes_at_worst_and_fails_at_best(
    not_asked: tuple[TallyCell, ...], at_least: float, outcome: Outcome
) -> None:
    case = case_of(
        day(cell("ok", 480), cell("failed", 7, "500"), cell("unsure", 3, "timeout"), *not_asked)
    )
    finding = judge_availability(case, Availability("a", (PHASE,), 0, at_least=at_least), PHASE)
    assert (finding.outcome, figures(finding)) == (outcome, (0.96, 0.96, 0.98))
    assert finding.required == f"≥ {at_least:.4%}"


def test_a_degraded_answer_is_available_only_where_it_counts_and_is_told() -> None:
    case = case_of(day(cell("ok", 480), cell("degraded", 20, "stale")))
    asked = Availability("a", (PHASE,), 0, at_least=0.99)
    strict = judge_availability(case, asked, PHASE)
    assert (strict.outcome, figures(strict)) == (FAIL, (0.96, 0.96, 0.96))
    assert strict.because == "480 of 500 planned arrivals succeeded (degraded × 20)"
    counted = judge_availability(case, dataclasses.replace(asked, degraded=True), PHASE)
    assert (counted.outcome, figures(counted)) == (PASS, (1, 1, 1))
    assert counted.because == "500 of 500 planned arrivals succeeded, 20 of them degraded"


def test_a_finding_names_the_three_commonest_errors_and_what_is_not_known() -> None:
    errors = [cell("failed", n, f"e{n}") for n in (1, 2, 3, 4)]
    case = case_of(day(cell("ok", 480), *errors))
    finding = judge_availability(case, Availability("a", (PHASE,), 0, at_least=0.5), PHASE)
    assert finding.because == (
        "480 of 500 planned arrivals succeeded (e4 × 4, e3 × 3, e2 × 2); of 10 nothing is recorded"
    )
    whole = case_of(day(cell("ok", 500)))
    finding = judge_availability(whole, Availability("a", (PHASE,), 0, at_least=0.5), PHASE)
    assert finding.because == "500 of 500 planned arrivals succeeded"


@pytest.mark.parametrize(
    ("below", "outcome"), [(0.02, FAIL), (0.0201, UNKNOWN), (0.04, UNKNOWN), (0.0401, PASS)]
)
def test_an_error_rate_is_below_its_bound_and_not_at_it(below: float, outcome: Outcome) -> None:
    # 7 + 3 bad of 490 sent, and at worst 20 of 500.
    case = case_of(day(cell("ok", 480), cell("failed", 7, "500"), cell("unsure", 3, "timeout")))
    finding = judge_error_rate(case, ErrorRate("e", (PHASE,), 0, below=below), PHASE)
    assert (finding.outcome, figures(finding)) == (outcome, (0.02, 0.02, 0.04))
    assert finding.because == (
        "7 failed and 3 unsure of 490 sent (500 × 7, timeout × 3); of 10 nothing is recorded"
    )


# ---- latency -----------------------------------------------------------------------------------


def latency(
    found: Day, fraction: float = 0.95, below_s: float = 0.2, degraded: bool = False
) -> Finding:
    objective = Latency("l", (PHASE,), 0, fraction=fraction, below_s=below_s, degraded=degraded)
    return judge_latency(case_of(found), objective, PHASE)


@pytest.mark.parametrize(
    ("fraction", "outcome"), [(0.95, PASS), (0.951, UNKNOWN), (0.97, UNKNOWN), (0.971, FAIL)]
)
def test_latency_is_judged_by_the_share_answered_in_time(fraction: float, outcome: Outcome) -> None:
    quick, slow = cell("ok", 475, ms=10), cell("ok", 15, ms=900)
    finding = latency(day(quick, slow, planned=500), fraction)
    assert finding.outcome is outcome
    assert finding.because == "95.000% of the arrivals succeeded within 200 ms (at most 97.000%)"
    assert finding.required == f"p{fraction * 100:g} < 0.2 s"


def test_the_quantile_is_shown_beside_it_as_the_middle_of_its_bucket() -> None:
    finding = latency(day(cell("ok", 490, ms=10), cell("failed", 10, "500")))
    assert finding.outcome is PASS
    assert finding.because == "98.000% of the arrivals succeeded within 200 ms"
    bucket = histogram.bounds_us(histogram.index_of(10e3))
    low, high = bucket.low / 1e6, bucket.high / 1e6
    assert figures(finding) == pytest.approx(((low + high) / 2, low, high))
    beyond = latency(day(cell("ok", 490, ms=10), cell("failed", 10, "500")), 0.99)
    assert (beyond.outcome, figures(beyond)) == (FAIL, (None, None, None))


def test_a_degraded_answer_is_in_time_only_where_it_counts() -> None:
    found = day(cell("ok", 400, ms=10), cell("degraded", 100, "stale", ms=10))
    assert latency(found).outcome is FAIL
    assert latency(found, degraded=True).outcome is PASS


@pytest.mark.parametrize(("late", "outcome"), [(0, FAIL), (4, FAIL), (5, UNKNOWN), (500, UNKNOWN)])
def test_a_latency_that_fails_is_unknown_where_one_send_of_a_hundred_was_late(
    late: int, outcome: Outcome
) -> None:
    case = case_of(day(cell("ok", 500, ms=900)))
    (tally,) = case.evidence.tallies
    sends = {histogram.index_of(500): 500 - late, histogram.index_of(80e3): late}
    mine = Lateness(T0 + SECONDS.start + 1.0, {k: n for k, n in sends.items() if n})
    evidence = dataclasses.replace(
        case.evidence, tallies=(dataclasses.replace(tally, lateness=(mine,)),)
    )
    objective = Latency("l", (PHASE,), 0, fraction=0.95, below_s=0.2)
    finding = judge_latency(Case(plan(), evidence), objective, PHASE)
    assert finding.outcome is outcome
    assert ("the generator itself" in finding.because) == (outcome is UNKNOWN)


# ---- throughput --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_least", "per_s", "outcome"),
    [
        (0.96, 0.0, PASS),
        (0.961, 0.0, UNKNOWN),
        (0.98, 0.0, UNKNOWN),
        (0.981, 0.0, FAIL),
        (0.0, 48.0, PASS),
        (0.0, 48.1, UNKNOWN),
        (0.0, 49.0, UNKNOWN),
        (0.0, 49.1, FAIL),
    ],
)
def test_throughput_is_of_what_was_planned_or_a_rate(
    at_least: float, per_s: float, outcome: Outcome
) -> None:
    case = case_of(day(cell("ok", 480), cell("failed", 10, "500")))
    objective = Throughput("t", (PHASE,), 0, at_least=at_least, at_least_per_s=per_s)
    finding = judge_throughput(case, objective, PHASE)
    assert (finding.outcome, figures(finding)) == (outcome, (48, 48, 49))
    assert finding.because == "48.0/s achieved of 50.0/s planned"
    assert finding.required == (f"≥ {per_s:g}/s" if per_s else f"≥ {at_least:.2%} of planned")


# ---- without arrivals --------------------------------------------------------------------------


@pytest.mark.parametrize("ran", [True, False])
def test_without_arrivals_nothing_is_known_of_a_phase(ran: bool) -> None:
    idle = day(planned=0)
    if not ran:
        idle.without(lambda e: e.kind == "phase.end" and e.data.get("phase") == PHASE)
    case, where = case_of(idle), (PHASE,)
    findings = (
        judge_availability(case, Availability("a", where, 0, at_least=0.5), PHASE),
        judge_error_rate(case, ErrorRate("e", where, 0, below=0.5), PHASE),
        judge_throughput(case, Throughput("t", where, 0, at_least=0.5), PHASE),
        judge_throughput(case, Throughput("t", where, 0, at_least=0.0, at_least_per_s=1.0), PHASE),
    )
    for finding in findings:
        assert (finding.outcome, finding.measured) == (UNKNOWN, None)
        assert finding.because == "no arrivals"
    found = judge_latency(case, Latency("l", where, 0, fraction=0.5, below_s=0.2), PHASE)
    assert (found.outcome, figures(found)) == (UNKNOWN, (None, None, None))
    assert found.because == "no arrivals"


# ---- content -----------------------------------------------------------------------------------


def content(wrong: dict[int, int], *trials: Trial, compared: tuple[int, int] = (9, 9)) -> Finding:
    """As many wrong answers at the offsets named, among good ones."""
    found = day(cell("ok", 500))
    for offset, n in wrong.items():
        second = found.seconds[offset]
        cells = (*second.cells, cell("failed", n, "checksum"))
        found.seconds[offset] = dataclasses.replace(second, cells=cells)
    evidence = found.evidence()
    (tally,) = evidence.tallies
    end = {"bodies": compared[0], "verified": compared[1]}
    told = dataclasses.replace(evidence, tallies=(dataclasses.replace(tally, end=end),))
    return judge_content(Case(plan(), told), trials)


def trial(start: int, stop: int, served: float) -> Trial:
    return Trial(range(T0 + start, T0 + stop), served)


EARLY, LATER = trial(10, 20, 9.9), trial(30, 40, 20)


@pytest.mark.parametrize(
    ("wrong", "trials", "outcome"),
    [
        ({}, (), PASS),
        ({10: 1}, (), FAIL),
        ({10: 9}, (EARLY,), PASS),
        ({10: 4, 19: 5}, (EARLY,), PASS),
        # It served 9 requests whole: one more is not its own, nor one before or after it.
        ({10: 10}, (EARLY,), FAIL),
        ({10: 9, 11: 1}, (EARLY,), FAIL),
        ({9: 1}, (EARLY,), FAIL),
        ({10: 4, 20: 1}, (EARLY,), FAIL),
        ({10: 9, 30: 20}, (EARLY, LATER), PASS),
        ({10: 9, 30: 21}, (EARLY, LATER), FAIL),
        ({10: 10, 30: 1}, (EARLY, LATER), FAIL),
        # Tried at once in two places: what either may have answered is not there twice.
        ({12: 5}, (EARLY, EARLY), PASS),
        ({12: 18}, (EARLY, EARLY), PASS),
        ({12: 19}, (EARLY, EARLY), FAIL),
        ({12: 5, 25: 5}, (EARLY, EARLY), FAIL),
        ({12: 5, 30: 21}, (EARLY, EARLY, LATER), FAIL),
        ({12: 9, 30: 20}, (trial(10, 40, 20), EARLY), PASS),
        ({12: 9, 30: 21}, (trial(10, 40, 20), EARLY), FAIL),
    ],
)
def test_wrong_answers_are_a_withdrawn_versions_own_as_far_as_it_served_any(
    wrong: dict[int, int], trials: tuple[Trial, ...], outcome: Outcome
) -> None:
    finding = content(wrong, *trials)
    assert finding.outcome is outcome
    n = sum(wrong.values()) if outcome is FAIL else 0
    assert figures(finding) == (n, n, n)
    if outcome is FAIL:
        assert finding.because == f"wrong content served with status 200: checksum × {n}"
    own = f"{sum(wrong.values())} wrong answers of versions being tried and then withdrawn; "
    assert finding.because.startswith(own) == (outcome is PASS and bool(wrong))


@pytest.mark.parametrize(
    ("compared", "outcome"),
    [((0, 0), PASS), ((9, 9), PASS), ((9, 1), PASS), ((9, 0), UNKNOWN)],
)
@pytest.mark.parametrize("wrong", [{}, {10: 1}])
def test_content_is_known_only_where_some_of_it_was_compared(
    wrong: dict[int, int], compared: tuple[int, int], outcome: Outcome
) -> None:
    finding = content(wrong, EARLY, compared=compared)
    assert finding.outcome is outcome
    assert ("were compared" in finding.because) == (compared[1] < compared[0])
