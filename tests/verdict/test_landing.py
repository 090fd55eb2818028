"""A fault landed only when it was made, read back and seen by something that did not make it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest

from harness.evidence.model import Evidence, FaultRecord, Sighting, TallyCell, TallySecond
from harness.plan.model import Plan
from harness.verdict import Outcome
from harness.verdict.case import Case
from harness.verdict.landing import Landing, judge_landing, landing
from harness.verdict.model import Measured
from tests.verdict.build import EAST, LAST, T0, WEST, A, B, C, Day, plan

Seen = tuple[float, str, Any]
Served = Callable[[int], tuple[str, ...]]
#: Each fault is made between these instants; the zone's is taken back at UNDONE.
MADE = {"pod": (40.5, 40.55), "zone": (51.5, 51.55), "region": (76.5, 76.55)}
UNDONE = 65.5
SOLE_CALL = "nothing but the call that made it saw it"
PODS = f"pods:{A}/file"


@functools.cache
def evidence_of() -> Evidence:
    return Day().evidence()


def everywhere(_: int) -> tuple[str, ...]:
    return A, B, C


def tallied(served: Served, planned: Callable[[int], int]) -> Any:
    """One success from each zone that serves, of what is planned in a second."""
    [tally] = evidence_of().tallies
    seconds = []
    for offset in range(LAST):
        zones = served(offset)
        cells = [TallyCell("download", z[:-1], z, "ok", "", 1, 9, {}, {}, {}) for z in zones]
        if not zones:
            cells = [TallyCell("download", "", "", "failed", "timeout", 1, 0, {}, {}, {})]
        seconds.append(TallySecond(T0 + offset, planned(offset), tuple(cells)))
    return (dataclasses.replace(tally, seconds=tuple(seconds)),)


def case_of(
    *seen: Seen,
    served: Served = everywhere,
    planned: Callable[[int], int] = lambda _: 3,
    given: Plan | None = None,
    actions: Callable[[FaultRecord], list[FaultRecord]] = lambda record: [record],
    **changes: Any,
) -> Case:
    """A day on which only this was seen, and served."""
    records = [
        dataclasses.replace(record, undo_start_t=T0 + UNDONE) if record.fault == "zone" else record
        for record in evidence_of().faults
    ]
    evidence = dataclasses.replace(
        evidence_of(),
        sightings=tuple(Sighting("watch/x", s, value, T0 + t, 0.25) for t, s, value in seen),
        tallies=tallied(served, planned),
        faults=tuple(other for record in records for other in actions(record)),
    )
    return Case(given or plan(), dataclasses.replace(evidence, **changes))


def seen_by(fault: str, *seen: Seen, **changes: Any) -> tuple[str, ...]:
    """Who saw the fault; nobody, where it never landed for that."""
    found = landing(case_of(*seen, **changes), fault)
    assert found.landed or SOLE_CALL in found.why_not, found.why_not
    assert found.landed == bool(found.seen_by)
    assert (found.low, found.high) == tuple(T0 + t for t in MADE[fault])
    return found.seen_by


def changed(fault: str, **changes: Any) -> Callable[[FaultRecord], list[FaultRecord]]:
    """The action of a fault, so changed."""
    return lambda r: [dataclasses.replace(r, **changes) if r.fault == fault else r]


def joined(**changes: Any) -> Callable[[FaultRecord], list[FaultRecord]]:
    """Another action of the zone's fault, besides the one there is."""
    return lambda r: [r, dataclasses.replace(r, **changes)] if r.fault == "zone" else [r]


RED: Seen = (60, f"targets:{A}", {"healthy": 0, "total": 2})


