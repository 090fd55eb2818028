"""What is owed after each fault: taken back, replaced, turned away from, moved, served again."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.evidence.model import TallySecond
from harness.verdict import Finding, Outcome
from harness.verdict.case import Case
from harness.verdict.faults import (
    judge_database_moved,
    judge_experiment,
    judge_replaced,
    judge_routing,
    judge_service_back,
    judge_system,
    judge_undo,
    judge_zone_back,
    open_undos,
)
from harness.verdict.landing import Landing
from tests.verdict.build import PHASES, T0, A, B, C, Day, plan

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
PODS = f"pods:{A}/file"
NEVER = "fault never landed"


def case(day: Day, *changes: tuple[str, str]) -> Case:
    return Case(plan(*changes), day.evidence())


def landed(fault: str, why_not: str = "") -> Landing:
    """As it lands on every such day."""
    start = PHASES[f"fault:{fault}"][0]
    return Landing(fault, T0 + start + 0.5, T0 + start + 0.55, ("somebody",), why_not)


def figures(finding: Finding) -> tuple[float | None, float | None, float | None]:
    assert finding.measured is not None
    return finding.measured.value, finding.measured.low, finding.measured.high


def until_its_end(day: Day, phase: str) -> Day:
    return day.without(lambda e: e.kind == "phase.end" and e.text("phase") == phase)


def never(day: Day, phase: str) -> Day:
    return day.without(lambda e: e.kind.startswith("phase.") and e.text("phase") == phase)


def blind(day: Day, observer: str, since: float) -> Day:
    source = f"watch/{observer}"
    return day.without(lambda e: e.source == source and e.kind == "watch.beat" and e.t > T0 + since)


def unseen(day: Day, subject: str, before: float) -> Day:
    return day.without(lambda e: e.text("subject") == subject and e.t < T0 + before)


# ---- taken back ------------------------------------------------------------------------------


def test_every_action_that_was_not_read_back_as_undone_is_open_but_killed_pods() -> None:
    assert open_undos(case(Day())) == []
    day = Day(undone=False)
    day.say("chaos/x", 60, "fault.start", fault="x", action="of no plan", undo="x-1")
    day.say("chaos/zone", 60, "fault.start", fault="zone", action="leaves nothing")
    assert [action.fault for action in open_undos(case(day))] == ["zone", "x", "region"]
    silent = Day().without(lambda e: e.kind == "undo.readback")
    assert [action.fault for action in open_undos(case(silent))] == ["zone", "region"]


@pytest.mark.parametrize(
    ("fault", "undone", "outcome", "because"),
    [
        ("zone", True, PASS, "undone and read back"),
        ("zone", False, FAIL, "still in place: lose_zone: None"),
        ("zone", None, UNKNOWN, "the undo of lose_zone was not read back"),
        ("pod", True, PASS, "nothing to undo"),
        # Whether they came back is judged as such.
        ("pod", False, PASS, "nothing to undo"),
        ("pod", None, UNKNOWN, "the undo of lose_pod was not read back"),
    ],
)
def test_what_is_undone_was_read_back_so(
    fault: str, undone: bool | None, outcome: Outcome, because: str
) -> None:
    day = Day(undone=bool(undone))
    if undone is None:
        day = day.without(lambda e: e.kind == "undo.readback")
    finding = judge_undo(case(day), fault)
    assert (finding.outcome, finding.because) == (outcome, because)
    assert finding.phase == f"fault:{fault}"


def test_a_fault_of_which_nothing_is_recorded_is_not_undone_and_one_without_undo_is() -> None:
    day = Day().without(lambda e: e.source == "chaos/zone")
    finding = judge_undo(case(day), "zone")
    assert (finding.outcome, finding.because) == (UNKNOWN, "no record of the fault")
    day.say("chaos/zone", 52, "fault.start", fault="zone", action="leaves nothing")
    finding = judge_undo(case(day), "zone")
    assert (finding.outcome, finding.because) == (PASS, "nothing to undo")


# ---- what is judged of which fault -----------------------------------------------------------


def objectives(found: Case, fault: str) -> list[str]:
    return [finding.objective for finding in judge_system(found, landed(fault))]


def test_each_kind_of_fault_is_owed_what_it_takes_away() -> None:
    found = case(Day())
    assert objectives(found, "pod") == ["pods replaced", "experiment"]
    assert objectives(found, "zone") == ["routing", "database moved", "zone back", "experiment"]
    assert objectives(found, "region") == ["experiment"]
    stop = ("experiments/pods/kill-file-pods.json", "experiments/services/stop-image.json")
    assert objectives(case(Day(), stop), "pod") == ["service back", "experiment"]


@pytest.mark.parametrize(
    ("ends", "outcome", "because"),
    [
        ([("passed", "")], PASS, "passed"),
        ([("deviated", "it is not as it was")], FAIL, "deviated: it is not as it was"),
        ([("aborted", "")], UNKNOWN, "aborted"),
        ([], UNKNOWN, "no end of it was recorded"),
        ([("passed", ""), ("deviated", "")], FAIL, "deviated"),
        ([("deviated", ""), ("passed", "")], PASS, "passed"),
    ],
)
def test_an_experiment_is_what_its_last_end_says(
    ends: list[tuple[str, str]], outcome: Outcome, because: str
) -> None:
    day = Day().without(lambda e: e.kind == "experiment.end" and e.text("fault") == "zone")
    for said, why in ends:
        day.say("chaos-driver", 66, "experiment.end", fault="zone", outcome=said, because=why)
    finding = judge_experiment(case(day), "zone")
    assert (finding.outcome, finding.because) == (outcome, because)


# ---- pods and services -----------------------------------------------------------------------

NOT_TO_ITS_END = "the recovery was not watched to its end"
SERVICE = Landing("pod", T0 + 40.5, T0 + 40.55, ("pods",), "")


def service(day: Day, *subjects: str) -> Case:
    """The pods' fault is one that stopped services instead, watched as ``subjects``."""
    evidence = day.evidence()
    targets = tuple("deployment:" + subject.partition(":")[2] for subject in subjects or (PODS,))
    faults = tuple(dataclasses.replace(f, targets=targets) for f in evidence.faults)
    stop = ("experiments/pods/kill-file-pods.json", "experiments/services/stop-image.json")
    return Case(plan(stop), dataclasses.replace(evidence, faults=faults))


