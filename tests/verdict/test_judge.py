"""What the judge must say of a game day that went wrong in one way, and of one that did not."""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.evidence import histogram
from harness.evidence.model import Evidence, Gap, TallySecond
from harness.plan.model import (
    Agreement,
    Alert,
    Availability,
    BlueGreen,
    BurnRate,
    Canary,
    Degradation,
    Durability,
    ErrorBudget,
    ErrorRate,
    Failback,
    Failover,
    Latency,
    Mtbf,
    Mttr,
    NoOtherAlert,
    Plan,
    Recovery,
    Regression,
    RollingUpdate,
    Scaling,
    Throughput,
)
from harness.verdict import Finding, Outcome, Verdict, judge
from harness.verdict.agreement import view
from harness.verdict.case import Case
from harness.verdict.landing import Landing
from tests.verdict import deliveries
from tests.verdict.build import T0, WEST, A, B, Day, plan

#: The module, which the function of the same name hides.
JUDGE = sys.modules["harness.verdict.judge"]
PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN


def judged(day: Day, *changes: tuple[str, str]) -> Verdict:
    return judge(plan(*changes), day.evidence())


def found(verdict: Verdict, objective: str, phase: str | None = None) -> Finding:
    """The one finding whose objective begins so (in ``phase``, if it is judged in several)."""
    mine = [
        f
        for f in verdict.findings
        if f.objective.startswith(objective) and phase in (None, f.phase)
    ]
    assert len(mine) == 1, [(f.objective, f.phase) for f in mine]
    return mine[0]


def ends(verdict: Verdict, outcome: Outcome, exit_status: int, *words: str) -> None:
    """The verdict's outcome and exit status, and that findings of that outcome say ``words``."""
    assert (verdict.outcome, int(verdict.exit_status)) == (outcome, exit_status), verdict.summary
    told = "\n".join(f.because for f in verdict.findings if f.outcome is outcome)
    for word in words:
        assert word in told
    if outcome is not PASS and exit_status in (99, 111):
        assert any(f.because in verdict.summary for f in verdict.findings if f.outcome is outcome)


def test_a_day_on_which_everything_came_back_passes() -> None:
    verdict = judged(Day())
    ends(verdict, PASS, 0)
    assert {f.outcome for f in verdict.findings} == {PASS}
    assert not verdict.gaps
    assert [step["step"] for step in verdict.timeline if step["fault"] == "region"] == [
        "landed",
        "health_check_red",
        "dns_changed",
        "first_success",
        "db_promoted",
        "db_writable",
        "holds",
        "restored",
        "db_back",
        "health_check_green",
        "dns_back",
        "success_back",
        "holds",
    ]


# ---- the system fails ------------------------------------------------------------------------


def test_dns_that_never_fails_over_fails() -> None:
    ends(judged(Day(dns_fails_over=False)), FAIL, 99, "DNS never fails over")


def test_the_summary_names_the_cause_before_its_effects() -> None:
    verdict = judged(Day(dns_fails_over=False))
    ends(verdict, FAIL, 99)
    assert "DNS never fails over" in verdict.summary
    assert "availability" not in verdict.summary
    late = judged(Day(late_s=0.4, latency_s=0.4))
    ends(late, UNKNOWN, 111)
    assert "over 50 ms late" in late.summary


def test_a_standby_that_is_never_promoted_fails() -> None:
    ends(judged(Day(db_promoted=False)), FAIL, 99, "standby database", "never promoted")


def test_a_lost_upload_fails_and_is_named() -> None:
    ends(judged(Day().read_back("obj-020", "missing")), FAIL, 99, "1 lost: obj-020")


def test_an_upload_lost_within_the_rpo_passes_and_is_named() -> None:
    verdict = judged(Day().read_back("obj-074", "missing"))
    ends(verdict, PASS, 0)
    assert "1 missing within the RPO: obj-074" in found(verdict, "durability").because


@pytest.mark.parametrize("name", ["obj-070", "obj-080"])
def test_the_rpo_covers_nothing_before_its_window_nor_after_the_landing(name: str) -> None:
    ends(judged(Day().read_back(name, "missing")), FAIL, 99, f"lost: {name}")


def test_an_altered_upload_fails_even_within_the_rpo() -> None:
    ends(judged(Day().read_back("obj-074", "altered")), FAIL, 99, "1 altered: obj-074")


def test_an_upload_that_could_not_be_read_back_is_unknown() -> None:
    ends(judged(Day().read_back("obj-020", "error")), UNKNOWN, 111, "not read back: obj-020")


def test_an_upload_that_was_never_read_back_is_unknown() -> None:
    day = Day()
    del day.readbacks["obj-020"]
    ends(judged(day), UNKNOWN, 111, "not read back: obj-020")