# ---- made and read back ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "because"),
    [
        (lambda r: [] if r.fault == "zone" else [r], "no record that it was made"),
        (changed("zone", call_start_t=None, call_end_t=None), "no record that it was made"),
        (changed("zone", call_start_t=None), "no record that it was made"),
        (changed("zone", call_end_t=None), "no record that it was made"),
        (changed("zone", call_start_t=1.0), "fault never landed at a time of this run"),
        (changed("zone", call_end_t=9e9), "fault never landed at a time of this run"),
    ],
)
def test_a_fault_that_was_not_made_in_this_run_has_no_instant(
    actions: Callable[[FaultRecord], list[FaultRecord]], because: str
) -> None:
    found = landing(case_of(RED, actions=actions), "zone")
    assert found == Landing("zone", 0.0, 0.0, (), found.why_not)
    assert because in found.why_not


@pytest.mark.parametrize(
    ("actions", "because"),
    [
        (joined(call_start_t=None), "whole: 1 of its actions were not made"),
        (joined(call_end_t=None, holds=None), "whole: 1 of its actions were not made"),
        (joined(holds=None), "as far as is known: it was not read back"),
        (joined(holds=False), "read back, it does not hold"),
        (changed("zone", holds=None), "as far as is known: it was not read back"),
        (changed("zone", holds=False), "read back, it does not hold"),
    ],
)
def test_every_action_of_a_fault_must_be_made_and_hold(
    actions: Callable[[FaultRecord], list[FaultRecord]], because: str
) -> None:
    found = landing(case_of(RED, actions=actions), "zone")
    assert because in found.why_not
    assert (found.landed, found.seen_by) == (False, ())
    assert (found.low, found.high) == (T0 + 51.5, T0 + 51.55)


def test_a_fault_of_several_actions_lands_with_the_first() -> None:
    actions = joined(call_start_t=T0 + 51.0, call_end_t=T0 + 51.9)
    found = landing(case_of(RED, actions=actions), "zone")
    assert (found.landed, found.low, found.high) == (True, T0 + 51.0, T0 + 51.9)


def test_the_finding_tells_when_it_landed_and_who_saw_it_or_why_it_did_not() -> None:
    case = case_of(RED)
    finding = judge_landing(case, landing(case, "zone"))
    assert (finding.outcome, finding.phase) == (Outcome.PASS, "fault:zone")
    assert finding.measured == Measured(T0 + 51.55, T0 + 51.5, T0 + 51.55, "s since epoch")
    assert finding.because == f"seen by targets:{A}: none healthy"
    never = judge_landing(case_of(), landing(case_of(), "zone"))
    assert (never.outcome, never.measured) == (Outcome.UNKNOWN, None)
    assert SOLE_CALL in never.because


# ---- seen: between the landing and the undo ----------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "subject", "value", "says"),
    [
        ("zone", f"targets:{A}", {"healthy": 0}, f"targets:{A}: none healthy"),
        ("zone", f"nodes:{A}", {"ready": 0}, f"nodes:{A}: none ready"),
        ("region", f"health_check:{EAST}", "unhealthy", f"health_check:{EAST}: unhealthy"),
    ],
)
def test_a_sighting_counts_from_the_landing_to_the_undo(
    fault: str, subject: str, value: Any, says: str
) -> None:
    low, undone = MADE[fault][0], UNDONE if fault == "zone" else 95.6
    undo_t = case_of().undo_start(fault)
    assert undo_t == pytest.approx(T0 + undone)
    for t in (low, low + 1, undone - 0.1):
        assert seen_by(fault, (t, subject, value)) == (says,)
    for t in (low - 0.25, undone + 0.25):
        assert seen_by(fault, (t, subject, value)) == ()


@pytest.mark.parametrize(
    ("fault", "subject", "value"),
    [
        ("zone", f"targets:{A}", {"healthy": 1}),
        ("zone", f"targets:{B}", {"healthy": 0}),
        ("zone", f"targets:{A}", "unknown"),
        ("zone", f"nodes:{A}", {"ready": 1}),
        ("zone", f"nodes:{A}", {}),
        ("region", f"health_check:{EAST}", "healthy"),
        ("region", f"health_check:{WEST}", "unhealthy"),
    ],
)
def test_what_is_not_all_gone_or_not_of_it_is_no_witness(
    fault: str, subject: str, value: Any
) -> None:
    assert seen_by(fault, (80 if fault == "region" else 60, subject, value)) == ()