@pytest.mark.parametrize("judged", ["pods", "service", "zone"])
def test_who_did_not_watch_the_recovery_does_not_know_what_came_back(judged: str) -> None:
    def said(day: Day, why_not: str = "") -> tuple[Outcome, str]:
        if judged == "pods":
            finding = judge_replaced(case(day), landed("pod", why_not))
        elif judged == "service":
            finding = judge_service_back(service(day), landed("pod", why_not))
        else:
            finding = judge_zone_back(case(day), landed("zone", why_not), A)
        assert finding.phase == recovery
        return finding.outcome, finding.because

    fault, observer, subject = ("pod", "pods", PODS)
    if judged == "zone":
        fault, observer, subject = ("zone", "targets", f"targets:{A}")
    recovery, start = f"recovery:{fault}", PHASES[f"fault:{fault}"][0]
    assert said(Day())[0] is PASS
    assert said(Day(), NEVER) == (UNKNOWN, NEVER)
    assert said(never(Day(), recovery)) == (UNKNOWN, NOT_TO_ITS_END)
    assert said(until_its_end(Day(), recovery)) == (UNKNOWN, NOT_TO_ITS_END)
    outcome, because = said(blind(Day(), observer, start - 20))
    assert outcome is UNKNOWN and f"watch/{observer} was silent" in because
    said_unknown = said(unseen(Day(), subject, start))
    assert said_unknown[0] is UNKNOWN
    assert said_unknown[1].endswith("are not known") or said_unknown[1].endswith("were not seen")
    nonsense = Day()
    nonsense.see(observer, PHASES[recovery][1] - 0.5, subject, {})
    assert said(nonsense) == said_unknown


@pytest.mark.parametrize(
    ("before", "after", "outcome", "because", "measured"),
    [
        (2, 2, PASS, "2 ready, 2 before the fault", (2, "pods ready of 2")),
        (1, 3, PASS, "3 ready, 1 before the fault", (3, "pods ready of 1")),
        (
            2,
            1,
            FAIL,
            f"killed pods were not replaced: {PODS}: 1 ready of 2",
            (1, "pods ready of 2"),
        ),
        (0, 0, UNKNOWN, "no pods were seen", None),
    ],
)
def test_as_many_pods_as_before_are_ready_at_the_end(
    before: int, after: int, outcome: Outcome, because: str, measured: tuple[int, str] | None
) -> None:
    day = Day()
    day.see("pods", 30, PODS, {"ready": before})
    day.see("pods", 50.5, PODS, {"ready": after})
    # After the end of the recovery nobody looks.
    day.see("pods", 51.5, PODS, {"ready": 9})
    finding = judge_replaced(case(day), landed("pod"))
    assert (finding.outcome, finding.because) == (outcome, because)
    if measured is None:
        assert finding.measured is None
    else:
        assert figures(finding) == (measured[0],) * 3
        assert finding.measured is not None and finding.measured.unit == measured[1]


