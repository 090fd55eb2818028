"""From when a service was good, second by second, and how long that took it."""

from __future__ import annotations

import dataclasses

import pytest

from harness.evidence import histogram
from harness.evidence.model import Lateness, TallyCell, TallySecond, WorkerTally
from harness.evidence.run import evidence_from
from harness.plan.model import Latency, Plan, Recovery
from harness.verdict import Finding, Outcome
from harness.verdict.case import Case
from harness.verdict.landing import Landing
from harness.verdict.recovery import (
    Held,
    _good,
    _window,
    held_from,
    judge_recovery,
    latency_of,
    outages,
    watched_until,
)
from tests.verdict.build import RATE, T0, A, Day, plan

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
FAST = Latency("latency", ("recovery:zone",), 1, 0.95, 0.2)
SHORT = "the time watched is too short to tell"
TRAFFIC, END = "too little traffic to tell", "not good at the end"


def cell(outcome: str, n: int, *, fast: int | None = None) -> TallyCell:
    below = {} if fast is None else {"0.2": fast}
    return TallyCell("download", "", A, outcome, "", n, 0, {}, {}, below)


def of(seconds: list[TallySecond], rate: str = "50/s", late: int = 0) -> Case:
    """A run of one generator, of which so many percent of the sends were late."""
    lateness = {histogram.index_of(500.0): 100 - late, histogram.index_of(400_000.0): late}
    reports = tuple(Lateness(T0 + n + 1.0, lateness) for n in range(len(seconds)))
    tally = WorkerTally("w0", {"start_t": T0 + 0.0}, tuple(seconds), reports, None)
    evidence = evidence_from(
        run="r", events=[], tallies=[tally], ledger=[], readbacks=[], series={}, gaps=[]
    )
    return Case(plan(("rate: 50/s", f"rate: {rate}")), evidence)


def went(course: str, rate: str = "50/s") -> Case:
    """Seconds that went well (+), badly (-), nobody knows how (?), or never came (.)."""
    cells = {"+": (cell("ok", RATE),), "-": (cell("failed", RATE),), "?": ()}
    return of(
        [TallySecond(T0 + n, RATE, cells[how]) for n, how in enumerate(course) if how != "."], rate
    )


# ---- a window ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planned", "ok", "failed", "good"),
    [
        (100, 100, 0, True),
        (100, 99, 1, True),
        (1000, 989, 11, False),
        # Of two nothing is known, of one.
        (100, 98, 0, None),
        (100, 98, 1, None),
        (100, 97, 2, False),
        # Half of the 150 that were due, and fewer.
        (75, 75, 0, True),
        (74, 74, 0, None),
        (74, 0, 74, None),
        (0, 0, 0, None),
    ],
)
def test_a_window_is_good_when_99_of_100_planned_succeed(
    planned: int, ok: int, failed: int, good: bool | None
) -> None:
    cells = tuple(cell(what, n) for what, n in (("ok", ok), ("failed", failed)) if n)
    case = of([TallySecond(T0, planned, cells)])
    assert _good(case, range(T0, T0 + 3), None) is good


@pytest.mark.parametrize(
    ("ok", "fast", "failed", "late", "good"),
    [
        (150, 150, 0, 0, True),
        (1000, 950, 0, 0, True),
        (1000, 949, 0, 0, False),
        # Slow because the generator was: nobody knows.
        (1000, 949, 0, 1, None),
        (1000, 950, 0, 100, True),
        (950, 950, 50, 100, False),
        (900, 800, 100, 0, False),
        # Of ten arrivals nothing is known: whether enough came back, not how fast.
        (985, 985, 5, 0, None),
        # Of fifty nothing is known, and no more of the others were fast.
        (950, 900, 0, 0, None),
        (950, 899, 0, 0, False),
        (950, 899, 0, 2, None),
    ],
)
def test_a_window_is_good_when_enough_of_it_was_fast_too(
    ok: int, fast: int, failed: int, late: int, good: bool | None
) -> None:
    total = 150 if ok == 150 else 1000
    cells = (cell("ok", ok, fast=fast), cell("failed", failed))
    case = of([TallySecond(T0, total, cells)], late=late)
    assert _good(case, range(T0, T0 + 3), FAST) is good


def test_it_is_not_known_whether_answers_were_fast_of_which_nothing_is_recorded() -> None:
    untimed = TallySecond(T0, 1000, (cell("ok", 1000),))
    assert _good(of([untimed]), range(T0, T0 + 3), None) is True
    assert _good(of([untimed]), range(T0, T0 + 3), FAST) is None


def test_seconds_in_which_nothing_was_due_tell_nothing() -> None:
    case = went("+++", "50/s for 40s, then 100/s")
    assert _good(case, range(T0 - 3, T0), None) is None


