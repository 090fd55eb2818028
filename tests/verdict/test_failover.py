"""The way over to the standby and back again: each step with its instant, missing, or unseen."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from harness.evidence.model import Event, Evidence, Gap
from harness.plan.model import Failback, Failover, Plan
from harness.verdict import Outcome
from harness.verdict.case import Case
from harness.verdict.failover import (
    Way,
    _answers,
    _first_success,
    _first_write,
    _has_databases,
    _primary_in,
    expected_s,
    failback,
    failover,
    judge_failback,
    judge_failover,
)
from harness.verdict.landing import Landing, landing
from harness.verdict.model import Finding, Measured, Step
from tests.verdict.build import EAST, T0, WEST, A, B, C, Day, plan

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
#: The fault is made from 76.5 to 76.55 and taken back from 95.6 to 95.7; watched until 116.
LOW, HIGH, UNDO, UNDONE, END = 76.5, 76.55, 95.6, 95.7, 116
LANDED = Landing("region", T0 + LOW, T0 + HIGH, ("dns",), "")
OVER = ["landed", "health_check_red", "dns_changed", "first_success", "db_promoted", "db_writable",
        "holds"]  # fmt: skip
BACK = ["restored", "db_back", "health_check_green", "dns_back", "success_back", "holds"]


@functools.cache
def evidence_of() -> Evidence:
    return Day().evidence()


def case_of(day: Day | Evidence, given: Plan | None = None, **changes: Any) -> Case:
    evidence = day.evidence() if isinstance(day, Day) else day
    return Case(given or plan(), dataclasses.replace(evidence, **changes))


def over(day: Day | Evidence, given: Plan | None = None, **changes: Any) -> Way:
    found = failover(case_of(day, given, **changes), LANDED)
    assert found is not None
    return found


def back(day: Day | Evidence, given: Plan | None = None, **changes: Any) -> Way:
    found = failback(case_of(day, given, **changes), LANDED)
    assert found is not None
    return found


def step(way: Way, name: str) -> Step:
    (found,) = (s for s in way.steps if s.step == name)
    assert (found.fault, found.part) == (way.fault, way.part)
    return found


def names(steps: tuple[Step, ...]) -> list[str]:
    return [found.step for found in steps]


def told(way: Way) -> dict[str, tuple[float, ...]]:
    """Of each step: its instant, how much earlier it may have been, and what it counts from."""
    return {
        s.step: (s.t - T0, s.uncertainty_s, s.after_s)
        for s in way.steps
        if s.t is not None and s.after_s is not None
    }


def unheard(day: Day, *observers: str) -> Evidence:
    """The day, on which these fell silent once the fault had landed."""
    silent = {f"watch/{observer}" for observer in observers}
    return day.without(lambda e: e.source in silent and e.t > T0 + 75).evidence()


# ---- each step ---------------------------------------------------------------------------------


def test_each_step_has_its_instant_and_how_much_earlier_it_may_have_been() -> None:
    way = over(evidence_of())
    assert (way.from_low, way.from_high, way.until_t) == (T0 + LOW, T0 + HIGH, T0 + UNDO)
    assert (way.fault, way.part, way.missing, way.unseen) == ("region", "failover", (), ())
    expected = {
        "landed": (76.55, 0.05, 0.05),
        "health_check_red": (78.5, 0.25, 2.0),
        "dns_changed": (79.5, 0.25, 3.0),
        # 99 in 100 times the request before was sent no more than 4.6 mean gaps earlier.
        "first_success": (80.1, 4.6 / 50, 3.6),
        "db_promoted": (80.5, 0.25, 4.0),
        # The last write in vain was due at 79.25.
        "db_writable": (81.1, 1.85, 4.6),
        "holds": (80.0, 1.0, 3.5),
    }
    for name, (t, uncertainty_s, after_s) in expected.items():
        assert told(way)[name] == pytest.approx((t, uncertainty_s, after_s), abs=1e-3), name
    assert names(way.steps) == list(expected) == OVER


def test_each_step_back_counts_from_the_undo() -> None:
    way = back(evidence_of())
    assert (way.from_low, way.from_high, way.until_t) == (T0 + UNDO, T0 + UNDONE, T0 + END)
    assert (way.fault, way.part, way.missing, way.unseen) == ("region", "failback", (), ())
    expected = {
        "restored": (95.7, 0.1, 0.1),
        "db_back": (97.0, 0.25, 1.4),
        "health_check_green": (97.0, 0.25, 1.4),
        "dns_back": (98.5, 0.25, 2.9),
        "success_back": (99.1, 4.6 / 50, 3.5),
        "holds": (95.6, 0.0, 0.0),
    }
    for name, (t, uncertainty_s, after_s) in expected.items():
        assert told(way)[name] == pytest.approx((t, uncertainty_s, after_s), abs=1e-3), name
    assert names(way.steps) == list(expected) == BACK


def never(subject: str, *, after: float = 75) -> Day:
    """The day, had nobody seen anything of ``subject`` any more, though they looked."""
    return Day().without(
        lambda e: e.kind == "sighting" and e.text("subject") == subject and e.t > T0 + after
    )


@pytest.mark.parametrize(
    ("subject", "name", "because"),
    [
        (f"health_check:{EAST}", "health_check_red", "never turned red"),
        ("dns:files.lab", "dns_changed", "never changed to us-west-2: DNS never fails over"),
        ("db:files-west", "db_promoted", "was never promoted"),
    ],
)
def test_a_step_that_was_watched_for_and_did_not_happen_is_missing(
    subject: str, name: str, because: str
) -> None:
    way = over(never(subject))
    assert (names(way.missing), way.unseen) == ([name], ())
    found = step(way, name)
    assert because in found.because
    assert (found.t, found.after_s, found.uncertainty_s) == (None, None, 0.0)
    assert names(way.steps) == OVER


@pytest.mark.parametrize(
    ("subject", "name", "because"),
    [
        (f"health_check:{EAST}", "health_check_green", "never turned green"),
        ("dns:files.lab", "dns_back", f"never changed back to {EAST}"),
        ("db:files-west", "db_back", f"never came back to {EAST}"),
    ],
)
def test_a_step_back_that_was_watched_for_and_did_not_happen_is_missing(
    subject: str, name: str, because: str
) -> None:
    way = back(never(subject, after=95))
    assert (names(way.missing), way.unseen) == ([name], ())
    assert because in step(way, name).because
    assert names(way.steps) == BACK


@pytest.mark.parametrize(
    ("observer", "name"),
    [("health_check", "health_check_red"), ("dns", "dns_changed"), ("databases", "db_promoted")],
)
def test_a_step_that_nobody_could_see_is_unseen(observer: str, name: str) -> None:
    way = over(unheard(Day(), observer))
    assert (names(way.unseen), way.missing) == ([name], ())
    assert "was silent" in step(way, name).because
    # One that was seen was seen, though its observer was away for a time.
    gap = Gap(f"watch/{observer}", "line", None, "torn")
    assert over(evidence_of(), gaps=(gap,)).unseen == ()


def test_what_comes_after_the_time_watched_has_not_come() -> None:
    day = Day(dns_fails_over=False)
    day.see("dns", UNDO, "dns:files.lab", [WEST])
    assert step(over(day), "dns_changed").t == T0 + UNDO
    day = Day(dns_fails_over=False)
    day.see("dns", UNDO + 0.1, "dns:files.lab", [WEST])
    assert "dns_changed" in names(over(day).missing)
    for t, at in ((UNDO, True), (UNDO + 0.1, False)):
        day = Day(dns_fails_over=False)
        day.say("load/w0", t, "mark.region", to=WEST)
        assert ("first_success" in names(over(day).missing)) is not at
        assert ("first_success" in told(over(day))) is at


@pytest.mark.parametrize(
    ("before", "nothing_to_do"),
    [
        ([[WEST]], True),
        ([[WEST], "unknown"], True),
        ([[EAST, WEST]], False),
        ([[WEST], [EAST]], False),
        ([[EAST]], False),
    ],
)
def test_a_name_that_answered_the_standby_before_the_fault_fails_over_nothing(
    before: list[Any], nothing_to_do: bool
) -> None:
    day = Day(dns_fails_over=False)
    for n, value in enumerate(before):
        day.see("dns", 70 + n, "dns:files.lab", value)
    day.see("dns", LOW, "dns:files.lab", [WEST])
    way = over(day)
    assert names(way.unseen) == (["dns_changed"] if nothing_to_do else [])
    assert ("dns_changed" in told(way)) is not nothing_to_do
    assert ("before the fault already" in step(way, "dns_changed").because) is nothing_to_do


def test_a_failover_of_a_name_never_seen_before_the_fault_is_one() -> None:
    day = Day().without(lambda e: e.text("subject") == "dns:files.lab" and e.t < T0 + 75)
    assert told(over(day))["dns_changed"][0] == 79.5


def test_both_a_step_missing_and_one_unseen_are_told_apart() -> None:
    way = over(unheard(Day(dns_fails_over=False), "databases"))
    assert {"dns_changed", "first_success", "db_writable", "holds"} == set(names(way.missing))
    assert names(way.unseen) == ["db_promoted"]


def test_without_databases_no_promotion_is_waited_for() -> None:
    given = dataclasses.replace(plan(), recorded={"target_description": {"databases": []}})
    assert names(over(evidence_of(), given).steps) == [n for n in OVER if n != "db_promoted"]
    assert names(back(evidence_of(), given).steps) == [n for n in BACK if n != "db_back"]
    assert not _has_databases(case_of(evidence_of(), given))
    assert _has_databases(case_of(evidence_of()))


# ---- seen by clients ---------------------------------------------------------------------------


def with_traffic(planned: Mapping[int, int]) -> Day:
    """The day with so many arrivals planned in each second of the hold, and none answered."""
    day = Day(dns_fails_over=False)
    for offset in range(70, 100):
        day.seconds[offset] = dataclasses.replace(
            day.seconds[offset], planned=planned.get(offset, 0), cells=()
        )
    return day


@pytest.mark.parametrize(
    ("planned", "watched"),
    [
        # From 77.5 to 94.6 855 are due: half of them say that clients would have seen it.
        ({77: 428}, True),
        ({94: 428}, True),
        ({77: 200, 90: 228}, True),
        ({77: 427}, False),
        ({76: 900, 95: 900}, False),
        ({}, False),
    ],
)
def test_what_clients_must_see_needs_half_of_those_that_were_due(
    planned: Mapping[int, int], watched: bool
) -> None:
    way = over(with_traffic(planned))
    for name in ("first_success", "db_writable"):
        assert name in names(way.missing if watched else way.unseen)
        found = step(way, name).because
        assert ("too little traffic to tell" in found) is not watched


def test_exactly_half_of_those_due_are_enough() -> None:
    day = with_traffic({90: 425})
    for index, event in enumerate(day.events):
        if event.kind == "undo.start" and event.text("fault") == "region":
            day.events[index] = dataclasses.replace(event, t=T0 + 95.5)
    assert "first_success" in names(over(day).missing)


def no_marks(day: Day) -> Day:
    return day.without(lambda e: e.kind.startswith("mark."))


def test_without_a_mark_the_second_in_which_a_success_was_counted_is_its_instant() -> None:
    way = over(no_marks(Day()))
    assert told(way)["first_success"] == pytest.approx((81, 1.0, 4.5))
    assert told(back(no_marks(Day())))["success_back"] == pytest.approx((100, 1.0, 4.4))


def test_a_success_beside_those_of_others_is_one() -> None:
    day = no_marks(Day())
    day.seconds[78] = dataclasses.replace(
        day.seconds[78], cells=(day.cell("download", A, 1), day.cell("download", C, 1))
    )
    assert told(over(day))["first_success"][0] == 79
    case = case_of(day)
    assert _first_success(case, WEST, T0 + 78.0) == (T0 + 79, 1.0)
    assert _first_success(case, WEST, T0 + 78.5) == (T0 + 81, 1.0)
    assert _first_success(case, "eu-west-1", T0 + 0.0) is None


def test_marks_from_before_are_none() -> None:
    day = Day()
    for t, to in ((30.0, WEST), (85.0, WEST), (77.0, EAST)):
        day.say("load/w1", t, "mark.region", to=to)
    assert told(over(day))["first_success"][0] == pytest.approx(80.1)
    # No earlier than the landing, however seldom one is sent.
    assert told(over(day, plan(("rate: 50/s", "rate: 1/s"))))["first_success"][1:] == pytest.approx(
        (3.6, 3.6)
    )


def test_what_clients_saw_at_the_very_landing_came_after_it() -> None:
    day = Day()
    day.say("load/w1", LOW, "mark.region", to=WEST)
    day.say("load/w1", LOW, "mark.first_write", region=WEST)
    assert _first_success(case_of(day), WEST, T0 + LOW) == (T0 + LOW, 0.0)
    assert _first_write(case_of(day), WEST, T0 + LOW) == (T0 + LOW, 0.0)
    wrote(day, 75.0, ack_t=T0 + LOW)
    assert _first_write(case_of(no_marks(day)), WEST, T0 + LOW) == (T0 + LOW, 0.0)


def test_where_none_was_due_the_mark_may_be_a_second_old() -> None:
    marks = (Event("load/w0", 1, T0 + 5.0, 5.0, "mark.region", {"to": WEST}, 1),)
    evidence = SimpleNamespace(of_kind=lambda _: marks)
    case: Any = SimpleNamespace(evidence=evidence, due=lambda *_: 0.0)
    assert _first_success(case, WEST, T0 + 0.0) == (T0 + 5.0, 1.0)


def wrote(day: Day, t: float, **changes: Any) -> None:
    entry = dataclasses.replace(day.ledger[40], planned_t=T0 + t, ack_t=T0 + t + 0.01)
    day.ledger.append(dataclasses.replace(entry, **{"region": WEST, **changes}))


def test_without_a_mark_the_first_write_is_the_first_in_the_ledger() -> None:
    day = no_marks(Day())
    # Acknowledged at 80.26; the second half's of 79 was due at 79.25.
    assert told(over(day))["db_writable"] == pytest.approx((80.26, 1.01, 3.76), abs=1e-6)
    for changes in (
        {"region": EAST},
        {"kind": "delete"},
        {"outcome": "unsure"},
        {"ack_t": None},
        {"ack_t": T0 + 70.0},
    ):
        wrote(day, 78.0, **changes)
    assert told(over(day))["db_writable"][0] == pytest.approx(80.26)
    wrote(day, 78.5)
    assert told(over(day))["db_writable"][0] == pytest.approx(78.51)


def test_a_mark_of_a_first_write_comes_before_the_ledger() -> None:
    day = Day()
    day.say("load/w1", 79.0, "mark.first_write", region=EAST)
    day.say("load/w1", 50.0, "mark.first_write", region=WEST)
    day.say("load/w1", 90.0, "mark.first_write", region=WEST)
    assert told(over(day))["db_writable"][0] == pytest.approx(81.1)


@pytest.mark.parametrize(
    ("changes", "uncertainty_s"),
    [
        ({"t": 80.9, "outcome": "failed"}, 0.2),
        ({"t": 80.9, "outcome": "unsure"}, 0.2),
        ({"t": 81.1, "outcome": "failed"}, 0.0),
        ({"t": 81.2, "outcome": "failed"}, 1.85),
        ({"t": 80.9, "outcome": "acked"}, 1.85),
        ({"t": 80.9, "outcome": "failed", "kind": "delete"}, 1.85),
    ],
)
def test_a_write_in_vain_says_until_when_none_was_acknowledged(
    changes: dict[str, Any], uncertainty_s: float
) -> None:
    day = Day()
    wrote(day, **changes)
    assert told(over(day))["db_writable"][1] == pytest.approx(uncertainty_s)


def test_where_none_was_in_vain_it_may_have_been_writable_from_the_landing_on() -> None:
    day = Day()
    day.ledger = [entry for entry in day.ledger if entry.outcome == "acked"]
    assert told(over(day))["db_writable"][1] == pytest.approx(4.6)
    assert _first_write(case_of(day), "eu-west-1", T0 + LOW) is None


# ---- good, and stays so ------------------------------------------------------------------------


def test_a_standby_that_serves_badly_at_the_end_does_not_hold() -> None:
    way = over(Day(outage=range(93, 96)))
    assert (names(way.missing), way.unseen) == (["holds"], ())
    assert "not good at the end" in step(way, "holds").because


def test_where_nothing_is_recorded_at_the_end_nobody_saw_whether_it_holds() -> None:
    day = Day()
    for offset in range(92, 96):
        del day.seconds[offset]
    way = over(day)
    assert (names(way.unseen), way.missing) == (["holds"], ())


# ---- ways that were never gone -----------------------------------------------------------------


def test_a_fault_that_never_landed_has_no_way() -> None:
    case = case_of(Day(landed=False))
    landed = landing(case, "region")
    assert (failover(case, landed), failback(case, landed)) == (None, None)


def test_without_the_end_of_the_hold_there_is_no_way_over() -> None:
    day = Day().without(lambda e: e.kind in ("undo.start", "phase.start", "phase.end"))
    assert failover(case_of(day), LANDED) is None
    assert failback(case_of(day), LANDED) is None


def undoing(*records: dict[str, Any], phases: Any = None) -> Way | None:
    """The way back, had these been the actions of the region's fault."""
    evidence = evidence_of()
    (action,) = evidence.actions("region")
    faults = tuple(dataclasses.replace(action, **changes) for changes in records)
    changes = {"phases": phases(evidence.phases)} if phases else {}
    return failback(case_of(evidence, faults=faults, **changes), LANDED)