def test_pods_are_counted_by_subject_and_one_s_do_not_stand_in_for_another_s() -> None:
    day = Day()
    day.see("pods", 30, f"pods:{B}/file", {"ready": 2})
    day.see("pods", 50, f"pods:{B}/file", {"ready": 3})
    finding = judge_replaced(case(day), landed("pod"))
    assert (finding.outcome, figures(finding)) == (PASS, (5, 5, 5))
    assert finding.because == "5 ready, 4 before the fault"
    day.see("pods", 50.5, PODS, {"ready": 1})
    assert judge_replaced(case(day), landed("pod")).outcome is FAIL
    nobody = Day().without(lambda e: e.text("subject").startswith("pods:"))
    finding = judge_replaced(case(nobody), landed("pod"))
    assert (finding.outcome, finding.because) == (UNKNOWN, "no pods were seen")


def test_pods_that_only_came_back_after_the_time_allowed_are_late() -> None:
    day = Day()
    day.say("chaos/pod", 41, "fault.start", fault="pod", action="kill", targets=[], undo="pod-2")
    day.say("chaos/pod", 45, "undo.readback", fault="pod", undo="pod-2", restored=False)
    finding = judge_replaced(case(day), landed("pod"))
    assert (finding.outcome, figures(finding)) == (FAIL, (2, 2, 2))
    assert finding.because == "killed pods were not replaced in the time allowed, only later"


def test_every_service_that_was_stopped_is_back() -> None:
    other = f"pods:{B}/file"

    def said(*ready: tuple[str, int, int]) -> tuple[Outcome, str]:
        day = Day()
        for subject, before, after in ready:
            day.see("pods", 30, subject, {"ready": before})
            day.see("pods", 50, subject, {"ready": after})
        finding = judge_service_back(service(day, PODS, other), SERVICE)
        assert finding.measured is None
        return finding.outcome, finding.because

    fine = f"{PODS}: 2 ready of 2; {other}: 4 ready of 3"
    assert said((PODS, 2, 2), (other, 3, 4)) == (PASS, fine)
    assert said((PODS, 2, 1), (other, 3, 3))[0] is FAIL
    assert said((PODS, 2, 2), (other, 3, 2))[0] is FAIL


# ---- a lost zone -----------------------------------------------------------------------------


def the_hold_s_end(
    planned: int, *, failed: int = 0, unsure: int = 0, zone: str = B, of: range = range(60, 65)
) -> Day:
    """``planned`` arrivals in the last five seconds before the zone comes back, at 65.6, of which
    some fail and ``zone`` answers the rest."""
    day = Day()
    ok = day.cell("download", zone, planned - failed - unsure)
    bad = day.cell("download", "", failed)
    lost = dataclasses.replace(bad, n=unsure, outcome="unsure")
    cells = tuple(cell for cell in (ok, bad, lost) if cell.n)
    for offset in of:
        day.seconds[offset] = TallySecond(T0 + offset, 0, ())
    day.seconds[of[-1]] = TallySecond(T0 + of[-1], planned, cells)
    return day


def routing(day: Day, landing: Landing | None = None) -> Finding:
    return judge_routing(case(day), landing or landed("zone"), A)


def test_by_the_end_of_the_hold_nothing_is_sent_to_a_lost_zone() -> None:
    finding = routing(Day())
    assert (finding.outcome, figures(finding)) == (PASS, (0, 0, 0))
    assert finding.because == f"no healthy target in {A}, 0.0% of arrivals failing"
    assert finding.phase == "fault:zone"
    assert routing(Day(), landed("zone", NEVER)).because == NEVER
    assert routing(Day(), landed("zone", NEVER)).outcome is UNKNOWN
    day = until_its_end(Day(), "fault:zone").without(lambda e: e.kind == "undo.start")
    finding = routing(day)
    assert (finding.outcome, finding.because) == (UNKNOWN, "the end of the hold is not known")


def test_half_of_the_traffic_at_the_end_of_the_hold_is_enough_to_tell() -> None:
    assert routing(the_hold_s_end(125)).outcome is PASS
    finding = routing(the_hold_s_end(124))
    assert finding.outcome is UNKNOWN
    assert finding.because == "too little traffic at the end of the hold to tell"


