"""Clocks that disagree: what can be put right is, and what cannot makes nothing sure."""

from __future__ import annotations

import dataclasses

import pytest

from harness.evidence.model import Event
from harness.evidence.run import evidence_from
from harness.verdict import Finding, Outcome, clocks, judge
from harness.verdict.case import Case
from harness.verdict.clocks import Offset, prometheus_ahead, step_gaps, worker_gaps, wrong
from tests.verdict.build import T0, Day, plan


def found(day: Day, objective: str, phase: str) -> Finding:
    findings = judge(plan(), day.evidence()).findings
    return next(f for f in findings if f.objective.startswith(objective) and f.phase == phase)


def set_clock(day: Day, after: float, by_s: float) -> Day:
    """The harness's wall clock is set: instants move, monotonic ones do not."""
    day.events = [
        dataclasses.replace(event, t=event.t + by_s) if event.t > T0 + after else event
        for event in day.events
    ]
    return day


def with_look(day: Day, *looks: tuple[float, object, float]) -> Day:
    for offset, value, uncertainty_s in looks:
        data = {"subject": "clock:prometheus", "value": value, "uncertainty_s": uncertainty_s}
        day.say("watch/nodes", offset, "sighting", **data)
    return day


@pytest.mark.parametrize(
    ("by_s", "is_gap"), [(5.0, True), (-5.0, True), (0.7, True), (0.3, False), (-0.3, False)]
)
def test_a_clock_that_is_set_is_a_gap_and_one_that_is_slewed_is_not(
    by_s: float, is_gap: bool
) -> None:
    finding = found(set_clock(Day(), 30, by_s), "evidence complete", "all")
    assert (f"was set by {by_s:+.1f} s" in finding.because) == is_gap


@pytest.mark.parametrize("stepped", [False, True])
def test_a_failure_counts_only_where_the_clock_is_right(stepped: bool) -> None:
    day = Day(latency_s=0.3)
    finding = found(set_clock(day, 100, 5.0) if stepped else day, "latency", "baseline")
    assert finding.outcome is (Outcome.UNKNOWN if stepped else Outcome.FAIL)


def test_wrong_bytes_are_wrong_by_any_clock() -> None:
    day = set_clock(Day().read_back("obj-020", "missing"), 100, 5.0)
    assert found(day, "durability", "all").outcome is Outcome.FAIL


@pytest.mark.parametrize(("drift_s", "outcome"), [(0.2, Outcome.FAIL), (1.5, Outcome.UNKNOWN)])
def test_a_generator_a_second_off_may_have_counted_another_phase(
    drift_s: float, outcome: Outcome
) -> None:
    day = Day(latency_s=0.3)
    clock = {"worker": "w0", "drift_s": drift_s, "uncertainty_s": 0.01, "bound_s": 0.05}
    day.say("fleet", 10, "worker.clock", **clock)
    assert found(day, "latency", "baseline").outcome is outcome
    assert found(day, "evidence complete", "all").outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("ahead_s", [5.0, -5.0])
@pytest.mark.parametrize("known", [True, False])
def test_scrapes_are_moved_to_our_clock_where_the_offset_is_known(
    ahead_s: float, known: bool
) -> None:
    """Nothing is served from 35 s on: by another clock that is another part of the baseline."""
    day = Day(outage=range(34, 40))
    moved = [
        dataclasses.replace(line, points=tuple((t + ahead_s, v) for t, v in line.points))
        for line in day.series["gateway_requests"].result
    ]
    day.change_requests(result=tuple(moved))
    if known:
        with_look(day, (-1.0, ahead_s, 0.3))
    finding = found(day, "agreement", "baseline")
    assert finding.outcome is (Outcome.PASS if known else Outcome.UNKNOWN)


def test_an_offset_that_changes_widens_the_difference() -> None:
    day = with_look(Day(), (-1.0, 0.0, 0.3), (20.0, 2.0, 10.0))
    finding = found(day, "agreement", "baseline")
    assert finding.outcome is Outcome.UNKNOWN
    assert finding.measured and finding.measured.high is not None
    assert finding.measured.high > 0.04


@pytest.mark.parametrize(
    ("looks", "offset"),
    [
        ([], (0.0, 0.0)),
        ([(-1.0, 3.0, 0.3)], (3.0, 3.0)),
        ([(-1.0, 3.0, 0.3), (20.0, 3.2, 10.0)], (3.0, 3.2)),
        # Seen after the phase, it may have changed within it; seen long after, it cannot.
        ([(-1.0, 3.0, 0.3), (41.0, 4.0, 10.0)], (3.0, 4.0)),
        ([(-1.0, 3.0, 0.3), (60.0, 4.0, 10.0)], (3.0, 3.0)),
        ([(60.0, 4.0, 10.0)], (4.0, 4.0)),
        ([(-1.0, "unknown", 0.3), (5.0, True, 0.3)], (0.0, 0.0)),
        # Of several before, or several after, the nearest.
        ([(-10.0, 2.0, 0.3), (-1.0, 3.0, 0.3)], (3.0, 3.0)),
        ([(60.0, 4.0, 10.0), (70.0, 5.0, 10.0)], (4.0, 4.0)),
        # To the second at which the phase begins and ends.
        ([(0.0, 2.0, 0.3), (0.0, 3.0, 0.3), (20.0, 3.2, 10.0)], (3.0, 3.2)),
        ([(-1.0, 3.0, 0.3), (41.0, 4.0, 1.0)], (3.0, 4.0)),
        ([(-1.0, 3.0, 0.3), (41.25, 4.0, 1.0)], (3.0, 3.0)),
    ],
)
def test_the_offset_is_what_was_seen_of_the_phase(
    looks: list[tuple[float, object, float]], offset: tuple[float, float]
) -> None:
    case = Case(plan(), with_look(Day(), *looks).evidence())
    assert prometheus_ahead(case, case.seconds("baseline")) == Offset(*offset)
    assert (Offset(*offset) == clocks.NO_OFFSET) is (offset == (0.0, 0.0))


