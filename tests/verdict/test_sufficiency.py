"""Where there is just enough evidence, and where just too little."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.evidence import histogram
from harness.evidence.model import (
    Evidence,
    Gap,
    Lateness,
    ReadbackPass,
    TallySecond,
    WorkerTally,
)
from harness.verdict import Outcome
from harness.verdict.case import Case
from harness.verdict.sufficiency import (
    all_gaps,
    judge_evidence,
    judge_generator,
    judge_rate,
    late_share,
)
from tests.verdict.build import LAST, T0, Day, plan

PASS, UNKNOWN = Outcome.PASS, Outcome.UNKNOWN
KINDS_OF_GUARDS = ("start", "armed", "end")


def tallied(evidence: Evidence, **fields: Any) -> Case:
    """The run with its one worker's tally changed."""
    [tally] = evidence.tallies
    tally = dataclasses.replace(tally, **fields)
    return Case(plan(), dataclasses.replace(evidence, tallies=(tally,)))


def the_tally() -> WorkerTally:
    return Day().evidence().tallies[0]


def details(case: Case) -> list[str]:
    return [gap.detail for gap in all_gaps(case)]


# ---- gaps ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "ends"), [(5, ""), (6, "; and 1 more"), (9, "; and 4 more")])
def test_five_gaps_are_named_and_of_more_how_many(n: int, ends: str) -> None:
    finding = judge_evidence(tuple(Gap("s", "w", None, f"gap {i}") for i in range(n)))
    assert finding.because.endswith(f"s: gap 4{ends}")
    assert finding.outcome is UNKNOWN
    assert finding.measured is not None
    assert finding.measured.value == n


def test_where_nothing_is_missing_the_evidence_is_complete() -> None:
    finding = judge_evidence(())
    assert (finding.outcome, finding.because) == (PASS, "no gap in any source")
    assert finding.measured is not None
    assert finding.measured.value == 0


def without(kind: str, fault: str = "") -> Day:
    return Day().without(lambda e: e.kind == kind and fault in ("", e.text("fault")))


@pytest.mark.parametrize(
    ("day", "said"),
    [
        (without("experiment.start", "zone"), ["no experiment.start of zone"]),
        (without("experiment.end", "pod"), ["no experiment.end of pod"]),
        (
            without("undo.done", "zone"),
            ["no whole record of the undo of lose_zone"],
        ),
        (without("load.start"), ["no load.start: the load driver did not say"]),
        (without("load.end"), ["no load.end: the load driver did not say"]),
    ],
)
def test_of_faults_and_traffic_beginning_and_end_are_recorded(day: Day, said: list[str]) -> None:
    assert details(Case(plan(), day.evidence())) == said


def test_an_undo_at_a_time_of_no_run_is_no_record_of_it() -> None:
    day = Day()
    day.events = [
        dataclasses.replace(e, t=5e9) if e.kind == "undo.done" and e.text("fault") == "zone" else e
        for e in day.events
    ]
    said = details(Case(plan(), day.evidence()))
    assert said == ["no whole record of the undo of lose_zone"]


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (0, ["0 of 1 workers ended by themselves"]),
        ([], ["0 of 1 workers ended by themselves"]),
        (["w0"], []),
        (1, []),
    ],
)
def test_every_worker_ended_by_itself(ended: object, said: list[str]) -> None:
    day = without("load.end")
    day.say("load", LAST + 1, "load.end", exit_code=0, workers_ended=ended)
    assert details(Case(plan(), day.evidence())) == said


def test_a_worker_that_never_finished_says_no_sum() -> None:
    assert details(tallied(Day().evidence(), end=None)) == []
    end = {"planned": 6300}
    assert details(tallied(Day().evidence(), end=end)) == []


def test_what_an_observer_was_to_watch_it_saw() -> None:
    day = Day()
    subjects = ["dns:files.lab", "dns:other.lab"]
    day.say("watch/dns", -1.4, "watch.start", observer="dns", subjects=subjects)
    assert details(Case(plan(), day.evidence())) == ["dns:other.lab: never seen"]


def test_observers_of_a_run_whose_phases_are_not_known_are_not_said_to_be_silent() -> None:
    nothing = Day().without(lambda e: e.kind.startswith("phase."))
    assert len(details(Case(plan(), nothing.evidence()))) == 8
    unended = Day().without(lambda e: e.kind == "phase.end" and e.text("phase") == "cool-down")
    assert details(Case(plan(), unended.evidence())) == ["started but never ended"]