@pytest.mark.parametrize(
    ("failed", "unsure", "outcome"), [(0, 12, PASS), (13, 0, FAIL), (6, 7, FAIL), (6, 6, PASS)]
)
def test_one_arrival_in_twenty_may_fail_and_no_more(
    failed: int, unsure: int, outcome: Outcome
) -> None:
    finding = routing(the_hold_s_end(240, failed=failed, unsure=unsure))
    assert finding.outcome is outcome
    assert figures(finding) == pytest.approx(((failed + unsure) / 240,) * 3)
    if outcome is FAIL:
        assert "5% of the arrivals in the last 5 s of the hold failed" in finding.because


def test_only_the_last_five_seconds_of_the_hold_count() -> None:
    for gone, outcome in ((range(52, 60), PASS), (range(60, 61), FAIL), (range(65, 66), PASS)):
        day = Day()
        for offset in gone:
            cells = (day.cell("download", B, 25), day.cell("download", "", 25))
            day.seconds[offset] = TallySecond(T0 + offset, 50, cells)
        assert routing(day).outcome is outcome, gone


@pytest.mark.parametrize("zone", [A, ""])
def test_where_nobody_else_served_nobody_knows_where_the_failing_ones_were_sent(zone: str) -> None:
    good = dataclasses.replace(Day().cell("download", zone or B, 100), zone="")
    day = the_hold_s_end(240, failed=240)
    if not zone:
        failing = dataclasses.replace(day.seconds[64].cells[0], n=140)
        day.seconds[64] = dataclasses.replace(day.seconds[64], cells=(good, failing))
    finding = routing(day)
    assert finding.outcome is UNKNOWN
    assert "no other zone served: where they were sent is not known" in finding.because


def answers(*offsets: int) -> Day:
    """One arrival in each of these seconds is answered by the lost zone."""
    day = Day()
    for offset in offsets:
        cells = (day.cell("download", A, 1), day.cell("download", B, 49))
        day.seconds[offset] = TallySecond(T0 + offset, 50, cells)
    return day


def test_a_lost_zone_that_answers_was_sent_something() -> None:
    for offset, outcome in ((59, PASS), (60, UNKNOWN), (64, UNKNOWN), (65, PASS)):
        assert routing(answers(offset)).outcome is outcome, offset
    finding = routing(answers(63, 64))
    assert finding.because == f"no healthy target in {A}, and 2 arrivals were answered from there"
    # Before it was lost it may.
    late = dataclasses.replace(landed("zone"), low=T0 + 63.5, high=T0 + 64.0)
    assert routing(answers(63, 64), late).outcome is PASS


@pytest.mark.parametrize(
    ("seen", "outcome", "because"),
    [
        ({"healthy": 0}, PASS, "no healthy target"),
        ({"healthy": 1}, FAIL, "1 targets there still healthy"),
        ({}, UNKNOWN, f"targets in {A} were not seen"),
    ],
)
def test_the_targets_in_a_lost_zone_are_unhealthy(
    seen: dict[str, Any], outcome: Outcome, because: str
) -> None:
    day = Day()
    day.see("targets", 65, f"targets:{A}", seen)
    # After the hold they may be anything.
    day.see("targets", 65.7, f"targets:{A}", {"healthy": 2})
    finding = routing(day)
    assert finding.outcome is outcome and because in finding.because
    assert figures(finding) == (0, 0, 0)
    for value in ({"healthy": 0}, {"healthy": 1}):
        silent = blind(Day(), "targets", 46)
        silent.see("targets", 65, f"targets:{A}", value)
        finding = routing(silent)
        assert finding.outcome is UNKNOWN and "watch/targets was silent" in finding.because


def test_as_many_targets_as_before_serve_again_or_all_that_there_should_be() -> None:
    def said(now: int, total: int) -> Finding:
        day = Day()
        day.see("targets", 75, f"targets:{A}", {"healthy": now, "total": total})
        day.see("targets", 76.5, f"targets:{A}", {"healthy": 0, "total": 2})
        return judge_zone_back(case(day), landed("zone"), A)

    for now, total, outcome in (
        (2, 3, PASS),
        (1, 1, PASS),
        (1, 2, FAIL),
        (0, 0, FAIL),
        (3, 3, PASS),
    ):
        finding = said(now, total)
        assert finding.outcome is outcome, (now, total)
        assert figures(finding) == (now, now, now)
        assert f"{now} targets healthy, 2 before the fault" in finding.because
        assert finding.measured is not None and finding.measured.unit == "targets healthy of 2"


# ---- the database ----------------------------------------------------------------------------