@pytest.mark.parametrize(
    ("rate", "window"),
    [
        ("34/s", 3),
        ("33/s", 4),
        ("20/s for 5s, then 500/s", 5),
        ("19/s for 6s, then 500/s", 6),
        ("500/s for 4s, then 34/s", 3),
        ("500/s for 4s, then 33/s", 4),
    ],
)
def test_a_window_has_three_seconds_or_as_many_as_a_hundred_arrivals_take(
    rate: str, window: int
) -> None:
    assert _window(of([], rate), T0, T0 + 10) == window


# ---- from when on ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("course", "span", "held"),
    [
        ("+++", (0, 3), (True, 0, 0, 0, "stays good")),
        ("---", (0, 3), (False, 0, 3, 0, END)),
        ("++", (0, 2), (None, 0, 2, 0, SHORT)),
        # A second that was not watched to its end is none.
        ("+++", (0, 2.9), (None, 0, 2.9, 0, SHORT)),
        ("+++++-", (0, 5.9), (True, 0, 0, 0, "stays good")),
        ("+++++-", (0, 6), (False, 3, 6, 0, END)),
        # One in which the watching began is: the service may have been bad from then on.
        ("-+++", (0.7, 4), (True, 0.7, 1, 0, "stays good")),
        ("?+++", (0.7, 4), (True, 0.7, 1, 0, "stays good")),
        ("+++---++++", (0, 10), (True, 5, 6, 0, "stays good")),
        ("-+++-+++", (0, 8), (True, 4, 5, 1, "lost again 1 times")),
        ("-+++-+++-+++", (0, 12), (True, 8, 9, 2, "lost again 2 times")),
        ("-+++-+++-", (0, 9), (False, 6, 9, 2, END)),
        # What nobody knows of may have been good, or not.
        ("-++?++++", (0, 8), (True, 0, 4, 0, "stays good")),
        ("-++????++-+++", (0, 13), (True, 9, 10, 0, "stays good")),
        ("-+++???", (0, 7), (None, 0, 7, 0, TRAFFIC)),
        ("---???", (0, 6), (None, 2, 6, 0, TRAFFIC)),
        ("???", (0.5, 3), (None, 0.5, 3, 0, TRAFFIC)),
        ("-++++..", (0, 7), (None, 0, 7, 0, TRAFFIC)),
    ],
)
def test_it_is_good_from_the_last_bad_window_on(
    course: str, span: tuple[float, float], held: tuple[bool | None, float, float, int, str]
) -> None:
    found = held_from(went(course), T0 + span[0], T0 + span[1], None)
    state, low, high, relapses, because = held
    assert found == Held(state, T0 + low, T0 + high, relapses, because)


def test_a_window_is_as_long_as_the_seconds_watched_need() -> None:
    # With the slow second four are needed, and there are but three.
    assert held_from(went("+++", "1/s for 1s, then 45/s"), T0 + 0.5, T0 + 3, None).because == SHORT
    assert held_from(went("++++", "45/s for 3s, then 1/s"), T0, T0 + 3.9, None).held is True


@pytest.mark.parametrize(
    ("course", "known_s", "failures"),
    [
        ("", 0, 0),
        ("++", 0, 0),
        ("+++", 1, 0),
        ("+++++", 3, 0),
        ("---", 1, 1),
        ("+++---+++", 7, 1),
        ("-+++-+++", 6, 2),
        ("+++???", 1, 0),
        ("???---", 3, 1),
        ("+++???---", 4, 1),
        ("...+++", 2, 0),
    ],
)
def test_outages_are_how_often_it_stopped_being_good(
    course: str, known_s: int, failures: int
) -> None:
    assert outages(went(course), range(T0, T0 + len(course))) == (known_s, failures)


@pytest.mark.parametrize("rate", ["50/s", "50/s for 40s, then 100/s"])
def test_a_phase_without_seconds_has_no_outage(rate: str) -> None:
    assert outages(went("+++", rate), range(0)) == (0, 0)


# ---- the finding -------------------------------------------------------------------------------


def recovered(
    day: Day, within_s: float, *changes: tuple[str, str], low: float = 51.5, high: float = 52.0
) -> Finding:
    """Of the zone, lost between two offsets: bad in 52 and 53, its recovery ends at 76."""
    objective = Recovery("recovery", ("zone",), 1, within_s)
    landed = Landing("zone", T0 + low, T0 + high, ("clients",), "")
    return judge_recovery(Case(plan(*changes), day.evidence()), objective, landed)


def test_the_interval_is_from_the_last_bad_second_to_the_first_good_one() -> None:
    found = recovered(Day(), 8.0)
    assert found.measured is not None
    assert (found.measured.low, found.measured.value, found.measured.high) == (1.0, 2.5, 2.5)
    outcomes = [recovered(Day(), within_s).outcome for within_s in (0.9, 1.0, 2.4, 2.5)]
    assert outcomes == [FAIL, UNKNOWN, UNKNOWN, PASS]