def test_a_way_back_begins_when_everything_was_undone() -> None:
    way = undoing({}, {"undo_start_t": T0 + 95.2, "undo_done_t": T0 + 96.5}, {"undo": None})
    assert way is not None
    assert (way.from_low, way.from_high) == (T0 + 95.2, T0 + 96.5)
    assert told(way)["restored"] == pytest.approx((96.5, 1.3, 1.3))
    # What has nothing to undo is not waited for.
    assert undoing({}, {"undo": None, "undo_done_t": None}) is not None
    assert undoing({}, {"undo_done_t": None}) is None
    assert undoing({"undo_done_t": None}) is None
    assert undoing({"undo": None}) is None
    assert undoing() is None


def test_without_the_end_of_the_recovery_there_is_no_way_back() -> None:
    name = "recovery:region"
    assert undoing({}, phases=lambda spans: [s for s in spans if s.name != name]) is None
    assert (
        undoing(
            {},
            phases=lambda spans: [
                dataclasses.replace(s, end_t=None) if s.name == name else s for s in spans
            ],
        )
        is None
    )


# ---- what is expected --------------------------------------------------------------------------


def test_each_step_stands_beside_what_the_configuration_lets_one_expect() -> None:
    known = {
        "health_check_red_s": {"value_s": 2.5, "low_s": 1.0},
        "dns_changed_s": 3.5,
        "db_promoted_s": {"value_s": None, "because": "not known"},
        "health_check_green_s": 2.0,
        "dns_back_s": {"value_s": 4},
    }
    given = dataclasses.replace(plan(), recorded={"expected": known})
    way = over(evidence_of(), given)
    assert [(s.step, s.expected_s) for s in way.steps if s.expected_s is not None] == [
        ("health_check_red", 2.5),
        ("dns_changed", 3.5),
    ]
    # How long the data takes to come back is the system's own; the rest counts from there.
    way = back(evidence_of(), given)
    assert {s.step: s.expected_s for s in way.steps if s.expected_s is not None} == pytest.approx(
        {"health_check_green": 3.4, "dns_back": 5.4, "success_back": 5.4}
    )
    way = back(never("db:files-west", after=95), given)
    assert step(way, "health_check_green").expected_s == 2.0
    way = over(never(f"health_check:{EAST}"), given)
    assert step(way, "health_check_red").expected_s == 2.5


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, None),
        ({"dns_changed_s": 3}, 3.0),
        ({"dns_changed_s": {"value_s": 3.5}}, 3.5),
        ({"dns_changed_s": {"low_s": 3.5}}, None),
        ({"dns_changed_s": "soon"}, None),
        ({"region": {"dns_changed_s": 1.5}, "dns_changed_s": 3}, 1.5),
        ({"region": {}, "dns_changed_s": 3}, None),
        ({"region": 7, "dns_changed_s": 3}, 3.0),
    ],
)
def test_what_is_expected_is_known_of_a_fault_or_of_all(
    known: dict[str, Any], expected: float | None
) -> None:
    assert expected_s(known, "region", "dns_changed") == expected