@pytest.mark.parametrize(
    ("fault", "subject", "whole", "gone"),
    [
        ("zone", f"targets:{A}", {"healthy": 2}, {"healthy": 0}),
        ("zone", f"nodes:{A}", {"ready": 2}, {"ready": 0}),
        ("region", f"health_check:{EAST}", "healthy", "unhealthy"),
    ],
)
def test_what_was_gone_before_is_no_witness(
    fault: str, subject: str, whole: Any, gone: Any
) -> None:
    for before, sees in (
        ((whole,), True),
        ((gone, whole), True),
        ((whole, "unknown"), True),
        ((gone,), False),
        ((whole, gone), False),
        ((gone, "unknown"), False),
    ):
        seen = [(10 + n, subject, value) for n, value in enumerate(before)]
        assert bool(seen_by(fault, *seen, (MADE[fault][0], subject, gone))) is sees, before
        assert bool(seen_by(fault, *seen, (MADE[fault][0] + 5, subject, gone))) is sees, before


def test_of_several_sightings_one_is_enough_and_every_witness_is_named() -> None:
    seen: tuple[Seen, ...] = (
        (60, f"targets:{A}", {"healthy": 1}),
        RED,
        (60, f"nodes:{A}", {"ready": 2}),
        (61, f"nodes:{A}", {"ready": 0}),
    )
    found = seen_by("zone", *seen, served=lambda offset: (B,) if offset > 51 else (A, B))
    zone = (f"targets:{A}: none healthy", f"nodes:{A}: none ready")
    assert found == (*zone, f"clients: no success from {A}")
    check = f"health_check:{EAST}"
    assert seen_by("region", (80, check, "unhealthy"), (81, check, "healthy")) == (
        f"{check}: unhealthy",
    )


def test_without_an_undo_or_an_end_nothing_later_counts() -> None:
    phases = tuple(span for span in evidence_of().phases if span.name != "fault:zone")
    nobody = changed("zone", undo_start_t=None)
    assert seen_by("zone", RED, actions=nobody, phases=phases) == ()
    assert seen_by("zone", (51.5, *RED[1:]), actions=nobody, phases=phases) != ()


# ---- seen by clients ---------------------------------------------------------------------------


def missed(*quiet: int, before: range = range(51), from_t: int = 51) -> Served:
    """The zone serves in the seconds ``before``, and from then on save in those that are quiet."""
    gone = set(quiet)
    return lambda o: (A, B) if o in before or (o >= from_t and o not in gone) else (B,)


@pytest.mark.parametrize(
    ("served", "is_gone"),
    [
        (missed(52, 53, 54), True),
        (missed(62, 63, 64), True),
        (missed(*range(51, 66)), True),
        # Two seconds, or the second of the landing or the undo itself: others may just not be due.
        (missed(52, 53), False),
        (missed(52, 53, 55, 56), False),
        (missed(51, 52, 53), False),
        (missed(63, 64, 65), False),
        # It must have served just before, else it is not this that keeps it from serving.
        (missed(*range(51, 66), before=range(46, 47)), True),
        (missed(*range(51, 66), before=range(50, 51)), True),
        (missed(*range(51, 66), before=range(46)), False),
        (missed(54, 55, before=range(0), from_t=51), False),
        (missed(*range(52, 66), before=range(0), from_t=51), False),
    ],
)
def test_three_seconds_without_a_success_from_there_are_seen_by_clients(
    served: Served, is_gone: bool
) -> None:
    said = (f"clients: no success from {A}",) if is_gone else ()
    assert seen_by("zone", served=served) == said


def test_seconds_in_which_nothing_was_due_say_nothing() -> None:
    gone = missed(*range(51, 66))
    assert seen_by("zone", served=gone, planned=lambda o: int(o < 51)) == ()
    assert seen_by("zone", served=gone, planned=lambda _: 1) != ()
    # Two, then none due, then two: nowhere three in a row.
    some = missed(52, 53, 54, 55, 56)
    assert seen_by("zone", served=some, planned=lambda o: int(o != 54)) == ()