def test_an_upload_that_timed_out_may_be_missing_or_altered_by_nobody() -> None:
    day = Day().read_back("unsure", "missing")
    day.ledger.append(dataclasses.replace(day.ledger[40], object="unsure", outcome="unsure"))
    ends(judged(day), PASS, 0)


def test_pods_that_are_not_replaced_fail() -> None:
    ends(judged(Day(pods_replaced=False)), FAIL, 99, "pods were not replaced", "1 ready of 2")


def test_error_bodies_with_status_200_fail() -> None:
    day = Day()
    good = day.seconds[20].cells
    wrong = day.cell("download", "", 1, error="error-body")
    fewer = dataclasses.replace(good[0], n=good[0].n - 1)
    day.seconds[20] = dataclasses.replace(day.seconds[20], cells=(fewer, *good[1:], wrong))
    ends(judged(day), FAIL, 99, "error bodies served with status 200")


def test_a_load_balancer_that_keeps_sending_to_the_dead_zone_fails() -> None:
    verdict = judged(Day(balancer_turns_away=False))
    ends(verdict, FAIL, 99, f"load balancer kept sending to {A}")


@pytest.mark.parametrize(
    ("at_the_end", "outcome"),
    [
        ({"healthy": 2, "total": 2}, PASS),
        ({"healthy": 1, "total": 2}, FAIL),
        ({"healthy": 0, "total": 0}, FAIL),
        # Fewer are wanted by then: all that are serve.
        ({"healthy": 1, "total": 1}, PASS),
        ("unknown", UNKNOWN),
        ({}, UNKNOWN),
    ],
)
def test_a_zone_must_serve_again_by_the_end_of_its_recovery(
    at_the_end: object, outcome: Outcome
) -> None:
    day = Day()
    day.see("targets", 75, f"targets:{A}", at_the_end)
    verdict = judged(day)
    assert found(verdict, "zone back").outcome is outcome
    if outcome is FAIL:
        ends(verdict, FAIL, 99, f"{A} does not serve again")


def test_a_relapse_after_the_recovery_fails() -> None:
    verdict = judged(Day(outage=range(73, 76)))
    ends(verdict, FAIL, 99, "not recovered", "not good at the end")


def test_a_relapse_that_heals_moves_the_recovery_to_its_end() -> None:
    verdict = judged(Day(outage=range(68, 70)))
    recovery = found(verdict, "recovery", "recovery:zone")
    assert recovery.outcome is FAIL
    assert "lost again 1 times" in recovery.because
    assert recovery.measured and recovery.measured.low and recovery.measured.low > 17


def test_a_latency_that_is_too_high_fails() -> None:
    ends(judged(Day(latency_s=0.3)), FAIL, 99, "succeeded within 200 ms")


def test_two_failures_beat_one_unknown() -> None:
    day = Day().read_back("obj-020", "missing").read_back("obj-021", "altered")
    verdict = judged(day.change_requests(status="error"))
    assert found(verdict, "agreement").outcome is UNKNOWN
    ends(verdict, FAIL, 99, "obj-020", "obj-021")


# ---- the evidence does not suffice -------------------------------------------------------------


def test_a_prometheus_that_stopped_half_way_is_unknown() -> None:
    day = Day().change_points(lambda t, v: str(v) if t < 20 else None)
    ends(judged(day), UNKNOWN, 111, "gateway_requests: no scrape for")


def test_a_generator_that_was_killed_half_way_is_unknown_about_the_rest() -> None:
    day = Day()
    day.seconds = {offset: s for offset, s in day.seconds.items() if offset < 60}
    day.tally_end = None
    verdict = judge(
        plan(),
        dataclasses.replace(day.evidence(), gaps=(Gap("tally/w0", "end", None, "no tally.end"),)),
    )
    assert verdict.outcome is not PASS
    assert found(verdict, "planned rate sent", "cool-down").outcome is UNKNOWN
    assert found(verdict, "availability", "cool-down").outcome is UNKNOWN
    assert found(verdict, "availability", "baseline").outcome is PASS
    ends(verdict, UNKNOWN, 111, "no tally.end", "generator stopped?")


def test_a_generator_that_was_lost_is_unknown_though_its_share_is_counted() -> None:
    day = Day()
    day.say("fleet", 30, "worker.lost", worker="w1", why="not heard of for 2.6 s")
    ends(judged(day), UNKNOWN, 111, "worker w1 was lost (not heard of for 2.6 s)")


def test_a_generator_that_left_in_order_is_no_gap() -> None:
    day = Day()
    day.say("fleet", 30, "worker.left", worker="w0", why="it was stopped")
    ends(judged(day), PASS, 0)