# ---- what counts as a step ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "answers"),
    [
        ([WEST], True),
        (WEST, True),
        ([WEST, "eu-west-1"], True),
        ([EAST, WEST], False),
        ([EAST], False),
        ([], False),
        (None, False),
        ("unknown", False),
    ],
)
def test_a_name_answers_one_region_only_where_it_no_longer_answers_the_other(
    value: Any, answers: bool
) -> None:
    assert _answers(value, WEST, EAST) is answers


@pytest.mark.parametrize(
    ("value", "there"),
    [
        ({"role": "primary", "zone": C}, True),
        ({"role": "replica", "zone": C}, False),
        ({"role": "primary", "zone": B}, False),
        ({"role": "primary"}, False),
        ({"zone": C}, False),
        ("unknown", False),
    ],
)
def test_a_primary_is_in_the_region_of_its_zone(value: Any, there: bool) -> None:
    assert _primary_in({"db:x": value}, WEST) is there
    assert _primary_in({"db:x": value, "db:y": {"role": "replica", "zone": A}}, WEST) is there


def test_a_primary_in_both_regions_has_not_come_back() -> None:
    day = never("db:files-west", after=95)
    day.see("databases", 97, "db:files", {"role": "primary", "zone": A})
    assert names(back(day).missing) == ["db_back"]


