"""A failure on a machine without room is unknown, with the figures; with room it is a failure.
Nothing is ever made better than unknown, and what the machine cannot explain stays a failure."""

from __future__ import annotations

import dataclasses

import pytest

from harness.evidence import histogram
from harness.evidence.model import Event
from harness.evidence.run import evidence_from
from harness.verdict import Finding, Outcome, Verdict, judge
from harness.verdict.case import Case
from harness.verdict.saturation import (
    IDLE_MIN,
    SECONDS_MIN,
    SOURCE,
    SUBJECT,
    Machine,
    Room,
    _carried,
    _late,
)
from tests.verdict.build import LAST, PHASES, RATE, T0, Day, plan

FULL, EMPTY = 0.004, 0.4


class Watched(Day):
    """A day on which somebody looked at the machine: ``idle`` per second, None for unseen."""

    def machine(self, idle: dict[int, float | None]) -> Watched:
        self.say("watch/machine", -1.5, "watch.start", observer="machine", subjects=[])
        for offset in range(0, LAST + 3, 5):
            self.say("watch/machine", offset, "watch.beat", polls=5, errors=0)
        for offset in range(-1, LAST):
            share = idle.get(offset, EMPTY)
            value = "unknown" if share is None else {"idle": share, "waiting": 0.5, "cpus": 2}
            self.say(
                "watch/machine",
                offset + 1,
                "sighting",
                subject="machine:generator",
                value=value,
                uncertainty_s=1.0,
            )
        return self


def during(phase: str, share: float | None, n: int | None = None) -> dict[int, float | None]:
    start, end = PHASES[phase]
    return dict.fromkeys(range(start, end if n is None else start + n), share)


def everywhere(share: float | None) -> dict[int, float | None]:
    return dict.fromkeys(range(-1, LAST), share)


def broken(*offsets: int, **more: object) -> Watched:
    """Nothing succeeds in some seconds of the baseline."""
    return Watched(outage=range(*offsets) if offsets else range(0), **more)  # type: ignore[arg-type]


def judged(day: Day) -> Verdict:
    return judge(plan(), day.evidence())


def found(verdict: Verdict, objective: str, phase: str = "") -> Finding:
    return next(
        f for f in verdict.findings if f.objective.startswith(objective) and phase in ("", f.phase)
    )


def test_a_failure_without_room_is_unknown_and_says_by_how_much() -> None:
    verdict = judged(broken(10, 20).machine(during("baseline", FULL)))
    finding = found(verdict, "availability", "baseline")
    assert finding.outcome is Outcome.UNKNOWN
    assert "0.4% idle for 40 of 40 s" in finding.because
    assert "50/s planned, 38/s carried" in finding.because
    assert "planned arrivals succeeded" in finding.because
    assert (verdict.outcome, verdict.exit_status) == (Outcome.UNKNOWN, 111)


def test_a_failure_with_room_to_spare_fails() -> None:
    verdict = judged(broken(10, 20).machine({}))
    assert found(verdict, "availability", "baseline").outcome is Outcome.FAIL
    assert verdict.exit_status == 99
    # And so it does when it was another phase that had none.
    verdict = judged(broken(10, 20).machine(during("cool-down", FULL)))
    assert verdict.exit_status == 99


@pytest.mark.parametrize(
    ("idle", "n", "outcome"),
    [
        (IDLE_MIN - 0.001, 40, Outcome.UNKNOWN),
        (IDLE_MIN, 40, Outcome.FAIL),
        (FULL, round(40 * SECONDS_MIN), Outcome.UNKNOWN),
        (FULL, round(40 * SECONDS_MIN) - 1, Outcome.FAIL),
    ],
)
def test_it_takes_too_little_for_too_long(idle: float, n: int, outcome: Outcome) -> None:
    day = broken(10, 20).machine(during("baseline", idle, n))
    assert found(judged(day), "availability", "baseline").outcome is outcome


def test_a_pass_stays_a_pass_however_busy_it_was() -> None:
    calm, busy = judged(Watched().machine({})), judged(Watched().machine(everywhere(0.0)))
    assert calm.outcome is Outcome.PASS
    assert busy.findings == calm.findings


@pytest.mark.parametrize(
    ("day", "objective"),
    [
        (Watched(dns_fails_over=False), "failover"),
        (Watched(pods_replaced=False), "pods replaced"),
        (Watched(balancer_turns_away=False), "routing"),
        (Watched(latency_s=0.4), "latency"),
    ],
)
def test_what_a_busy_machine_explains_is_held_against_nobody(day: Watched, objective: str) -> None:
    plain = dataclasses.replace(day, events=[], seconds={}, ledger=[], readbacks={}, series={})
    assert found(judged(plain.machine({})), objective).outcome is Outcome.FAIL
    busy = judged(day.machine(everywhere(FULL)))
    assert found(busy, objective).outcome is Outcome.UNKNOWN
    assert busy.exit_status == 111


