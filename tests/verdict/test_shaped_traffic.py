"""A rate that changes over time is judged by what was planned then, not by one number."""

from __future__ import annotations

import dataclasses

import pytest

from harness.plan.model import Plan
from harness.plan.recording import Recording
from harness.verdict.case import Case
from harness.verdict.judge import judge
from harness.verdict.model import Outcome
from harness.verdict.recovery import _window
from tests.verdict.build import LAST, RATE, T0, Day, plan

DOUBLE_FROM = 40
SHAPED = plan(("rate: 50/s", "rate: 50/s for 40s, then 100/s"))


def doubled() -> Day:
    """The day, with twice the traffic once the baseline is over."""
    day = Day()
    for offset in range(DOUBLE_FROM, LAST):
        second = day.seconds[offset]
        cells = tuple(
            dataclasses.replace(
                c,
                n=2 * c.n,
                latency={k: 2 * n for k, n in c.latency.items()},
                below={k: 2 * n for k, n in c.below.items()},
            )
            for c in second.cells
        )
        day.seconds[offset] = dataclasses.replace(second, planned=2 * second.planned, cells=cells)
    for entry in [e for e in day.ledger if e.planned_t >= T0 + DOUBLE_FROM]:
        day.ledger.append(dataclasses.replace(entry, object=f"{entry.object}-2"))
        if entry.object in day.readbacks:
            day.read_back(f"{entry.object}-2", "present")
    planned = RATE * DOUBLE_FROM + 2 * RATE * (LAST - DOUBLE_FROM)
    day.tally_end = {"planned": planned, "sent": planned, "not_sent": 0, "in_flight": 0}
    return day


def rates(day: Day, by: Plan) -> set[Outcome]:
    return {
        f.outcome for f in judge(by, day.evidence()).findings if f.objective == "planned rate sent"
    }


def test_a_day_that_followed_its_shape_passes() -> None:
    verdict = judge(SHAPED, doubled().evidence())
    assert {f.outcome for f in verdict.findings} == {Outcome.PASS}, verdict.summary


def test_a_day_that_did_not_is_unknown() -> None:
    assert rates(doubled(), plan()) == {Outcome.PASS, Outcome.UNKNOWN}
    assert rates(Day(), SHAPED) == {Outcome.PASS, Outcome.UNKNOWN}


def test_without_the_start_of_the_schedule_nothing_can_be_said_of_it() -> None:
    evidence = doubled().evidence()
    (tally,) = evidence.tallies
    lost = dataclasses.replace(evidence, tallies=(dataclasses.replace(tally, start={}),))
    verdict = judge(SHAPED, lost)
    found = [f for f in verdict.findings if f.objective == "planned rate sent"]
    assert {f.outcome for f in found} == {Outcome.UNKNOWN}
    assert "when its schedule began" in found[0].because


def test_what_is_due_follows_the_curve_from_each_workers_own_start() -> None:
    evidence = Day().evidence()
    (tally,) = evidence.tallies
    late = dataclasses.replace(tally, worker="w1", start={"start_t": T0 + 2.0})
    case = Case(SHAPED, dataclasses.replace(evidence, tallies=(tally, late)))
    # The second worker's half of the doubled rate begins two seconds later.
    assert case.due(T0 + 39, T0 + 43) == pytest.approx(50 + (2 * 75) + 100)
    assert Case(SHAPED, evidence).due(T0 + 39, T0 + 43) == 50 + 3 * 100


def test_a_recovery_window_is_as_long_as_the_lowest_rate_needs() -> None:
    def window(rate: str) -> int:
        return _window(Case(plan(("rate: 50/s", f"rate: {rate}")), Day().evidence()), T0, T0 + 60)

    assert window("50/s") == 3
    assert window("10/s") == 10
    assert window("100/s for 30s, then 20/s") == 5
    assert window("spike 100/s to 500/s at 5s for 1s") == 3
    assert window("1/s for 100s, then 500/s") == 61  # more than there are: it cannot be told


# ---- recorded traffic --------------------------------------------------------------------------


def replayed(*per_second: int, start_t: float = T0) -> set[Outcome]:
    """How the planned rate is judged when a recording plans so many in each second."""
    recording = Recording(
        file="access.log",
        sha256="0",
        format="common",
        speed=1.0,
        methods=("GET",),
        records=sum(per_second),
        recorded_s=len(per_second),
        out_of_order=0,
        per_second=per_second,
    )
    by = plan()
    traffic = dataclasses.replace(by.traffic, recording=recording, arrivals="recorded")
    evidence = Day().evidence()
    (tally,) = evidence.tallies
    tally = dataclasses.replace(tally, start={"start_t": start_t})
    verdict = judge(
        dataclasses.replace(by, traffic=traffic), dataclasses.replace(evidence, tallies=(tally,))
    )
    found = [f for f in verdict.findings if f.objective == "planned rate sent"]
    assert len(found) == 8
    return {f.outcome for f in found}


def test_a_day_that_sent_what_was_recorded_passes() -> None:
    assert replayed(*[RATE] * 200) == {Outcome.PASS}
    assert replayed(*[RATE] * 200, start_t=T0 - 0.5) == {Outcome.PASS}


def test_a_day_that_sent_more_or_less_than_was_recorded_is_unknown() -> None:
    assert replayed(*[RATE + 20] * 200) == {Outcome.UNKNOWN}
    assert replayed(*[RATE - 20] * 200) == {Outcome.UNKNOWN}


def test_beyond_what_the_plan_knows_of_a_recording_nothing_is_known() -> None:
    assert replayed(*[RATE] * 60) == {Outcome.PASS, Outcome.UNKNOWN}