# ---- within the bound --------------------------------------------------------------------------

(OBJECTIVE,) = (o for o in plan().objectives if isinstance(o, Failover))
(BACK_WITHIN,) = (o for o in plan().objectives if isinstance(o, Failback))


def within(
    within_s: float, *instants: tuple[float | None, float], landed: float = 0.05, **changes: Any
) -> Finding:
    """A way whose clock starts between 0 and ``landed`` and is watched for 20 s."""
    steps = tuple(
        Step("region", "failover", f"s{n}", f"step {n}", t, uncertainty_s, t, because=f"no {n}")
        for n, (t, uncertainty_s) in enumerate(instants)
    )
    way = Way("region", "failover", 0.0, landed, 20.0, steps, (), ())
    objective = dataclasses.replace(OBJECTIVE, within_s=within_s)
    return judge_failover(objective, LANDED, dataclasses.replace(way, **changes))


@pytest.mark.parametrize(
    ("within_s", "outcome"), [(3.19, FAIL), (3.2, UNKNOWN), (3.99, UNKNOWN), (4.0, PASS)]
)
def test_the_last_of_the_steps_decides_as_an_interval(within_s: float, outcome: Outcome) -> None:
    finding = within(within_s, (0.05, 0.05), (3.5, 0.25), (4.0, 1.0), (2.0, 0.0))
    assert finding.outcome is outcome
    assert finding.measured is not None
    assert finding.measured.value == finding.measured.high == 4.0
    assert finding.measured.low == pytest.approx(3.2)
    assert finding.because == "step 1 after 3.5 s, step 2 after 4.0 s, step 3 after 2.0 s"
    assert finding.required == f"every step within {within_s:g} s of the landing"