def test_uploads_are_read_back_in_every_phase_that_was_to_and_each_is_told_of() -> None:
    day = without("run.start")
    day.say("conductor", -2, "run.start", run="r", observers=["dns"], readbacks=["baseline"])
    evidence = day.evidence()

    def said(passes: dict[str, int], told: int) -> list[str]:
        one = dataclasses.replace(evidence.readbacks[0], phase="baseline")
        found = dataclasses.replace(
            evidence,
            passes=tuple(ReadbackPass(phase, 9, n, T0 + 30.0) for phase, n in passes.items()),
            readbacks=(*evidence.readbacks, *[one] * told),
        )
        return details(Case(plan(), found))

    assert said({"baseline": 2}, 2) == []
    assert said({"baseline": 0}, 0) == []
    assert said({"baseline": 2}, 1) == ["2 uploads asked for during baseline, 1 answers"]
    assert said({"baseline": 2}, 3) == ["2 uploads asked for during baseline, 3 answers"]
    assert said({}, 0) == ["no upload was read back during baseline"]
    assert said({"cool-down": 0}, 0) == ["no upload was read back during baseline"]


def test_receivers_that_were_to_listen_are_heard_of() -> None:
    day = without("run.start")
    day.say("conductor", -2, "run.start", run="r", observers=["dns"], receivers=["slack", "mail"])
    day.say("receiver/slack", -1, "receiver.start", receiver="slack")
    [gap] = all_gaps(Case(plan(), day.evidence()))
    assert gap.source == "receiver/mail"
    assert gap.detail == "receiver mail was to listen, and nothing of it is recorded"


def test_stop_conditions_that_nobody_watched_are_a_gap() -> None:
    condition = "\nstop_when: [{file: /srv/STOP}]\nbaseline:"
    guarded = plan(("\nbaseline:", condition))
    day = Day()
    assert details(Case(plan(), day.evidence())) == []
    missing = [f"no guard.{k}: the stop conditions were not watched" for k in KINDS_OF_GUARDS]
    assert details(Case(guarded, day.evidence())) == missing
    for kind in KINDS_OF_GUARDS:
        day.say("guards", 0, f"guard.{kind}")
    assert details(Case(guarded, day.evidence())) == []


def test_a_stop_condition_that_tripped_in_a_run_that_went_on_is_a_gap() -> None:
    for stopped, said in ((None, ["x tripped, and the run was not stopped"]), ("x", [])):
        day = Day(stopped=stopped)
        day.say("guards", 5, "guard.trip", condition="x", why="0.7")
        assert details(Case(plan(), day.evidence())) == said


def test_what_was_in_flight_at_the_end_is_accounted_for() -> None:
    tally = the_tally()
    first = tally.seconds[0]
    one = dataclasses.replace(first.cells[0], n=first.cells[0].n - 1)
    fewer = dataclasses.replace(first, cells=(one, *first.cells[1:]))
    seconds = (fewer, *tally.seconds[1:])
    assert details(tallied(Day().evidence(), seconds=seconds)) == [
        "6300 planned, 6299 accounted for, 0 in flight at the end"
    ]
    end = {**(tally.end or {}), "in_flight": 1}
    assert details(tallied(Day().evidence(), seconds=seconds, end=end)) == []
    end["in_flight"] = "one"
    assert details(tallied(Day().evidence(), seconds=seconds, end=end)) != []


def test_a_tally_that_says_otherwise_than_its_seconds_is_a_gap() -> None:
    end = {**(the_tally().end or {}), "planned": 6299}
    assert details(tallied(Day().evidence(), end=end)) == [
        "says 6299 planned, its seconds add up to 6300"
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"workers": 2}, "tallies of 1 of 2 workers"),
        ({"workers": ["w0", "w1"]}, "no tallies of worker w1"),
        ({"workers": 1}, ""),
        ({"workers": ["w0"]}, ""),
        ({}, ""),
    ],
)
def test_every_worker_that_was_declared_is_there(data: dict[str, Any], said: str) -> None:
    day = Day()
    day.events = [
        dataclasses.replace(e, data=data) if e.kind == "load.start" else e for e in day.events
    ]
    assert any(said in found for found in details(Case(plan(), day.evidence()))) == bool(said)