def test_a_region_is_seen_to_be_gone_by_clients_too() -> None:
    over = lambda offset: (A,) if offset < 77 else (C,)  # noqa: E731
    assert seen_by("region", served=over) == (f"clients: no success from {EAST}",)
    # Another zone of the region serves on.
    assert seen_by("region", served=lambda offset: (A,) if offset < 77 else (B,)) == ()
    assert seen_by("region", served=lambda _: (C,)) == ()


# ---- pods --------------------------------------------------------------------------------------


def pods(t: float, *uids: str, subject: str = PODS) -> Seen:
    return t, subject, {"ready": len(uids), "total": len(uids), "uids": list(uids)}


@pytest.mark.parametrize(
    ("seen", "is_gone"),
    [
        ([pods(-1, "uid-1", "uid-2"), pods(41, "uid-2")], True),
        ([pods(-1, "uid-1"), pods(41)], True),
        ([pods(-1, "uid-1"), pods(40.5)], True),
        # To the end of the recovery: a pod may take its time to end.
        ([pods(-1, "uid-1"), pods(50.75)], True),
        ([pods(-1, "uid-1"), pods(51)], True),
        ([pods(-1, "uid-1"), pods(51.25)], False),
        # Gone before it was killed.
        ([pods(-1, "uid-1"), pods(39), pods(41)], False),
        ([pods(-1, "uid-1", "uid-2"), pods(39, "uid-2"), pods(41, "uid-2")], False),
        ([pods(-1, "uid-1"), (39, PODS, "unknown"), pods(41)], True),
        ([pods(-1, "uid-1"), pods(41, "uid-1")], False),
        ([pods(-1, "uid-2"), pods(41)], False),
        ([pods(41)], False),
        ([pods(41, "uid-1"), pods(42)], False),
        ([pods(-1, "uid-1"), pods(41, subject=f"pods:{B}/file")], False),
        ([pods(-1, "uid-1"), (41, PODS, "unknown")], False),
        ([pods(-1, "uid-1"), (41, PODS, "unknown"), pods(42)], True),
    ],
)
def test_a_pod_is_gone_for_one_who_saw_it_before(seen: list[Seen], is_gone: bool) -> None:
    assert seen_by("pod", *seen) == ((f"{PODS} lost the pods named",) if is_gone else ())


def test_every_pod_named_must_be_gone() -> None:
    two = changed("pod", targets=("file uid-1", "file uid-9"))
    other = f"pods:{B}/file"
    seen = [pods(-1, "uid-1"), pods(-1, "uid-9", "uid-8", subject=other), pods(41)]
    assert seen_by("pod", *seen, actions=two) == ()
    seen.append(pods(42, "uid-8", subject=other))
    assert seen_by("pod", *seen, actions=two) == (
        f"{PODS} lost the pods named",
        f"{other} lost the pods named",
    )


def test_where_no_recovery_is_recorded_a_pod_must_go_in_the_hold() -> None:
    phases = evidence_of().phases
    ended = {t: pods(t) for t in (44, 46)}
    for without in (
        tuple(span for span in phases if span.name != "recovery:pod"),
        tuple(
            dataclasses.replace(s, end_t=None) if s.name == "recovery:pod" else s for s in phases
        ),
    ):
        assert seen_by("pod", pods(-1, "uid-1"), ended[44], phases=without) != ()
        assert seen_by("pod", pods(-1, "uid-1"), ended[46], phases=without) == ()


# ---- a service that is stopped, a version that is delivered ------------------------------------

ZONES = "experiments/zones/lose-us-east-1a.json"
SERVICE = plan((ZONES, "experiments/services/stop-image.json"))
STOPPED = changed("zone", targets=(f"deployment:{A}/image", f"deployment:{B}/image"))