def test_a_silence_that_reaches_beyond_what_is_asked_is_one() -> None:
    day = Day()

    def silent(event: Event) -> bool:
        return event.source == "watch/dns" and T0 + 74 < event.t < T0 + 98

    failover = found(day.without(silent), "failover", "fault:region")
    assert failover.outcome is Outcome.UNKNOWN
    assert "watch/dns was silent" in failover.because


def test_what_an_observer_that_never_spoke_would_have_seen_is_unknown() -> None:
    day = Day(db_promoted=False)
    start = next(event for event in day.events if event.kind == "run.start")
    names = [*start.data["observers"], "databases-us-west-2"]
    day.events[day.events.index(start)] = dataclasses.replace(
        start, data={**start.data, "observers": names}
    )
    failover = found(day, "failover", "fault:region")
    assert "nothing of watch/databases-us-west-2 is recorded" in failover.because


def a_case(*events: Event) -> Case:
    """Nothing but these lines."""
    given = sorted(events, key=lambda event: event.t)
    return Case(plan(), evidence_from(run="r", events=given, tallies=[], ledger=[], readbacks=[],
                                      series={}, gaps=[]))  # fmt: skip


def beats(*ahead: tuple[float, float]) -> Case:
    """Lines of (monotonic instant, what the wall clock is ahead of that)."""
    return a_case(*(Event("conductor", n, m + by_s, m, "watch.beat", {}, n)
                    for n, (m, by_s) in enumerate(ahead)))  # fmt: skip


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        # In 2000 s a clock may be slewed by 2 s, and half a second is no step.
        ([(1000, 10.0), (2000, 10.0), (3000, 12.5)], ""),
        ([(1000, 10.0), (2000, 11.25), (3000, 12.75)], "+2.8 s before second 3013"),
        ([(1000, 10.0), (2000, 12.75), (3000, 12.75)], "+2.8 s before second 2013"),
        ([(1000, 10.0), (2000, 10.0), (3000, 7.25)], "-2.8 s before second 3007"),
        ([], ""),
    ],
)
def test_a_step_is_more_than_slewing_in_that_time_and_is_told_by_its_size_and_when(
    ahead: list[tuple[float, float]], said: str
) -> None:
    details = [gap.detail for gap in step_gaps(beats(*ahead))]
    assert details == ([f"the wall clock was set by {said}"] if said else [])
    assert list(wrong(beats(*ahead))) == details


NOT_COMPARED = "its clock was not compared with the master's"


@pytest.mark.parametrize(
    ("drift_s", "uncertainty_s", "bound_s", "said"),
    [
        (0.5, 0.25, 0.75, ""),
        (-0.5, 0.25, 0.75, ""),
        (0.5, 0.25, 0.5, "its clock is off by 0.500 s ± 0.250 s, at most 0.5"),
        (-0.5, 0.25, 0.5, "its clock is off by -0.500 s ± 0.250 s, at most 0.5"),
        (float("nan"), 0.25, 0.75, "its clock is off by nan s ± 0.250 s, at most 0.75"),
        (None, 0.25, 0.75, NOT_COMPARED),
        (0.0, "small", 0.75, NOT_COMPARED),
        (0.0, 0.0, None, NOT_COMPARED),
    ],
)
def test_a_generator_says_how_far_off_it_is_at_most_or_that_is_a_gap(
    drift_s: object, uncertainty_s: object, bound_s: object, said: str
) -> None:
    figures = {"drift_s": drift_s, "uncertainty_s": uncertainty_s, "bound_s": bound_s}
    said_so = Event("fleet", 1, 1.0, 1.0, "worker.clock", {"worker": "w0", **figures}, 1)
    good = {"worker": "w1", "drift_s": 0.0, "uncertainty_s": 0.0, "bound_s": 0.5}
    case = a_case(said_so, Event("fleet", 2, 2.0, 2.0, "worker.clock", good, 2))
    gaps = [(gap.source, gap.detail) for gap in worker_gaps(case)]
    assert gaps == ([("load/w0", said)] if said else [])


@pytest.mark.parametrize(("drift_s", "off"), [(1.0, ""), (-1.0, ""), (-1.25, "-1.2 s")])
def test_a_generator_is_wrong_once_it_is_off_by_more_than_a_second(
    drift_s: float, off: str
) -> None:
    clock = {"worker": "w0", "drift_s": drift_s, "uncertainty_s": 5.0, "bound_s": 0.05}
    case = a_case(*(Event("fleet", n, 1.0, 1.0, "worker.clock", clock, n) for n in (1, 2)))
    assert list(wrong(case)) == ([f"the clock of w0 is off by {off}"] if off else [])