@pytest.mark.parametrize(
    ("figures", "good"),
    [
        ({"drift_s": 0.03, "uncertainty_s": 0.02, "bound_s": 0.05}, True),
        ({"drift_s": -0.03, "uncertainty_s": 0.02, "bound_s": 0.05}, True),
        ({"drift_s": -0.04, "uncertainty_s": 0.02, "bound_s": 0.05}, False),
        ({"drift_s": 0.04, "uncertainty_s": 0.02, "bound_s": 0.05}, False),
        ({"drift_s": float("nan"), "uncertainty_s": 0.0, "bound_s": 0.05}, False),
        ({"drift_s": 0.0, "uncertainty_s": 0.0}, False),
        ({"drift_s": "0", "uncertainty_s": 0.0, "bound_s": 0.05}, False),
    ],
)
def test_a_worker_s_clock_is_known_to_its_bound(figures: dict[str, Any], good: bool) -> None:
    day = Day()
    day.say("fleet", 1, "worker.clock", worker="w0", **figures)
    found = [gap for gap in all_gaps(Case(plan(), day.evidence())) if gap.what == "clock"]
    assert (not found) == good


@pytest.mark.parametrize("kind", ["worker.lost", "worker.failed", "worker.returned"])
def test_a_worker_that_went_is_a_gap(kind: str) -> None:
    day = Day()
    day.say("fleet", 9, kind, worker="w7", why="silence")
    [gap] = all_gaps(Case(plan(), day.evidence()))
    assert gap.source == "load/w7"
    assert "silence" in gap.detail


@pytest.mark.parametrize(("at", "good"), [(range(0, 129, 5), True), (range(0, 129, 16), False)])
def test_an_observer_is_silent_no_longer_than_three_beats(at: range, good: bool) -> None:
    day = Day().without(lambda e: e.kind == "watch.beat" and e.source == "watch/dns")
    for offset in at:
        day.say("watch/dns", offset, "watch.beat", polls=20, errors=0)
    found = [gap for gap in all_gaps(Case(plan(), day.evidence())) if gap.what == "watch.beat"]
    assert (not found) == good


def test_an_observer_must_be_heard_of_from_the_first_phase_to_the_last() -> None:
    for missing in (range(20), range(LAST - 20, LAST + 9)):
        day = Day().without(
            lambda e, gone=missing: (
                e.source == "watch/dns" and e.kind == "watch.beat" and e.t - T0 in gone
            )
        )
        found = [gap.what for gap in all_gaps(Case(plan(), day.evidence()))]
        assert found == ["watch.beat"], missing


# ---- the rate --------------------------------------------------------------------------------


def cool_down(change: Any) -> tuple[Outcome, str]:
    """ "Planned rate sent" of the ten seconds of the cool-down, each changed so."""
    tally = the_tally()
    seconds = tuple(
        change(second) if second.second >= T0 + 116 else second for second in tally.seconds
    )
    finding = judge_rate(tallied(Day().evidence(), seconds=seconds), "cool-down")
    return finding.outcome, finding.because


def not_sent(n: int) -> Any:
    """Of the 50 arrivals of a second ``n`` were not sent."""

    def change(second: TallySecond) -> TallySecond:
        cell = second.cells[0]
        sent = dataclasses.replace(cell, n=cell.n - n)
        late = dataclasses.replace(cell, n=n, outcome="not_sent", error="generator-late")
        return dataclasses.replace(second, cells=(sent, late, *second.cells[1:]))

    return change


def test_one_in_twenty_may_not_have_been_sent_and_no_more() -> None:
    twenty_four = [0]

    def change(second: TallySecond) -> TallySecond:
        # 25 of 500, then one more.
        n = 2 if second.second % 2 else 3
        return not_sent(n + (second.second == T0 + 116 and twenty_four[0]))(second)

    assert cool_down(change)[0] is PASS
    twenty_four[0] = 1
    outcome, because = cool_down(change)
    assert outcome is UNKNOWN
    assert because == "only 474 of 500 planned arrivals were sent (generator-late × 26)"


def test_the_reasons_for_what_was_not_sent_are_named_if_there_are_any() -> None:
    def change(second: TallySecond) -> TallySecond:
        found: TallySecond = not_sent(10)(second)
        late = dataclasses.replace(found.cells[1], error="")
        return dataclasses.replace(found, cells=(found.cells[0], late, *found.cells[2:]))

    assert cool_down(change)[1].endswith("(no reason × 100)")


def test_three_reasons_for_what_was_not_sent_are_named_the_commonest_first() -> None:
    def change(second: TallySecond) -> TallySecond:
        found: TallySecond = not_sent(10)(second)
        of = dict(zip("abcd", (4, 3, 2, 1), strict=True))
        late = [dataclasses.replace(found.cells[1], n=n, error=why) for why, n in of.items()]
        return dataclasses.replace(found, cells=(found.cells[0], *late, *found.cells[2:]))

    assert cool_down(change)[1].endswith("(a × 40, b × 30, c × 20)")