def image(zone: str, t: float, ready: Any) -> Seen:
    return t, f"pods:{zone}/image", {"ready": ready}


@pytest.mark.parametrize(
    ("seen", "is_gone"),
    [
        ([image(A, -1, 2), image(A, 51.75, 0), image(B, -1, 1), image(B, 65.5, 0)], True),
        ([image(A, -1, 2), image(A, 60, 1), image(B, -1, 1), image(B, 60, 0)], False),
        ([image(A, -1, 2), image(A, 60, 0), image(B, -1, 1)], False),
        ([image(A, -1, 2), image(A, 60, 0), image(B, -1, 0), image(B, 60, 0)], False),
        ([image(A, -1, 2), image(A, 60, 0), image(B, 60, 0)], False),
        ([image(A, -1, 2), image(A, 60, 0), image(B, -1, 1), image(B, 65.75, 0)], False),
        ([image(A, -1, 2), image(A, 60, 0), image(B, -1, 1), image(B, 60, None)], False),
        ([image(A, -1, 2), image(A, 60, 0), image(A, 61, 2), image(B, -1, 1), image(B, 60, 0)],
         True),
    ],
)  # fmt: skip
def test_of_every_service_that_is_stopped_no_pod_is_ready(seen: list[Seen], is_gone: bool) -> None:
    said = tuple(f"pods:{zone}/image: none ready" for zone in (A, B)) if is_gone else ()
    assert seen_by("zone", *seen, given=SERVICE, actions=STOPPED) == said


DELIVERY = plan((ZONES, "experiments/delivery/rolling-update.json"))
ROLLOUT, DEPLOYMENT = f"rollout:{A}/gateway", f"deployment:{A}/file"
DELIVERED = changed("zone", targets=(ROLLOUT, DEPLOYMENT))


def asks(t: float, version: Any, subject: str = ROLLOUT) -> Seen:
    return t, subject, {"current" if subject == ROLLOUT else "revision": version}


@pytest.mark.parametrize(
    ("seen", "is_seen"),
    [
        ([asks(-1, "old"), asks(51.75, "new")], True),
        ([asks(-1, "old"), asks(60, "old"), asks(61, "new"), asks(62, "old")], True),
        ([asks(-1, "old"), asks(60, "old")], False),
        ([asks(-1, "old")], False),
        ([asks(-1, "old"), asks(60, None)], False),
        ([asks(-1, "old"), (60, ROLLOUT, "unknown")], False),
        ([asks(60, "new")], False),
        ([asks(-1, None), asks(60, "new")], False),
        ([asks(-1, "old"), asks(66, "new")], False),
    ],
)
def test_a_delivery_is_seen_where_another_version_than_before_is_asked_for(
    seen: list[Seen], is_seen: bool
) -> None:
    other = [asks(-1, 1, DEPLOYMENT), asks(60, 2, DEPLOYMENT)]
    said = tuple(f"{s}: another version is asked for" for s in (DEPLOYMENT, ROLLOUT))
    found = seen_by("zone", *seen, *other, given=DELIVERY, actions=DELIVERED)
    assert found == (said if is_seen else ())
    assert seen_by("zone", *other, given=DELIVERY, actions=DELIVERED) == ()


def test_of_any_other_fault_whatever_changed_is_told_up_to_three() -> None:
    faults = tuple(
        dataclasses.replace(f, experiment="experiments/other/it.json") if f.name == "zone" else f
        for f in plan().faults
    )
    given = dataclasses.replace(plan(), faults=faults)
    changes = [(t, f"x:{n}", n) for n, t in enumerate((51.25, 51.5, 60, 65.5, 65.75))]
    told = tuple(f"watch/x: x:{n} changed" for n in (1, 2, 3))
    assert seen_by("zone", *changes, given=given) == told
    assert seen_by("zone", *changes, (62, "x:5", 5), given=given) == told
    assert seen_by("zone", changes[0], changes[-1], given=given) == ()
    # Of a zone or region it takes what shows that this one is gone.
    assert seen_by("zone", *changes) == ()