def test_a_generator_that_came_back_may_have_sent_twice() -> None:
    day = Day()
    day.say("fleet", 30, "worker.returned", worker="w1")
    ends(judged(day), UNKNOWN, 111, "worker w1: returned")


@pytest.mark.parametrize(
    ("compared", "says"),
    [
        ({"drift_s": 0.02, "uncertainty_s": 0.03, "bound_s": 0.05}, ""),
        ({"drift_s": -0.04, "uncertainty_s": 0.02, "bound_s": 0.05}, "off by -0.040 s ± 0.020 s"),
        ({"drift_s": 0.0, "uncertainty_s": 0.06, "bound_s": 0.05}, "off by 0.000 s ± 0.060 s"),
        ({"drift_s": float("nan"), "uncertainty_s": 0.0, "bound_s": 0.05}, "off by nan"),
        ({"bound_s": 0.05}, "not compared"),
    ],
)
def test_a_generator_whose_clock_may_be_off_is_unknown(compared: dict, says: str) -> None:
    day = Day()
    day.say("fleet", 30, "worker.clock", worker="w0", **compared)
    if says:
        ends(judged(day), UNKNOWN, 111, says)
    else:
        ends(judged(day), PASS, 0)


def test_a_fault_that_does_not_read_back_never_landed_whatever_the_figures() -> None:
    verdict = judged(Day(landed=False))
    ends(verdict, UNKNOWN, 111, "fault never landed: read back, it does not hold")
    assert found(verdict, "recovery", "recovery:zone").outcome is UNKNOWN
    assert found(verdict, "failover").outcome is UNKNOWN


def test_a_fault_that_only_its_own_call_saw_never_landed() -> None:
    day = Day(pods_replaced=False).without(
        lambda e: e.kind == "sighting" and e.text("subject") == f"pods:{A}/file" and e.t > T0 + 40
    )
    verdict = judged(day)
    ends(verdict, UNKNOWN, 111, "nothing but the call that made it saw it")


def test_a_fault_without_readback_is_not_known_to_have_landed() -> None:
    day = Day().without(lambda e: e.kind == "fault.readback" and e.text("fault") == "zone")
    ends(judged(day), UNKNOWN, 111, "it was not read back")


@pytest.mark.parametrize("observer", ["dns", "health_check", "targets", "databases", "pods"])
def test_an_observer_that_falls_silent_is_unknown(observer: str) -> None:
    source = f"watch/{observer}"
    day = Day().without(lambda e: e.source == source and e.kind == "watch.beat" and e.t > T0 + 60)
    ends(judged(day), UNKNOWN, 111, f"{source} was silent for")


def test_an_observer_that_was_declared_and_never_spoke_is_unknown() -> None:
    day = Day().without(lambda e: e.source == "watch/nodes")
    ends(judged(day), UNKNOWN, 111, "declared, and nothing of it recorded")


def test_what_did_not_happen_while_nobody_looked_is_unknown_and_no_failure() -> None:
    day = Day().without(lambda e: e.source == "watch/dns" and e.t > T0 + 75)
    failover = found(judged(day), "failover")
    assert failover.outcome is UNKNOWN
    assert "watch/dns was silent" in failover.because


def test_a_run_without_observers_is_unknown() -> None:
    day = Day().without(lambda e: e.source.startswith("watch/"))
    day = day.without(lambda e: e.kind == "run.start")
    day.say("conductor", -2, "run.start", run="r")
    ends(judged(day), UNKNOWN, 111, "no observer was declared")


def test_a_stopped_run_says_so_and_is_no_pass() -> None:
    verdict = judged(Day(stopped="SIGINT"))
    ends(verdict, UNKNOWN, 105)
    assert "stopped (SIGINT)" in verdict.summary


def test_a_fault_still_in_place_outranks_everything() -> None:
    verdict = judged(Day(undone=False, stopped="SIGINT").read_back("obj-020", "missing"))
    ends(verdict, FAIL, 113, "still in place: lose_zone")
    assert "not verified as undone: lose_zone of zone, lose_region of region" in verdict.summary
    assert "faults were undone" not in verdict.summary


def test_an_undo_that_was_never_read_back_is_not_verified() -> None:
    day = Day().without(lambda e: e.kind == "undo.readback" and e.text("fault") == "zone")
    ends(judged(day), UNKNOWN, 113, "the undo of lose_zone was not read back")


def test_a_recovery_interval_that_straddles_its_bound_is_unknown() -> None:
    # Landed 0.5 s into second 51; the last bad window begins with 53: good from 1.5 to 2.5 s.
    old = "recovery: within 8s\n    of: [pod, zone, region]"
    outcomes = {}
    for within in ("1s", "2s", "3s"):
        verdict = judged(Day(), (old, f"recovery: within {within}\n    of: [zone]"))
        outcomes[within] = found(verdict, "recovery").outcome
    assert outcomes == {"1s": FAIL, "2s": UNKNOWN, "3s": PASS}