def test_what_was_sent_is_measured_as_a_share_of_what_was_planned() -> None:
    seconds = tuple(not_sent(1)(second) for second in the_tally().seconds)
    finding = judge_rate(tallied(Day().evidence(), seconds=seconds), "cool-down")
    assert finding.measured is not None
    assert (finding.measured.value, finding.measured.unit) == (0.98, "of planned")
    nothing = judge_rate(tallied(Day().evidence(), seconds=()), "cool-down")
    assert nothing.outcome is UNKNOWN
    assert nothing.measured is not None
    assert nothing.measured.value == 0


def off(n: int, workers: int = 1, arrivals: str = "even") -> Outcome:
    """Of the cool-down's arrivals ``n`` were not planned; each worker has a share of the rest."""
    day = Day()
    evidence = day.evidence()
    tally = evidence.tallies[0]
    ten = [*range(T0 + 116, T0 + 126)]
    each = [divmod(500 - n, 10 * workers)[0]] * (10 * workers)
    each[0] += 500 - n - sum(each)
    tallies = []
    for index in range(workers):
        planned = dict(zip(ten, each[10 * index :], strict=False))
        seconds = tuple(
            dataclasses.replace(
                s,
                planned=planned[s.second],
                cells=(day.cell("download", "us-east-1a", planned[s.second]),),
            )
            for s in tally.seconds
            if s.second in planned
        )
        tallies.append(dataclasses.replace(tally, worker=f"w{index}", seconds=seconds))
    given = plan(("arrivals: even", f"arrivals: {arrivals}"))
    return judge_rate(
        Case(given, dataclasses.replace(evidence, tallies=tuple(tallies))), "cool-down"
    ).outcome


@pytest.mark.parametrize(
    ("workers", "arrivals", "most"),
    # Five times the square root of 500 is 111.8.
    [(1, "even", 2), (2, "even", 4), (3, "even", 6), (1, "poisson", 111), (3, "poisson", 111)],
)
def test_arrivals_may_stray_from_the_schedule_by_so_many(
    workers: int, arrivals: str, most: int
) -> None:
    for n, outcome in ((most, PASS), (-most, PASS), (most + 1, UNKNOWN), (-most - 1, UNKNOWN)):
        assert off(n, workers, arrivals) is outcome, n


def test_arrivals_may_be_two_off_an_even_schedule_and_no_more() -> None:
    def fewer(n: int) -> tuple[Outcome, str]:
        def change(second: TallySecond) -> TallySecond:
            gone = n if second.second == T0 + 116 else 0
            cell = dataclasses.replace(second.cells[0], n=second.cells[0].n - gone)
            cells = (cell, *second.cells[1:])
            return dataclasses.replace(second, planned=second.planned - gone, cells=cells)

        return cool_down(change)

    assert fewer(2)[0] is PASS
    assert fewer(3) == (
        UNKNOWN,
        "497 arrivals planned where the schedule says 500 ± 2: the generator was stopped or slowed",
    )


def test_more_outcomes_than_arrivals_are_no_traffic_that_was_sent() -> None:
    def more(second: TallySecond) -> TallySecond:
        return dataclasses.replace(second, cells=(*second.cells, second.cells[-1]))

    assert cool_down(more) == (UNKNOWN, "520 outcomes of 500 arrivals")


@pytest.mark.parametrize(("ended", "outcome"), [(123.0, PASS), (122.0, UNKNOWN)])
def test_a_phase_may_be_a_tenth_and_two_seconds_shorter_than_planned(
    ended: float, outcome: Outcome
) -> None:
    day = Day()
    day.events = [
        dataclasses.replace(e, t=T0 + ended)
        if e.kind == "phase.end" and e.text("phase") == "cool-down"
        else e
        for e in day.events
    ]
    finding = judge_rate(Case(plan(), day.evidence()), "cool-down")
    assert finding.outcome is outcome, finding.because
    if outcome is UNKNOWN:
        assert finding.because == "the phase lasted 6 s of 10 s planned"


@pytest.mark.parametrize(("rate", "outcome"), [(10, PASS), (9, UNKNOWN)])
def test_a_hundred_arrivals_are_enough(rate: int, outcome: Outcome) -> None:
    tally = the_tally()
    seconds = tuple(
        dataclasses.replace(s, planned=rate, cells=(dataclasses.replace(s.cells[0], n=rate),))
        for s in tally.seconds
    )
    evidence = dataclasses.replace(
        Day().evidence(), tallies=(dataclasses.replace(tally, seconds=seconds),)
    )
    small = plan(("rate: 50/s", f"rate: {rate}/s"))
    finding = judge_rate(Case(small, evidence), "cool-down")
    assert finding.outcome is outcome, finding.because