def test_moments_count_as_they_are_and_never_less_than_nothing() -> None:
    assert within(5, (0.05, 0.05), (0.5, 0.25)).measured == Measured(0.5, 0.2, 0.5, "s")
    assert within(5, (0.05, 0.05)).measured == Measured(0.05, 0.0, 0.05, "s")
    assert within(5, (-0.5, 0.0)).measured == Measured(0.0, 0.0, 0.0, "s")


def test_a_step_that_is_missing_fails_and_one_unseen_is_unknown() -> None:
    gone = Step("region", "failover", "gone", "what is gone", None, because="it never came")
    blind = Step("region", "failover", "blind", "what is hidden", None, because="nobody looked")
    finding = within(19.5, (0.05, 0.05), missing=(gone,), unseen=(blind,), from_high=0.5)
    assert (finding.outcome, finding.because) == (FAIL, "it never came; nobody looked")
    assert finding.measured == Measured(None, 19.5, None, "s")
    # Undone before its time was up: it may still have come.
    finding = within(19.6, (0.05, 0.05), missing=(gone,), from_high=0.5)
    assert (finding.outcome, finding.measured) == (UNKNOWN, None)
    assert finding.because == "it never came; watched for only 19.5 s"
    finding = within(30, (0.05, 0.05), unseen=(blind,))
    assert (finding.outcome, finding.measured) == (UNKNOWN, None)
    assert finding.because == "what is hidden: nobody looked"


def test_a_way_that_is_not_known_is_unknown() -> None:
    def judged(landed: Landing) -> tuple[Finding, Finding]:
        return judge_failover(OBJECTIVE, landed, None), judge_failback(BACK_WITHIN, landed, None)

    for finding, phase in zip(judged(LANDED), ("fault:region", "recovery:region"), strict=True):
        assert (finding.outcome, finding.phase, finding.measured) == (UNKNOWN, phase, None)
        assert finding.because == "the undo was not recorded"
    for finding in judged(dataclasses.replace(LANDED, why_not="it never did")):
        assert (finding.outcome, finding.because) == (UNKNOWN, "it never did")


def test_the_way_back_is_judged_of_the_recovery_from_the_restoration() -> None:
    finding = judge_failback(BACK_WITHIN, LANDED, back(evidence_of()))
    assert (finding.outcome, finding.phase) == (PASS, "recovery:region")
    assert finding.measured is not None
    assert finding.measured.low == pytest.approx(99.1 - 4.6 / 50 - UNDONE, abs=1e-6)
    assert finding.measured.high == pytest.approx(99.1 - UNDO, abs=1e-6)
    assert finding.required == "every step within 12 s of the restoration"