def test_a_failover_interval_that_straddles_its_bound_is_unknown() -> None:
    # The last step, the first write, is seen at 81.1 and was last tried in vain at 79.25; the step
    # before, the promotion, came after 80.25. The fault landed between 76.5 and 76.55.
    old, outcomes = "failover: within 12s", {}
    for within in ("3600ms", "3800ms", "4580ms", "4700ms"):
        verdict = judged(Day(), (old, f"failover: within {within}"))
        outcomes[within] = found(verdict, "failover").outcome
    assert outcomes == {"3600ms": FAIL, "3800ms": UNKNOWN, "4580ms": UNKNOWN, "4700ms": PASS}


def test_too_few_arrivals_are_unknown() -> None:
    day = Day()
    for offset, second in day.seconds.items():
        cells = tuple(dataclasses.replace(c, n=1, latency={}, below={}) for c in second.cells)
        day.seconds[offset] = TallySecond(second.second, len(cells), cells)
    total = sum(second.planned for second in day.seconds.values())
    day.tally_end = {"planned": total, "in_flight": 0}
    ends(judged(day, ("rate: 50/s", "rate: 3/s")), UNKNOWN, 111, "too few arrivals to judge")


def test_a_planned_rate_that_was_not_sent_is_unknown() -> None:
    day = Day()
    for offset in range(10):
        good = day.seconds[offset]
        kept = dataclasses.replace(good.cells[0], n=good.cells[0].n - 15)
        missed = dataclasses.replace(
            day.cell("download", "", 15, error="no free slot"), outcome="not_sent"
        )
        day.seconds[offset] = dataclasses.replace(good, cells=(kept, *good.cells[1:], missed))
    verdict = judged(day, ("availability: at least 99.9 %", "availability: at least 90 %"))
    rate = found(verdict, "planned rate sent", "baseline")
    assert rate.outcome is UNKNOWN
    assert "only 1850 of 2000 planned arrivals were sent" in rate.because


def test_a_schedule_that_was_slowed_is_unknown() -> None:
    day = Day()
    for offset in range(20, 30):
        good = day.seconds[offset]
        cells = (dataclasses.replace(good.cells[0], n=good.cells[0].n - 5), *good.cells[1:])
        day.seconds[offset] = dataclasses.replace(good, planned=good.planned - 5, cells=cells)
    day.tally_end = {"planned": sum(s.planned for s in day.seconds.values()), "in_flight": 0}
    ends(judged(day), UNKNOWN, 111, "the generator was stopped or slowed")


def test_a_late_generator_makes_a_failing_latency_unknown() -> None:
    verdict = judged(Day(latency_s=0.3, late_s=0.1))
    ends(verdict, UNKNOWN, 111, "sends were over 50 ms late")
    assert found(verdict, "latency", "baseline").outcome is UNKNOWN


def test_a_late_generator_leaves_a_passing_latency_passing() -> None:
    verdict = judged(Day(late_s=0.1))
    assert found(verdict, "latency", "baseline").outcome is PASS
    ends(verdict, UNKNOWN, 111, "100.0% of the sends were over 50 ms late")


def test_arrivals_of_which_nothing_is_recorded_may_have_gone_either_way() -> None:
    day = Day()
    good = day.seconds[20]
    kept = (dataclasses.replace(good.cells[0], n=good.cells[0].n - 10), *good.cells[1:])
    day.seconds[20] = dataclasses.replace(good, cells=kept)
    verdict = judged(day)
    assert found(verdict, "availability", "baseline").outcome is UNKNOWN
    ends(verdict, UNKNOWN, 111, "of 10 nothing is recorded")


def test_a_check_that_raises_is_unknown_with_its_reason_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> Finding:
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr(JUDGE, "judge_durability", broken)
    verdict = judged(Day())
    ends(verdict, UNKNOWN, 111, "the check itself failed: ZeroDivisionError: by hand")
    assert sum(f.outcome is UNKNOWN for f in verdict.findings) == 1