# ---- the generator ---------------------------------------------------------------------------


#: What the generator of a :class:`Day` sends.
SENT = 6300


def late(n: int, of: int = 1000) -> Case:
    """``n`` of so many sends were a second late, all told in the first second of the run."""
    on_time, too_late = histogram.index_of(500), histogram.index_of(1_000_000)
    found = {key: 10 * count for key, count in ((on_time, of - n), (too_late, n)) if count}
    return tallied(Day().evidence(), lateness=(Lateness(T0 + 1.0, found),))


@pytest.mark.parametrize(
    ("n", "outcome", "held"),
    [(0, PASS, True), (9, PASS, True), (11, PASS, False), (49, PASS, False)],
)
def test_one_send_in_twenty_may_be_late(n: int, outcome: Outcome, held: bool) -> None:
    finding = judge_generator(late(n))
    assert finding.outcome is outcome, finding.because
    assert ("held against" not in finding.because) == held
    assert finding.measured is not None
    assert finding.measured.value == pytest.approx(n / 1000)


@pytest.mark.parametrize(("late_us", "value"), [(40_000, 0.0), (60_000, 1.0)])
def test_a_send_is_late_from_fifty_milliseconds_on(late_us: int, value: float) -> None:
    lateness = (Lateness(T0 + 1.0, {histogram.index_of(late_us): SENT}),)
    found = tallied(Day().evidence(), lateness=lateness)
    finding = judge_generator(found)
    assert finding.measured is not None
    assert finding.measured.value == late_share(found, range(T0, T0 + 5)) == value


def test_more_than_that_is_too_late_and_none_recorded_is_not_known() -> None:
    assert judge_generator(late(51)).outcome is UNKNOWN
    nothing = judge_generator(tallied(Day().evidence(), lateness=()))
    assert (nothing.outcome, nothing.because) == (UNKNOWN, "no lateness was recorded")
    assert nothing.measured is None


@pytest.mark.parametrize(
    ("seconds", "share"),
    [
        (range(T0, T0 + 5), 0.02),
        (range(T0 + 1, T0 + 5), 0.02),
        (range(T0 + 2, T0 + 5), 0.0),
        (range(T0 - 5, T0), 0.02),
        (range(T0 - 5, T0 - 1), 0.0),
        (range(T0, T0), 0.0),
    ],
)
def test_lateness_counts_in_the_seconds_it_was_reported_for(seconds: range, share: float) -> None:
    assert late_share(late(20), seconds) == pytest.approx(share)


@pytest.mark.parametrize(
    ("lateness", "outcome", "because"),
    [
        ((), UNKNOWN, "no lateness was recorded of 6300 of 6300 sends of worker w1"),
        (
            (Lateness(T0 + 1.0, {}),),
            UNKNOWN,
            "no lateness was recorded of 6300 of 6300 sends of worker w1",
        ),
        (
            (Lateness(T0 + 1.0, {0: 6000}), Lateness(T0 + 2.0, {0: 236})),
            UNKNOWN,
            "no lateness was recorded of 64 of 6300 sends of worker w1",
        ),
        (
            (Lateness(T0 + 1.0, {0: 6000}), Lateness(T0 + 2.0, {0: 237})),
            PASS,
            "0.00% of the sends were over 50 ms late",
        ),
    ],
)
def test_every_generator_that_sent_something_says_how_late(
    lateness: tuple[Lateness, ...], outcome: Outcome, because: str
) -> None:
    one = the_tally()
    evidence = Day().evidence()

    def said(seconds: tuple[TallySecond, ...]) -> tuple[Outcome, str]:
        other = dataclasses.replace(one, worker="w1", lateness=lateness, seconds=seconds)
        both = dataclasses.replace(evidence, tallies=(one, other))
        finding = judge_generator(Case(plan(), both))
        return finding.outcome, finding.because

    assert said(one.seconds) == (outcome, because)
    none_sent = tuple(
        dataclasses.replace(
            s, cells=tuple(dataclasses.replace(c, outcome="not_sent") for c in s.cells)
        )
        for s in one.seconds
    )
    assert said(none_sent)[0] is PASS
    # Of one second that was sent, whatever was told is enough.
    told = any(report.late for report in lateness)
    assert said((*none_sent, one.seconds[0]))[0] is (PASS if told else UNKNOWN)
    assert said(())[0] is PASS