def database(day: Day, landing: Landing | None = None) -> Finding | None:
    return judge_database_moved(case(day), landing or landed("zone"), A)


def moves(day: Day, at: float | None, uncertainty_s: float = 0.25) -> Day:
    """The primary leaves the zone then, or never."""
    day = day.without(lambda e: e.text("subject") == "db:files" and e.t > T0)
    if at is not None:
        value = {"role": "primary", "zone": B}
        day.say("watch/databases", at, "sighting", subject="db:files", value=value,
                uncertainty_s=uncertainty_s)  # fmt: skip
    return day


def test_a_primary_that_was_in_the_lost_zone_moves_out_of_it() -> None:
    finding = database(Day())
    assert finding is not None
    assert finding.outcome is PASS
    # Lost from 51.5 to 51.55 on, seen elsewhere at 57, at most 0.25 s after it moved.
    assert figures(finding) == pytest.approx((5.5, 5.2, 5.5))
    assert finding.because == f"primary moved out of {A} 5.2–5.5 s after the landing"
    at_once = database(moves(Day(), 51.6))
    assert at_once is not None
    assert figures(at_once) == pytest.approx((0.1, 0.0, 0.1))


def at_the_landing(value: object, subject: str = "db:files") -> Day:
    day = Day()
    day.see("databases", 50, subject, value)
    return day


def test_a_database_that_was_elsewhere_owes_nothing() -> None:
    assert database(Day(), landed("zone", NEVER)) is None
    for value in ({"role": "primary", "zone": B}, {"role": "replica", "zone": A}, {"role": None}):
        day = at_the_landing(value)
        assert database(day) is None, value
        assert objectives(case(day), "zone") == ["routing", "zone back", "experiment"]
    assert database(Day().without(lambda e: e.text("subject").startswith("db:"))) is None


@pytest.mark.parametrize(
    "value", ["unknown", None, {"role": "primary"}, {"role": "primary", "zone": None}]
)
@pytest.mark.parametrize("subject", ["db:files", "db:files-west"])
def test_a_primary_that_nobody_could_see_when_the_zone_was_lost_may_have_been_there(
    value: object, subject: str
) -> None:
    finding = database(at_the_landing(value, subject))
    assert finding is not None
    assert finding.outcome is UNKNOWN
    assert finding.because == f"{subject}: where its primary was when {A} was lost is not known"
    assert database(at_the_landing(value, subject), landed("zone", NEVER)) is None


def test_another_database_whose_primary_is_elsewhere_is_none_that_moved() -> None:
    for at, outcome in ((57, PASS), (None, FAIL)):
        day = moves(Day(), at)
        day.see("databases", 30, "db:users", {"role": "primary", "zone": B})
        finding = database(day)
        assert finding is not None and finding.outcome is outcome
    both = moves(Day(), 57)
    both.see("databases", 30, "db:users", {"role": "primary", "zone": A})
    finding = database(both)
    assert finding is not None and finding.outcome is FAIL
    both.see("databases", 60, "db:users", {"role": "primary", "zone": C})
    finding = database(both)
    assert finding is not None and finding.outcome is PASS
    assert figures(finding)[0] == pytest.approx(8.5)


@pytest.mark.parametrize(
    ("at", "outcome"), [(65.5, PASS), (65.6, PASS), (65.7, FAIL), (None, FAIL)]
)
def test_it_has_moved_before_the_zone_comes_back(at: float | None, outcome: Outcome) -> None:
    finding = database(moves(Day(), at))
    assert finding is not None
    assert finding.outcome is outcome
    if outcome is FAIL:
        assert finding.because == f"the database primary never moved out of {A}"
        assert finding.measured is None
        unseen = database(blind(moves(Day(), at), "databases", 46))
        assert unseen is not None and unseen.outcome is UNKNOWN
        assert "watch/databases was silent" in unseen.because


def test_a_replica_elsewhere_and_a_primary_that_stays_are_no_move() -> None:
    day = moves(Day(), None)
    day.see("databases", 60, "db:files-west", {"role": "replica", "zone": C})
    for value in ("unreadable", {"role": "primary"}, {"role": "primary", "zone": None}):
        day.see("databases", 61, "db:files", value)
    finding = database(day)
    assert finding is not None and finding.outcome is FAIL


def test_it_need_not_have_moved_when_nobody_knows_when_the_zone_came_back() -> None:
    day = never(Day(), "fault:zone").without(lambda e: e.kind == "undo.start")
    finding = database(day)
    assert finding is not None and finding.outcome is FAIL
