"""Look-ups in a run's evidence: whose seconds are whose, what was seen, and who was looking."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import pytest

from harness.evidence.model import (
    Event,
    FaultRecord,
    Gap,
    PhaseSpan,
    Sighting,
    TallyCell,
    TallySecond,
    WorkerTally,
)
from harness.evidence.run import evidence_from
from harness.plan.model import Plan
from harness.plan.recording import Recording
from harness.verdict.case import Case, Scope, finite, mentions, number_of, uids_of
from tests.verdict.build import EAST, T0, WEST, A, B, C, Day, plan

EMPTY = evidence_from(run="r", events=[], tallies=[], ledger=[], readbacks=[], series={}, gaps=[])


def case(by: Plan | None = None, **evidence: Any) -> Case:
    """A run of which nothing is recorded but this."""
    return Case(by or plan(), dataclasses.replace(EMPTY, **evidence))


def tally(*offsets: int, zone: str = "", worker: str = "w0", **start: Any) -> WorkerTally:
    """One arrival in each of some seconds."""
    cells = (TallyCell("download", "", zone, "ok", "", 1, 0, {}, {}, {}),)
    seconds = tuple(TallySecond(T0 + offset, 1, cells) for offset in offsets)
    return WorkerTally(worker, start, seconds, (), None)


def seen(subject: str, offset: float, value: Any, uncertainty_s: float = 0.25) -> Sighting:
    source = f"watch/{subject.partition(':')[0]}"
    return Sighting(source, subject, value, T0 + offset, uncertainty_s)


def told(source: str, offset: float, kind: str, **data: Any) -> Event:
    return Event(source, 0, T0 + offset, offset, kind, data, 0)


# ---- the target as it was described -------------------------------------------------------------


@pytest.mark.parametrize(
    ("described", "interval_s"),
    [({}, 1.0), ({"scrape_interval_s": 15}, 15.0), ({"scrape_interval_s": 0.5}, 0.5)]
    + [({"scrape_interval_s": wrong}, 1.0) for wrong in (0, -5, "15", None)],
)
def test_prometheus_scrapes_as_often_as_the_target_says_or_every_second(
    described: dict[str, Any], interval_s: float
) -> None:
    with_it = plan().with_recorded(target_description=described)
    assert case(with_it).scrape_interval_s == interval_s
    assert case(with_it).target == described


def test_a_target_that_nobody_described_has_the_names_of_the_plan() -> None:
    names = {"service": "http://files.lab:8080", "primary": EAST, "standby": WEST}
    assert case().target == names
    assert case(plan().with_recorded(target_description="lab")).target == names


@pytest.mark.parametrize("clusters", [None, "none", [], ["east"], [{"name": "x", "zone": "other"}]])
def test_a_cluster_that_nobody_described_is_called_as_its_zone(clusters: object) -> None:
    described = plan().with_recorded(target_description={"clusters": clusters})
    assert case(described).cluster_of(A) == A
    named = [{"zone": B, "name": "b"}, "text", {"zone": A, "name": "east-a"}, {"zone": A}]
    described = plan().with_recorded(target_description={"clusters": named})
    assert case(described).cluster_of(A) == "east-a"
    assert (
        case(plan().with_recorded(target_description={"clusters": [{"zone": A}]})).cluster_of(A)
        == A
    )


def test_zones_are_named_by_traffic_observers_or_the_description() -> None:
    clusters = [{"zone": "d"}, {"name": "none"}, "text"]
    found = case(
        plan().with_recorded(target_description={"clusters": clusters}),
        tallies=(tally(0, zone="c"), tally(0, zone="")),
        sightings=(seen("targets:b", 0, {}), seen("targets:", 0, {}), seen("nodes:x", 0, {})),
    )
    assert found.zones == ("b", "c", "d")
    assert case(plan().with_recorded(target_description={"clusters": "d"})).zones == ()


# ---- phases -------------------------------------------------------------------------------------

Span = tuple[str, float, float | None]


def phased(*spans: Span) -> Case:
    """Phases called by their kind, and a letter where there are several of it."""
    phases = tuple(
        PhaseSpan(name, name.rstrip("ab"), None, T0 + start, None if end is None else T0 + end)
        for name, start, end in spans
    )
    return case(phases=phases, tallies=(tally(0, 60),))


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([("baseline", 0, 10), ("fault", 10, 20)], {"baseline": (0, 10), "fault": (10, 20)}),
        # What only the traffic outside shares with a phase is nobody's.
        ([("baseline", 0.4, 10.6)], {"baseline": (1, 10)}),
        # A second shared goes to the fault, whether it ends or begins in it; else to the later.
        (
            [("baseline", 0, 10.4), ("fault", 10.4, 20.4), ("recovery", 20.4, 30.6)],
            {"baseline": (0, 10), "fault": (10, 21), "recovery": (21, 30)},
        ),
        (
            [("recovery", 0, 10.4), ("cool-down", 10.4, 20)],
            {"recovery": (0, 10), "cool-down": (10, 20)},
        ),
        ([("faulta", 0, 10.4), ("faultb", 10.4, 20)], {"faulta": (0, 10), "faultb": (10, 20)}),
        (
            [("fault", 10.2, 10.6), ("recovery", 10.6, 20)],
            {"fault": (11, 11), "recovery": (11, 20)},
        ),
        # Each lasts until the next begins.
        (
            [("baseline", 0, 10.4), ("recovery", 12.3, 20)],
            {"baseline": (0, 12), "recovery": (12, 20)},
        ),
        (
            [("baseline", 0, 5), ("faulta", 5, 10), ("recovery", 10.4, 20), ("faultb", 22.3, 30)],
            {"baseline": (0, 5), "faulta": (5, 11), "recovery": (11, 22), "faultb": (22, 30)},
        ),
        # Of one that did not end, or at no time of the run, none is known.
        ([("baseline", 0, 10), ("fault", 10, None)], {"baseline": (0, 10), "fault": (0, 0)}),
        ([("baseline", -5000, 10), ("fault", 10, 20)], {"baseline": (0, 0), "fault": (10, 20)}),
        ([("baseline", 0, 10), ("fault", 10, 9000)], {"baseline": (0, 10), "fault": (0, 0)}),
        # Of one that ran twice the first counts.
        ([("fault", 0, 5), ("recovery", 5, 9), ("fault", 9, 20)], {"fault": (0, 5)}),
        ([("fault", 20, 10)], {"fault": (20, 20)}),
        ([], {"baseline": (0, 0)}),
    ],
)
def test_every_whole_second_is_of_one_phase(
    spans: list[Span], seconds: dict[str, tuple[int, int]]
) -> None:
    found = phased(*spans)
    for name, (start, stop) in seconds.items():
        expected = range(T0 + start, T0 + stop) if stop > start else range(0)
        assert found.seconds(name) == expected, name


def test_instants_of_the_run_lie_within_an_hour_of_what_was_counted() -> None:
    found = case(tallies=(tally(0, 1, 10),))
    assert found.is_of_this_run(T0 - 3600, T0 + 10 + 3600)
    assert not found.is_of_this_run(T0 - 3600.5)
    assert not found.is_of_this_run(T0 + 10 + 3600.5)
    assert not found.is_of_this_run(T0, 0.0)
    assert case().is_of_this_run(0.0, 5e9)


def test_a_phase_ran_if_it_ran_at_a_time_of_this_run() -> None:
    found = phased(("baseline", 0, 10), ("fault", 10, None), ("recovery", -5000, 10))
    span = found.span("baseline")
    assert span is not None and (span.start_t, span.end_t) == (T0, T0 + 10)
    assert (begun := found.span("fault")) is not None and begun.end_t is None
    assert found.span("recovery") is None
    assert phased(("fault", 10, 9000)).span("fault") is None
    assert found.span("cool-down") is None


def test_a_run_without_some_seconds_is_otherwise_the_same() -> None:
    whole = case(
        tallies=(tally(0, 1, 2), tally(1, 2, worker="w1")), gaps=(Gap("g", "w", None, ""),)
    )
    less = whole.without(frozenset({T0 + 1}))
    assert less.by_second.seconds() == [T0, T0 + 2]
    assert less.by_second.at(T0 + 2).ok == 2
    assert less.evidence.gaps == whole.evidence.gaps


# ---- the schedule -------------------------------------------------------------------------------


def test_nothing_is_due_in_no_time_whoever_says_when_it_began() -> None:
    shaped = plan(("rate: 50/s", "rate: 50/s for 40s, then 100/s"))
    for start, end in ((0, 0), (5, 3)):
        assert case().due(T0 + start, T0 + end) == 0.0
        assert case(shaped).due(T0 + start, T0 + end) == 0.0
    assert case().due(T0, T0 + 2.5) == 125
    with pytest.raises(ValueError, match="no generator says when"):
        case(shaped).due(T0, T0 + 1)


def test_a_schedule_began_when_its_generators_say_so() -> None:
    tallies = (tally(start_t=T0 + 1), tally(start_t="soon"), tally(), tally(start_t=T0 + 2.5))
    assert case(tallies=tallies).schedules_begun == (T0 + 1, T0 + 2.5)


def test_what_a_recording_plans_within_a_second_may_lie_on_either_side_of_an_edge() -> None:
    per_second = [10] * 60
    per_second[40] = 20
    recording = Recording("f", "0", "common", 1.0, ("GET",), 610, 60, 0, {}, tuple(per_second))
    traffic = dataclasses.replace(plan().traffic, recording=recording, arrivals="recorded")
    replayed = dataclasses.replace(plan(), traffic=traffic)
    evidence = Day().evidence()
    tallies = (tally(0, 60, start_t=T0 - 0.5), tally(start_t=T0 - 0.25))
    evidence = dataclasses.replace(evidence, tallies=tallies)
    # At each edge the generator that is further from a whole second: ¾ of 10 and of 20.
    assert Case(replayed, evidence).recorded_at_edges("baseline") == 7.5 + 15
    assert Case(plan(), evidence).recorded_at_edges("baseline") == 0.0


# ---- faults -------------------------------------------------------------------------------------


def action(fault: str, undo: float | None = None, **more: Any) -> FaultRecord:
    undo_t = None if undo is None else T0 + undo
    return FaultRecord(fault, "a", more.pop("targets", ()), None, T0 + 1, more, undo_start_t=undo_t)


@pytest.mark.parametrize(
    ("fault", "undone", "start"),
    [
        ("zone", [9, 7, None, 8], 7),
        ("zone", [None], 10),
        ("zone", [], 10),
        ("zone", [9000, 8], 8),
        ("zone", [9000], 10),
        # Nothing of killed pods is taken back; what is written down as their undo is not one.
        ("pod", [7], 10),
        ("region", [7], 7),
    ],
)
def test_a_fault_is_taken_back_from_its_first_undo_or_to_the_end_of_its_phase(
    fault: str, undone: list[float | None], start: float
) -> None:
    span = PhaseSpan(f"fault:{fault}", "fault", fault, T0 + 0, T0 + 10)
    faults = tuple(action(fault, undo) for undo in undone)
    found = case(phases=(span,), faults=faults, tallies=(tally(0, 60, zone=A),))
    assert found.undo_start(fault) == T0 + start
    assert case(faults=()).undo_start(fault) is None


def scope(
    experiment: str,
    known: tuple[str, ...] = (A, B, C),
    sightings: Iterable[Sighting] = (),
    **data: Any,
) -> Scope:
    """What an experiment with these targets takes away."""
    faults = tuple(
        dataclasses.replace(fault, experiment=experiment) if fault.name == "zone" else fault
        for fault in plan().faults
    )
    found = case(
        dataclasses.replace(plan(), faults=faults),
        tallies=tuple(tally(0, zone=zone) for zone in known),
        sightings=tuple(sightings),
        faults=(action("zone", **data),),
    )
    return found.scope("zone")


PODS = (seen("pods:x", 0, {"uids": ["uid-1", "uid-2"]}), seen("pods:x", 9, {"uids": ["uid-3"]}))


@pytest.mark.parametrize(
    ("experiment", "data", "expected"),
    [
        ("experiments/delivery/x.json", {"zones": [A]}, Scope("delivery", (A,))),
        ("experiments/pods/x.json", {"zones": [A]}, Scope("pods", (A,))),
        ("experiments/pod/x.json", {}, Scope("pods")),
        ("experiments/services/x.json", {"zones": [A, C]}, Scope("service", (A, C))),
        ("experiments/zones/x.json", {"zones": [A, B]}, Scope("zone", (A, B))),
        (f"experiments/zones/lose-{A}.json", {"zones": [A, B]}, Scope("zone", (A,))),
        ("experiments/region/x.json", {"zones": [A]}, Scope("region", (), (EAST,))),
        ("experiments/regions/x.json", {}, Scope("region", (), (EAST,))),
        # Elsewhere it is told by what was hit: pods, else zones, else regions.
        ("mine/x.json", {"targets": ("uid-3",), "zones": [A]}, Scope("pods", (A,))),
        ("mine/x.json", {"targets": ("file uid-1", "other")}, Scope("pods")),
        ("mine/x.json", {"targets": ("node-1",), "zones": [A]}, Scope("zone", (A,))),
        (f"mine/{B}.json", {}, Scope("zone", (B,))),
        ("mine/x.json", {"region": WEST}, Scope("region", (), (WEST,))),
        ("mine/x.json", {"region": f"{WEST}, {EAST}"}, Scope("region", (), (EAST, WEST))),
        ("mine/x.json", {"region": "us-east-11"}, Scope("other")),
        ("mine/x.json", {}, Scope("other")),
        ("x.json", {}, Scope("other")),
    ],
)
def test_what_a_fault_takes_away_is_told_by_its_folder_or_by_what_it_hit(
    experiment: str, data: dict[str, Any], expected: Scope
) -> None:
    assert scope(experiment, sightings=PODS, **data) == expected


def test_a_zone_of_which_nothing_is_known_is_none() -> None:
    assert scope(f"experiments/zones/lose-{A}.json", ()) == Scope("other")
    assert scope("experiments/zones/x.json", region=WEST) == Scope("region", (), (WEST,))


# ---- what was seen ------------------------------------------------------------------------------


def test_the_services_name_is_the_subject_that_holds_it() -> None:
    others = (
        seen("dns:other.lab", 0, []),
        seen("dns:z.files.lab", 0, []),
        seen("db:files.lab", 0, 1),
    )
    assert case(sightings=others).dns_subject() == "dns:z.files.lab"
    assert case(sightings=others[:1]).dns_subject() == "dns:files.lab"


HEALTHY = (
    seen("targets:a", -5, 2),
    seen("targets:b", -4, 2),
    seen("targets:a", 10, 0, 0.5),
    seen("targets:b", 12, 0, 0.5),
    seen("nodes:b", 13, 0),
    seen("targets:a", 20, 2, 0.5),
)


@pytest.mark.parametrize(
    ("n", "after", "found"),
    [
        (4, 0, (0, 0.0)),
        (2, 0, (10, 0.5)),
        (0, 0, (12, 0.5)),
        # Not from before the instant that is asked about.
        (2, 9.9, (10, 0.1)),
        (2, 10, (10, 0.0)),
        (2, 13, (20, 0.5)),
        (0, 15, (15, 0.0)),
        (4, 15, None),
        (1, 0, None),
    ],
)
def test_what_is_seen_of_several_holds_from_the_sighting_that_makes_it_hold(
    n: int, after: float, found: tuple[float, float] | None
) -> None:
    run = case(sightings=HEALTHY)
    first = run.first("targets:", lambda state: sum(state.values()) == n, T0 + after)
    assert (first is None) == (found is None)
    if first is not None and found is not None:
        assert first == pytest.approx((T0 + found[0], found[1]), abs=1e-6, rel=0)


def test_what_nobody_had_seen_by_then_does_not_hold_yet() -> None:
    run = case(sightings=(seen("targets:a", 10, 0, 0.5),))
    assert run.first("targets:", lambda _: True, T0 + 5) == (T0 + 10, 0.5)
    assert run.first("dns:", lambda _: True, T0 + 5) is None


def test_the_last_value_is_the_one_seen_by_then() -> None:
    run = case(sightings=HEALTHY)
    assert [run.last("targets:a", T0 + t) for t in (-6, -5, 9, 10, 19, 20)] == [
        *(None, 2, 2, 0, 0, 2)
    ]


# ---- who was looking ----------------------------------------------------------------------------


def beats(source: str, *offsets: float) -> tuple[Event, ...]:
    return tuple(told(source, offset, "watch.beat") for offset in offsets)


@pytest.mark.parametrize(
    ("offsets", "silent_s"),
    [
        ((0, 10, 20, 30), None),
        ((0, 15, 30), None),
        ((0, 15.5, 30), "16"),
        ((0, 10, 26, 30), "16"),
        # It may have begun before and gone on after.
        ((0, 9, 24.5, 30), "16"),
        ((-6, 10, 20, 30), "16"),
        ((-6, 0, 10, 20, 30), None),
        ((0, 10, 20, 36), "16"),
        ((0, 10, 20, 30, 50), None),
        ((-20, 10, 20, 30), "30"),
        # Nobody knows of the time before its first and after its last, but of that between.
        ((4, 15, 26), None),
        ((16, 30), "16"),
        ((0, 14), "16"),
        ((), "30"),
    ],
)
def test_an_observer_is_silent_when_it_misses_three_beats(
    offsets: tuple[float, ...], silent_s: str | None
) -> None:
    events = (*beats("watch/dns", *offsets), *beats("watch/pods", *range(-5, 40, 5)))
    events = (*events, told("watch/dns", 8, "watch.start"), told("watch/dns", 23, "sighting"))
    silence = case(events=events).silence("watch/dns", T0, T0 + 30)
    assert silence == ("" if silent_s is None else f"watch/dns was silent for {silent_s} s")


def watched(subject: str = "dns:files", *sightings: Sighting, **evidence: Any) -> Case:
    """Somebody watched a subject from 5 s before 0 to 35."""
    stem = subject.partition(":")[0]
    events = (
        told("conductor", -9, "run.start", observers=evidence.pop("observers", [stem])),
        *beats(f"watch/{stem}", *range(-5, 40, 5)),
        *evidence.pop("events", ()),
    )
    return case(events=events, sightings=(seen(subject, -4, "ok"), *sightings), **evidence)


def not_watched(run: Case, prefix: str = "dns:") -> str:
    return run.not_watched(prefix, T0, T0 + 30)


def test_what_was_looked_at_all_the_time_was_watched() -> None:
    assert not_watched(watched()) == ""
    gap = Gap("watch/pods", "seq", None, "")
    assert not_watched(watched(gaps=(gap,))) == ""
    assert not_watched(watched(observers=["dns", "pods"])) == ""
    assert not_watched(watched(observers=None)) == ""


@pytest.mark.parametrize(
    ("values", "blind"),
    [
        ({15: "ok"}, False),
        ({0: "unknown"}, True),
        ({15: "unknown", 15.5: "ok"}, True),
        ({30: "unknown"}, True),
        ({30.5: "unknown"}, False),
        ({-1: "unknown"}, True),
        ({-1: "unknown", 0: "ok"}, False),
        ({-1: "unknown", 0.5: "ok"}, True),
    ],
)
def test_what_could_not_be_seen_for_a_time_was_not_watched(
    values: dict[float, str], blind: bool
) -> None:
    run = watched("dns:files", *(seen("dns:files", t, value) for t, value in values.items()))
    assert not_watched(run) == ("dns:files could not be seen for a time" if blind else "")


def test_what_nobody_watched_was_not_watched() -> None:
    assert not_watched(watched(), "targets:") == "nobody watched targets:"


@pytest.mark.parametrize(
    ("subject", "observer"),
    [("dns:files", "dns"), ("db:files", "databases-west"), ("hpa:image", "watch/autoscalers")],
)
def test_what_one_of_several_observers_that_never_spoke_would_have_seen_is_not_known(
    subject: str, observer: str
) -> None:
    stem = subject.partition(":")[0]
    run = watched(subject, observers=[stem, "pods", observer])
    if observer == "dns":
        run = watched(subject, observers=["dns-west"])
        observer = "dns-west"
    why = f"nothing of watch/{observer.removeprefix('watch/')} is recorded"
    assert not_watched(run, f"{stem}:") == why


def test_an_observer_with_a_gap_or_a_silence_was_not_looking() -> None:
    gap = Gap("watch/dns", "seq", None, "")
    assert not_watched(watched(gaps=(gap,))) == "evidence of watch/dns is incomplete"
    silent = case(events=beats("watch/dns", -5, 30), sightings=(seen("dns:files", -4, "ok"),))
    assert not_watched(silent) == "watch/dns was silent for 35 s"


def test_observers_are_those_that_the_run_declared() -> None:
    events = (
        told("conductor", 0, "run.start", observers=["dns", "watch/pods"]),
        told("conductor", 0, "run.start"),
        told("conductor", 0, "phase.start", observers=["nodes"]),
    )
    assert case(events=events).observers == {"watch/dns", "watch/pods"}


# ---- values -------------------------------------------------------------------------------------


def test_a_name_stands_in_a_text_only_as_a_name_of_its_own() -> None:
    for text in ("us-east-1", "lose-us-east-1.json", "a us-east-1, b", "(us-east-1)"):
        assert mentions(text, "us-east-1")
    for text in (
        "us-east-1a",
        "us-east-11",
        "xus-east-1",
        "1us-east-1",
        "us-east",
        "",
        "usxeast-1",
    ):
        assert not mentions(text, "us-east-1")


@pytest.mark.parametrize(
    ("value", "uids"),
    [({"uids": ["a", 1]}, {"a", "1"}), ({"uids": "a"}, set()), ({}, set()), ("unknown", set())],
)
def test_uids_are_those_of_a_list(value: object, uids: set[str]) -> None:
    assert uids_of(value) == uids


def test_a_number_is_one_only_where_it_is_finite_or_was_written_as_one() -> None:
    assert [finite(text) for text in ("1.5", "-2", "NaN", "+Inf", "many")] == [
        *(1.5, -2.0, None, None, None)
    ]
    assert number_of({"n": 3}, "n") == 3.0
    assert number_of({"n": math.inf}, "n") == math.inf
    assert [number_of(value, "n") for value in ({"n": "3"}, {}, "unknown", [3])] == [None] * 4