def test_what_no_machine_explains_fails_all_the_same() -> None:
    lost = judged(Watched().read_back("obj-020", "missing").machine(everywhere(FULL)))
    assert found(lost, "durability").outcome is Outcome.FAIL
    assert lost.exit_status == 99
    day = Watched()
    cells = day.seconds[20].cells
    wrong = dataclasses.replace(cells[0], outcome="failed", error="checksum")
    day.seconds[20] = dataclasses.replace(day.seconds[20], cells=(wrong, *cells[1:]))
    assert found(judged(day.machine(everywhere(FULL))), "content").outcome is Outcome.FAIL
    assert judged(Watched(undone=False).machine(everywhere(FULL))).exit_status == 113


@pytest.mark.parametrize(("n", "outcome"), [(20, Outcome.UNKNOWN), (19, Outcome.FAIL)])
def test_what_was_to_be_seen_and_was_not_excuses_where_it_matters(n: int, outcome: Outcome) -> None:
    day = broken(10, 20).machine(during("baseline", None, n))
    finding = found(judged(day), "availability", "baseline")
    assert finding.outcome is outcome
    assert ("not known for 20 of 40 s" in finding.because) == (outcome is Outcome.UNKNOWN)


def test_where_nobody_was_to_look_a_failure_is_a_failure() -> None:
    assert judged(broken(10, 20)).exit_status == 99


@pytest.mark.parametrize(("late_s", "outcome"), [(0.2, Outcome.UNKNOWN), (0.01, Outcome.FAIL)])
def test_a_late_generator_is_no_defect_of_the_target(late_s: float, outcome: Outcome) -> None:
    verdict = judged(broken(10, 20, late_s=late_s))
    finding = found(verdict, "availability", "baseline")
    assert finding.outcome is outcome
    assert ("over 50 ms late" in finding.because) == (outcome is Outcome.UNKNOWN)


def test_of_a_recovery_the_fault_counts_as_well() -> None:
    day = Watched(outage=range(51, 76))
    zone = during("fault:zone", FULL) | during("recovery:zone", FULL)
    assert found(judged(day.machine(zone)), "recovery", "recovery:zone").outcome is Outcome.UNKNOWN
    day = Watched(outage=range(51, 76))
    only = during("recovery:zone", FULL)
    assert found(judged(day.machine(only)), "recovery", "recovery:zone").outcome is Outcome.FAIL


def unsent(error: str) -> Watched:
    """A twentieth of the baseline's arrivals was not sent."""
    day = Watched()
    for offset in range(*PHASES["baseline"]):
        second = day.seconds[offset]
        cell = dataclasses.replace(day.cell("download", "", 2), outcome="not_sent", error=error)
        first = dataclasses.replace(second.cells[0], n=second.cells[0].n - 2)
        day.seconds[offset] = dataclasses.replace(second, cells=(first, cell, *second.cells[1:]))
    return day


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ("generator-late", Outcome.UNKNOWN),
        ("worker-lost", Outcome.UNKNOWN),
        ("worker-left", Outcome.UNKNOWN),
        ("too-many-in-flight", Outcome.FAIL),
    ],
)
def test_what_the_generator_was_too_late_or_not_there_to_send_may_have_gone_either_way(
    error: str, outcome: Outcome
) -> None:
    verdict = judged(unsent(error).machine({}))
    assert found(verdict, "availability", "baseline").outcome is outcome
    assert found(verdict, "availability", "cool-down").outcome is Outcome.PASS
    if outcome is Outcome.UNKNOWN:
        # Enough was sent to say so of the rest.
        assert found(verdict, "planned rate sent", "baseline").outcome is Outcome.PASS
        assert verdict.exit_status == 111


@pytest.mark.parametrize(
    ("objective", "phase"), [("recovery", "recovery:pod"), ("availability", "baseline")]
)
def test_a_moment_without_room_is_held_against_nobody(objective: str, phase: str) -> None:
    """One bad second is enough to fail; it counts for nothing where the machine stood still."""
    bad = PHASES[phase][1] - 2
    other = bad - 3

    def outcome(outage: range, *full: int) -> Finding:
        return found(
            judged(Watched(outage=outage).machine(dict.fromkeys(full, FULL))), objective, phase
        )

    one = range(bad, bad + 1)
    assert outcome(one).outcome is Outcome.FAIL
    assert outcome(one, other).outcome is Outcome.FAIL
    excused = outcome(one, bad)
    assert excused.outcome is Outcome.UNKNOWN
    assert "not without the 1 s in which the machine had less than 3% idle" in excused.because
    # Another bad second, with room, is the target's own.
    assert outcome(range(bad - 1, bad + 1), bad).outcome is Outcome.FAIL