@pytest.mark.parametrize(
    "broken", ["landing", "view", "open_undos", "all_gaps", "failover", "judge_evidence"]
)
def test_no_helper_that_raises_ends_the_judging_or_lets_it_pass(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def raises(*_: object) -> None:
        raise ValueError("by hand")

    monkeypatch.setattr(JUDGE, broken, raises)
    verdict = judged(Day())
    assert verdict.outcome is not PASS or broken == "view"
    assert "by hand" in str(verdict.to_json())


def test_a_sighting_of_nonsense_raises_nothing() -> None:
    day = Day()
    for subject in (f"targets:{B}", f"pods:{A}/file", "db:files", "dns:files.lab"):
        day.see("nodes", 90, subject, [{"nested": [1]}, None])
    assert judged(day).to_bytes()


def test_judging_twice_gives_equal_bytes() -> None:
    assert judged(Day()).to_bytes() == judged(Day()).to_bytes()


def test_a_standby_that_served_before_the_fault_is_no_failover() -> None:
    day = Day(dns_fails_over=False)
    day.say("load/w0", 30.0, "mark.region", **{"from": "us-east-1", "to": WEST})
    ends(judged(day), FAIL, 99, f"no success was ever served by {WEST}")


@pytest.mark.parametrize("t", [0.0, 5e9])
@pytest.mark.parametrize("kind", ["phase.start", "phase.end", "fault.made", "undo.start"])
def test_an_instant_that_is_none_of_the_run_is_told_at_once_and_never_passes(
    kind: str, t: float
) -> None:
    """The seconds between it and the run would take the judge minutes."""
    day = Day()
    index = next(i for i, e in enumerate(day.events) if e.kind == kind and "region" in str(e.data))
    event = day.events[index]
    data = {**event.data, **{k: t for k in event.data if k.startswith("call_")}}
    day.events[index] = dataclasses.replace(event, t=t, data=data)
    assert judge(plan(), day.evidence()).outcome is not Outcome.PASS


# ---- what is judged of which phase -----------------------------------------------------------


def of_everything() -> Plan:
    """A plan with every kind of objective, each called as its class."""
    zone: dict[str, Any] = {"text": "", "faults": ("zone",), "line": 1}
    pod, region = {**zone, "faults": ("pod",)}, {**zone, "faults": ("region",)}
    during: dict[str, Any] = {"text": "", "phases": ("baseline", "cool-down"), "line": 1}
    told: dict[str, Any] = {"text": "", "line": 1}
    objectives = (
        Availability(**during, at_least=0.9),
        ErrorRate(**during, below=0.1),
        Latency(**during, fraction=0.9, below_s=0.2),
        Throughput(**during, at_least=0.9),
        Agreement(**during, within=0.1),
        BurnRate(**during, below=1.0, windows_s=(60.0,), slo=0.9),
        Regression(**during, figure="p95", at_most=0.1, runs=5),
        NoOtherAlert(**during),
        ErrorBudget(**during, at_most=0.1, slo=0.9, period_s=3600.0),
        ErrorBudget(**{**during, "phases": ("cool-down",)}, at_most=0.1, slo=0.9, period_s=3600.0),
        Recovery(**pod, within_s=8.0),
        Failover(**region, within_s=8.0),
        Failback(**region, within_s=8.0),
        Alert(**zone, alert="Down", fires_within_s=8.0, resolves_within_s=8.0),
        Alert(**pod, alert="Down", fires_within_s=8.0),
        Degradation(**zone, operations=("a", "b"), within_s=8.0, at_least=0.9, whole_within_s=8.0),
        Canary(**zone, ends="withdrawn", within_s=8.0),
        BlueGreen(**pod, within_s=8.0),
        RollingUpdate(**region, within_s=8.0),
        Durability(**region, rpo_s=5.0),
        Scaling(**told, service="file", out_within_s=8.0, in_within_s=8.0),
        Mttr(**told, below_s=8.0),
        Mtbf(**told, above_s=8.0),
    )
    named = tuple(dataclasses.replace(o, text=type(o).__name__) for o in objectives)
    return dataclasses.replace(plan(), objectives=named)


#: What is judged of that plan: the objective, the phase, the check that judges it.
JUDGED_OF_EVERYTHING = """
evidence complete | all | judge_evidence
generator healthy | all | judge_generator
content | all | judge_content
planned rate sent | baseline | judge_rate
Availability | baseline | judge_availability
ErrorRate | baseline | judge_error_rate
Latency | baseline | judge_latency
Throughput | baseline | judge_throughput
Agreement | baseline | judge_agreement
BurnRate | baseline | judge_burn_rate
Regression | baseline | judge_regression
NoOtherAlert | baseline | judge_no_other
planned rate sent | fault:pod | judge_rate
fault landed | fault:pod | judge_landing
undone | fault:pod | judge_undo
system | fault:pod | judge_system
Alert | fault:pod | judge_fires
BlueGreen | fault:pod | judge_blue_green
planned rate sent | recovery:pod | judge_rate
Recovery | recovery:pod | judge_recovery
planned rate sent | fault:zone | judge_rate
fault landed | fault:zone | judge_landing
undone | fault:zone | judge_undo
system | fault:zone | judge_system
Alert | fault:zone | judge_fires
Degradation | fault:zone | judge_degrades
Canary | fault:zone | judge_canary
planned rate sent | recovery:zone | judge_rate
Alert | recovery:zone | judge_resolves
whole again: a, b | recovery:zone | judge_whole_again
planned rate sent | fault:region | judge_rate
fault landed | fault:region | judge_landing
undone | fault:region | judge_undo
system | fault:region | judge_system
Failover | fault:region | judge_failover
RollingUpdate | fault:region | judge_rolling_update
planned rate sent | recovery:region | judge_rate
Failback | recovery:region | judge_failback
planned rate sent | cool-down | judge_rate
Availability | cool-down | judge_availability
ErrorRate | cool-down | judge_error_rate
Latency | cool-down | judge_latency
Throughput | cool-down | judge_throughput
Agreement | cool-down | judge_agreement
BurnRate | cool-down | judge_burn_rate
Regression | cool-down | judge_regression
NoOtherAlert | cool-down | judge_no_other
ErrorBudget | all | judge_error_budget
ErrorBudget | cool-down | judge_error_budget
degraded otherwise: a, b | all | judge_only_declared
Durability | all | judge_durability
Scaling | all | judge_scaling
Mttr | all | judge_mttr
Mtbf | all | judge_mtbf
"""


def test_every_objective_is_judged_of_its_own_phases_and_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raises(name: str) -> Callable[..., Finding]:
        def check(*_: object) -> Finding:
            raise ValueError(name)

        return check

    for name in dir(JUDGE):
        if name.startswith("judge_"):
            monkeypatch.setattr(JUDGE, name, raises(name))
    for table in (JUDGE._PER_PHASE, JUDGE._PER_DELIVERY):
        for kind, check in table.items():
            monkeypatch.setitem(table, kind, raises(check.__name__))
    verdict = judge(of_everything(), Day().evidence())
    assert {f.outcome for f in verdict.findings} == {UNKNOWN}
    said = [f"{f.objective} | {f.phase} | {f.because.rpartition(' ')[2]}" for f in verdict.findings]
    assert said == JUDGED_OF_EVERYTHING.strip().splitlines()


def test_what_clients_counted_is_judged_again_without_the_seconds_that_had_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    again: set[str] = set()

    def noted(case: Case, _: object, finding: Finding, check: Callable[[Case], Finding]) -> Finding:
        again.add(finding.objective.partition(":")[0])
        assert check(case) == finding
        return finding

    monkeypatch.setattr(JUDGE, "excused_in_part", noted)
    judged(Day())
    # What Prometheus counted stays whole, and so would not agree.
    assert again == {"availability", "latency", "error rate", "throughput", "recovery"}


# ---- what is said of the whole ---------------------------------------------------------------


def test_causes_are_told_before_effects_and_the_experiment_s_own_word_last() -> None:
    names = [*JUDGE._TELLING, "availability", "experiment"]
    findings = [Finding(f"{name}: x", "all", FAIL, None, "", "") for name in names]
    shuffled = random.Random(1).sample(findings, len(findings))
    assert sorted(shuffled, key=JUDGE._how_telling) == findings


def test_the_summary_says_how_many_findings_are_why() -> None:
    assert judged(Day()).summary == (
        "every objective held after losing pod, zone, region, on sufficient evidence"
    )
    one = judged(Day().read_back("obj-020", "missing"))
    because = found(one, "durability").because
    assert one.summary == (
        "1 of 43 findings failed: durability: no upload lost or altered (all): " + because
    )
    lost = Day(pods_replaced=False).read_back("obj-020", "missing")
    assert judged(lost).summary.startswith("2 of 43 findings failed: durability")
    assert judged(lost).summary.endswith("; and 1 more")
    unknown = judged(Day().read_back("obj-020", "error"))
    assert unknown.summary.startswith("1 of 43 findings cannot be told: durability")


def test_the_summary_says_what_was_done() -> None:
    good = deliveries.Delivery(deliveries.good_canary(), {26: 20.0, 36: 50.0, 46: 100.0, 60: 0.0})
    delivered = judge(deliveries.plan("canary: promoted within 30s"), good.evidence())
    assert delivered.summary == (
        "every objective held after delivering new, on sufficient evidence"
    )
    nothing = dataclasses.replace(plan(), faults=(), objectives=())
    day = Day().without(lambda e: bool(e.text("fault")))
    assert judge(nothing, day.evidence()).summary == (
        "every objective held under load, on sufficient evidence"
    )


def test_a_run_that_was_stopped_says_so_whatever_else_is_found() -> None:
    said = "the run was stopped (SIGINT) before its end; faults were undone"
    whole, bad = Day(stopped="SIGINT"), Day(stopped="SIGINT").read_back("obj-020", "missing")
    for day, outcome in ((whole, UNKNOWN), (bad, FAIL)):
        verdict = judged(day)
        ends(verdict, outcome, 105)
        assert verdict.summary == said


@pytest.mark.parametrize(("stopped", "status"), [("SIGINT", 105), ("", 111)])
def test_the_last_end_of_a_run_says_whether_it_was_stopped(stopped: str, status: int) -> None:
    day = Day(stopped="" if stopped else "SIGINT")
    day.say("conductor", 130, "run.end", stopped=stopped)
    ends(judged(day), UNKNOWN, status)


def test_what_is_still_in_place_is_named_with_what_stopped_the_run() -> None:
    still = (
        "not verified as undone: lose_zone of zone, lose_region of region; run `harness recover`"
    )
    assert judged(Day(undone=False)).summary == still
    stopped = judged(Day(undone=False, stopped="SIGINT"))
    assert stopped.summary == f"the run was stopped (SIGINT); {still}"


# ---- checks that raise -----------------------------------------------------------------------


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def raises(*_: object) -> None:
        raise ValueError("by hand")

    yield lambda name: monkeypatch.setattr(JUDGE, name, raises)


def test_gaps_that_cannot_be_told_are_a_gap_beside_those_that_were_found(
    breaks: Callable[[str], None],
) -> None:
    breaks("all_gaps")
    evidence = dataclasses.replace(Day().evidence(), gaps=(Gap("a", "b", None, "c"),))
    found_gaps = [(gap["source"], gap["detail"]) for gap in judge(plan(), evidence).gaps]
    assert found_gaps == [("a", "c"), ("judge", "gaps cannot be told: ValueError: by hand")]


def test_a_landing_that_cannot_be_told_is_none(breaks: Callable[[str], None]) -> None:
    breaks("landing")
    landings = JUDGE._Judge(Case(plan(), Day().evidence())).landings
    assert landings["zone"] == Landing("zone", 0.0, 0.0, (), "cannot be told: ValueError: by hand")


def test_undos_that_cannot_be_told_are_not_undone(breaks: Callable[[str], None]) -> None:
    breaks("open_undos")
    verdict = judged(Day())
    ends(verdict, UNKNOWN, 113)
    assert verdict.summary == (
        "not verified as undone: cannot be told which: ValueError: by hand; run `harness recover`"
    )


def test_a_failure_whose_excuse_cannot_be_told_stays_one(breaks: Callable[[str], None]) -> None:
    breaks("excused")
    verdict = judged(Day().read_back("obj-020", "missing"))
    ends(verdict, FAIL, 99, "(the machine's share cannot be told: ValueError: by hand)")


def test_steps_that_cannot_be_told_are_a_step_that_says_so(breaks: Callable[[str], None]) -> None:
    breaks("failover")
    verdict = judged(Day())
    [step] = [step for step in verdict.timeline if step["fault"] == "region"]
    assert (step["step"], step["t"], step["uncertainty_s"]) == ("unknown", None, 0.0)
    assert step["because"] == "cannot be told: ValueError: by hand"
    assert len(verdict.timeline) == 5


def test_counters_that_cannot_be_told_are_figures_less(breaks: Callable[[str], None]) -> None:
    breaks("view")
    verdict = judged(Day())
    ends(verdict, PASS, 0)
    said = verdict.phases[0]["prometheus"]
    assert said["why_not"] == "cannot be told: ValueError: by hand"
    assert said["requests"] is None


# ---- the timeline ----------------------------------------------------------------------------


def steps(day: Day, fault: str, given: Plan | None = None) -> list[tuple[object, ...]]:
    """Its steps: name, seconds after ``T0``, uncertainty, seconds after the landing, expected."""
    shown = judge(given or plan(), day.evidence()).timeline
    return [
        (s["step"], pytest.approx(s["t"] - T0, abs=1e-5), pytest.approx(s["uncertainty_s"]),
         pytest.approx(s["after_s"]), s["expected_s"])
        for s in shown
        if s["fault"] == fault
    ]  # fmt: skip


def once_more(undone: float) -> Day:
    """The pods' fault has a second action, taken back then."""
    day = Day()
    source, said = "chaos/pod", {"fault": "pod", "undo": "pod-2"}
    day.say(source, 40.7, "fault.start", **said, action="kill", targets=["file-1 uid-1"])
    day.say(source, 40.8, "fault.made", **said)
    day.say(source, 40.8, "fault.readback", **said, holds=True)
    day.say(source, 43, "undo.start", **said)
    day.say(source, undone, "undo.done", **said)
    day.say(source, undone, "undo.readback", **said, restored=True)
    return day


def test_a_fault_s_steps_are_its_landing_and_its_last_undo() -> None:
    expected = plan().with_recorded(expected={"restored_s": 4.5})
    for undone, last in ((44.2, 44.7), (44.9, 44.9)):
        assert steps(once_more(undone), "pod", expected) == [
            ("landed", 40.55, 0.05, 0.0, None),
            ("restored", last, 0.0, last - 40.5, 4.5),
        ]


def test_what_was_taken_back_before_it_landed_was_so_at_once() -> None:
    late = Landing("pod", T0 + 44.9, T0 + 44.9, ("pods",), "")
    [step] = JUDGE._Judge(Case(plan(), Day().evidence()))._restored("pod", late)
    assert (step.t, step.after_s) == (T0 + 44.7, 0.0)
    never = Day().without(lambda e: e.kind == "undo.done" and e.text("fault") == "pod")
    assert [step[0] for step in steps(never, "pod")] == ["landed"]


def test_a_delivery_s_steps_are_those_of_its_version_too() -> None:
    verdict = judge(
        deliveries.plan("canary: withdrawn within 15s"), deliveries.Delivery().evidence()
    )
    names = [step["step"] for step in verdict.timeline]
    assert (names[0], names[-1]) == ("landed", "restored")
    assert "withdrawn" in names


def test_a_fault_that_never_landed_has_no_steps() -> None:
    assert judged(Day(landed=False)).timeline == ()


# ---- the figures -----------------------------------------------------------------------------


def of_all_kinds() -> Evidence:
    """500 arrivals of the cool-down: 445 take 10 ms, 30 take 150 ms, 20 take 300 ms; four went
    otherwise, and of one nothing is recorded."""
    day = Day()
    cells = []
    for n, latency_s in ((445, 0.01), (30, 0.15), (20, 0.3)):
        latency = {histogram.index_of(int(latency_s * 1e6)): n}
        below = {"0.2": n if latency_s < 0.2 else 0}
        cell = day.cell("download", B, n)
        cells.append(dataclasses.replace(cell, latency=latency, below=below))
    bad = day.cell("download", "", 1)
    for outcome in ("degraded", "failed", "unsure", "not_sent"):
        cells.append(dataclasses.replace(bad, outcome=outcome))
    for offset in range(116, 126):
        day.seconds[offset] = TallySecond(T0 + offset, 0, ())
    day.seconds[120] = TallySecond(T0 + 120, 500, tuple(cells))
    return day.evidence()


def test_the_figures_of_a_phase_are_what_clients_counted_in_it() -> None:
    shown = judge(plan(), of_all_kinds()).phases[-1]
    assert (shown["phase"], shown["kind"], shown["fault"]) == ("cool-down", "cool-down", None)
    assert (shown["start_t"], shown["end_t"]) == (T0 + 116, T0 + 126)
    client = dict(shown["client"])
    latency = client.pop("latency_s")
    assert client == {
        "seconds": 10,
        "planned": 500,
        "sent": 498,
        "ok": 495,
        "degraded": 1,
        "failed": 1,
        "unsure": 1,
        "not_sent": 1,
        "unaccounted": 1,
        "availability": [0.99, 0.992],
        "error_rate": [2 / 499, 3 / 499],
        "below_200ms": [0.95, 0.952],
        "rate": 49.5,
        "regions": {"us-east-1": 495},
        "errors": {"timeout": 3},
    }
    for name, about_s in (("p50", 0.01), ("p95", 0.15), ("p99", 0.3)):
        low, high = latency[name]
        assert low <= about_s <= high < 1.01 * about_s, name


def test_a_phase_that_never_ran_has_no_figures() -> None:
    day = Day().without(lambda e: e.text("phase") == "cool-down")
    shown = judged(day).phases[-1]
    assert (shown["start_t"], shown["end_t"]) == (None, None)
    client = shown["client"]
    assert (client["seconds"], client["rate"], client["availability"]) == (0, None, None)
    assert client["latency_s"] == {"p50": None, "p95": None, "p99": None}


def test_beside_them_are_those_of_prometheus_or_why_there_are_none() -> None:
    case = Case(plan(), Day().evidence())
    seen = view(case, "baseline")
    assert seen.requests is not None
    assert judged(Day()).phases[0]["prometheus"] == {
        "why_not": "",
        "requests": seen.requests,
        "error_rate": seen.error_rate,
        "below_200ms": None if seen.below_200ms is None else list(seen.below_200ms),
    }
    without = judged(Day().change_requests(status="error")).phases[0]["prometheus"]
    assert without["why_not"]
    assert without["requests"] is None