def test_a_fault_that_nobody_noticed_took_no_time() -> None:
    found = recovered(Day(), 8.0, low=60.5, high=61.5)
    assert found.measured is not None
    assert (found.outcome, found.measured.low, found.measured.high) == (PASS, 0.0, 0.0)
    # It was bad before the call that made the fault was through.
    found = recovered(Day(), 8.0, low=53.5, high=54.5)
    assert found.measured is not None
    assert (found.measured.low, found.measured.high) == (0.0, 0.5)


def test_one_that_is_bad_at_the_end_took_longer_than_was_watched() -> None:
    found = recovered(Day(outage=range(70, 76)), 100.0)
    assert (found.outcome, "not recovered to the end" in found.because) == (FAIL, True)
    assert found.measured is not None
    assert (found.measured.value, found.measured.low, found.measured.high) == (None, 24.0, None)


@pytest.mark.parametrize(
    ("bad_until", "within_s", "outcome"),
    [(70, 15.9, FAIL), (70, 16.0, UNKNOWN), (70, 18.0, UNKNOWN), (72, 17.9, FAIL)],
)
def test_of_an_end_that_nobody_saw_it_is_known_how_long_it_was_bad_before(
    bad_until: int, within_s: float, outcome: Outcome
) -> None:
    day = Day(outage=range(60, bad_until))
    for offset in range(bad_until, 80):
        del day.seconds[offset]
    found = recovered(day, within_s)
    assert found.outcome is outcome
    assert ("still bad" in found.because) is (outcome is FAIL)
    assert "too little traffic" in found.because
    if outcome is UNKNOWN:
        assert found.measured is None
    else:
        assert found.measured is not None
        # Of the last bad second's own window too little came to tell.
        assert found.measured.low == bad_until - 2 - 52.0


def test_a_recovery_that_was_too_slow_in_its_answers_is_none() -> None:
    slow = ('in: [baseline, "recovery:pod", cool-down]', 'in: ["recovery:zone"]')
    assert recovered(Day(latency_s=0.3), 8.0).outcome is PASS
    assert recovered(Day(latency_s=0.3), 8.0, slow).outcome is FAIL
    assert recovered(Day(latency_s=0.3, late_s=0.1), 8.0, slow).outcome is UNKNOWN


def test_a_fault_that_did_not_land_or_was_not_watched_to_the_end_is_unknown() -> None:
    case = Case(plan(), Day().evidence())
    objective = Recovery("recovery", ("zone",), 1, 8.0)
    never = Landing("zone", T0 + 51.5, T0 + 51.6, (), "fault never landed")
    found = judge_recovery(case, objective, never)
    assert (found.outcome, found.because) == (UNKNOWN, "fault never landed")
    for kinds in (["phase.end"], ["phase.start", "phase.end"]):
        day = Day()
        of_it = [e for e in day.events if e.data.get("phase") == "recovery:zone"]
        found = recovered(day.without([e for e in of_it if e.kind in kinds].__contains__), 8.0)
        why_not = "the recovery was not watched to its end"
        assert (found.outcome, found.because) == (UNKNOWN, why_not)


def test_with_a_failback_it_is_watched_until_the_fault_is_taken_back() -> None:
    case = Case(plan(), Day().evidence())
    until = watched_until(case, "region")
    assert until is not None and until[1] == "until the fault was taken back"
    assert until[0] == pytest.approx(T0 + 95.6)
    assert watched_until(case, "zone") == (T0 + 76, "to the end of the recovery")
    # Nobody knows when it was taken back, nor when its phase was over.
    nothing = Day().without(
        lambda e: e.data.get("phase") == "fault:region" or e.kind.startswith("undo")
    )
    assert watched_until(Case(plan(), nothing.evidence()), "region") is None


def latencies(*found: Latency) -> Plan:
    return dataclasses.replace(plan(), objectives=found)


def test_the_strictest_latency_of_all_operations_in_the_phase_counts() -> None:
    def strictest(*found: Latency) -> Latency | None:
        return latency_of(Case(latencies(*found), Day().evidence()), "recovery:zone")

    faster = dataclasses.replace(FAST, below_s=0.1, fraction=0.5)
    more = dataclasses.replace(FAST, fraction=0.99)
    of_uploads = dataclasses.replace(faster, operations=("upload",))
    elsewhere = dataclasses.replace(faster, phases=("baseline",))
    assert strictest(FAST, more) is more
    assert strictest(more, FAST) is more
    assert strictest(FAST, more, faster) is faster
    assert strictest(of_uploads, FAST, elsewhere) is FAST
    assert strictest(of_uploads, elsewhere) is None
    assert latency_of(Case(plan(), Day().evidence()), "recovery:zone") is None