def test_what_was_good_anyway_is_not_looked_at_again() -> None:
    calm, busy = judged(Watched().machine({})), judged(Watched().machine({20: FULL, 48: FULL}))
    assert busy.findings == calm.findings


def test_what_was_bad_for_too_long_with_room_fails_whatever_came_after() -> None:
    day = Watched(outage=range(51, 76)).machine(during("recovery:zone", FULL))
    finding = found(judged(day), "recovery", "recovery:zone")
    assert finding.outcome is Outcome.FAIL
    day = Watched(outage=range(51, 76)).machine(dict.fromkeys(range(54, 66), FULL))
    assert found(judged(day), "recovery", "recovery:zone").outcome is Outcome.FAIL


def test_a_recovery_nobody_saw_the_end_of_failed_if_it_was_bad_for_too_long() -> None:
    for outage, outcome in ((range(51, 66), Outcome.FAIL), (range(51, 55), Outcome.UNKNOWN)):
        day = Watched(outage=outage)
        day.seconds = {s: t for s, t in day.seconds.items() if s < 67 or s >= 76}
        finding = found(judged(day), "recovery", "recovery:zone")
        assert finding.outcome is outcome
        assert ("still bad" in finding.because) == (outcome is Outcome.FAIL)


# ---- to the second ------------------------------------------------------------------------------


def seen(*looks: tuple[float, float | str]) -> Machine:
    """A machine at which somebody looked, each time (offset, idle share), in no time at all."""
    events = [
        Event(SOURCE, n, t, t, "sighting", {"subject": SUBJECT, "value": value}, n)
        for n, (t, share) in enumerate(looks)
        for value in (share if isinstance(share, str) else {"idle": share},)
    ]
    evidence = evidence_from(run="r", events=events, tallies=[], ledger=[], readbacks=[],
                             series={}, gaps=[])  # fmt: skip
    return Machine(Case(plan(), evidence))


@pytest.mark.parametrize(
    ("seconds", "full_s", "full"),
    [(0, 0, False), (40, 0, False), (40, 19, False), (40, 20, True), (2, 1, True)],
)
def test_a_window_is_full_when_half_of_its_seconds_were(
    seconds: int, full_s: int, full: bool
) -> None:
    assert Room(seconds, seconds, full_s, 0.01).full is full


@pytest.mark.parametrize(
    ("to", "full"), [(0.05, False), (0.0625, True), (1.0, True), (1.0625, True)]
)
def test_a_twentieth_of_a_second_without_room_is_noticeable(to: float, full: bool) -> None:
    """A look says how it was since the one before."""
    machine = seen((-1.0, FULL), (to, EMPTY))
    assert (0 in machine.full([0])) is full
    assert (1 in machine.full([0, 1])) is (to > 1.05)


def test_how_idle_it_was_is_said_of_the_seconds_without_room_where_there_are_any() -> None:
    machine = seen((1.0, 0.25), (2.0, 0.01), (3.0, 0.02), (4.0, 0.75), (5.0, "unknown"))
    assert machine.room(range(5)) == Room(5, 4, 2, 0.015)
    assert machine.room([0, 3, 4]) == Room(3, 2, 0, 0.5)
    assert machine.room([4]) == Room(1, 0, 0, 0.0)
    assert machine.room([]) == Room(0, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("late_at", "said"), [(9, False), (10, True), (15, True), (21, True), (22, False)]
)
def test_sends_that_were_late_count_in_their_window_alone(late_at: int, said: bool) -> None:
    """What was sent in a second is reported at its end, so the last report comes after it."""
    evidence = Day().evidence()
    slow = {histogram.index_of(200_000): RATE}
    tallies = [
        dataclasses.replace(
            tally,
            lateness=tuple(
                dataclasses.replace(report, late=slow) if report.t == T0 + late_at else report
                for report in tally.lateness
            ),
        )
        for tally in evidence.tallies
    ]
    case = Case(plan(), dataclasses.replace(evidence, tallies=tuple(tallies)))
    words = ["8% of the sends were over 50 ms late"] if said else []
    assert _late(case, list(range(T0 + 10, T0 + 20))) == words
    assert _late(case, []) == []


def test_what_was_carried_is_said_per_second() -> None:
    case = Case(plan(), Day(outage=range(11, 12)).evidence())
    assert _carried(case, [T0 + 10]) == "50/s planned, 50/s carried"
    assert _carried(case, [T0 + 10, T0 + 11]) == "50/s planned, 25/s carried"
    assert _carried(case, []) == "0/s planned, 0/s carried"
