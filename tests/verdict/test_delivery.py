"""A delivery is judged by what its rollout went through and by who met the version."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from harness.evidence.model import Evidence
from harness.plan.model import BlueGreen, Canary, Plan, RollingUpdate
from harness.plan.reader import parse_plan
from harness.verdict import Finding, Measured, Outcome, Verdict, judge
from harness.verdict.case import Case
from harness.verdict.delivery import (
    _share,
    delivery_steps,
    judge_blue_green,
    judge_canary,
    judge_rolling_update,
    trials,
)
from harness.verdict.exposure import Exposure
from harness.verdict.landing import landing
from harness.verdict.rollouts import TRANSITIONS, State, follow, state_of
from harness.verdict.traffic import Trial
from tests.verdict.build import REPO, T0
from tests.verdict.deliveries import (
    DEPLOYMENT,
    NEW,
    NEW_PODS,
    OLD,
    OLD_PODS,
    PLAN,
    ROLLOUT,
    Delivery,
    bad_canary,
    blue_green,
    deployment,
    good_canary,
    plan,
    rolling_update,
    rollout,
    trying,
)

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
WITHDRAWN, PROMOTED = "canary: withdrawn within 15s", "canary: promoted within 30s"
SWITCHED, COMPLETE = "blue/green: switched within 15s", "rolling update: complete within 20s"
TRIED = {26.0: 20.0, 36.0: 50.0, 46.0: 100.0, 60.0: 0.0}


def judged(day: Delivery, objective: str) -> Verdict:
    return judge(plan(objective), day.evidence())


def of(verdict: Verdict, objective: str) -> Finding:
    (found,) = [f for f in verdict.findings if f.objective == objective]
    return found


def says(verdict: Verdict, objective: str, outcome: Outcome, *words: str) -> Finding:
    found = of(verdict, objective)
    assert found.outcome is outcome, found.because
    for word in words:
        assert word in found.because
    return found


# ---- a bad version -----------------------------------------------------------------------------


def test_a_bad_canary_that_is_withdrawn_in_time_passes() -> None:
    verdict = judged(Delivery(failing={28: 20, 29: 20}), WITHDRAWN)
    assert {f.outcome for f in verdict.findings} == {PASS}, verdict.summary
    found = says(verdict, WITHDRAWN, PASS, "it fails", "40 of", "100% of the error budget")
    assert found.measured is not None
    # First counted in the scrape of 27, which may tell of a request since 25; gone by 36.
    assert (found.measured.low, found.measured.high) == (8.5, 11.0)
    share = says(verdict, "canary share", PASS, "at weight 20 %")
    assert share.measured is not None and share.measured.value == pytest.approx(0.05, abs=0.002)
    steps = [(s["step"], s["t"] is not None) for s in verdict.timeline]
    assert [s for s, _ in steps] == [
        "landed", "started", "shifted", "exposed", "withdrawn", "restored",
    ]  # fmt: skip


def test_a_canary_that_got_no_traffic_proves_nothing() -> None:
    verdict = judged(Delivery(weights={}), WITHDRAWN)
    says(verdict, WITHDRAWN, UNKNOWN, "received no traffic")
    says(verdict, "canary share", UNKNOWN, "received no traffic")
    assert verdict.outcome is UNKNOWN


def test_withdrawn_too_late_fails_and_near_the_bound_is_unknown() -> None:
    says(judged(Delivery(), "canary: withdrawn within 8s"), "canary: withdrawn within 8s", FAIL)
    says(judged(Delivery(), "canary: withdrawn within 9s"), "canary: withdrawn within 9s", UNKNOWN)


def test_a_bad_version_that_is_promoted_fails() -> None:
    verdict = judged(Delivery(course=good_canary(), weights=TRIED), WITHDRAWN)
    says(verdict, WITHDRAWN, FAIL, "promoted to all users")
    says(verdict, "stable version intact", FAIL)


def test_a_bad_version_that_is_never_given_up_fails() -> None:
    course = {k: v for k, v in bad_canary().items() if k != 36.0}
    verdict = judged(Delivery(course=course, weights={26: 20.0, 60: 0.0}), WITHDRAWN)
    says(verdict, WITHDRAWN, FAIL, "still shifted", "at weight 20 %")


def test_a_hold_too_short_for_the_bound_is_unknown() -> None:
    course = {k: v for k, v in bad_canary().items() if k != 36.0}
    verdict = judged(
        Delivery(course=course, weights={26: 20.0, 60: 0.0}), "canary: withdrawn within 35s"
    )
    says(verdict, "canary: withdrawn within 35s", UNKNOWN, "lengthen the hold")


def test_a_version_given_up_that_still_gets_users_fails() -> None:
    verdict = judged(Delivery(weights={26: 20.0, 50: 0.0}), WITHDRAWN)
    says(verdict, WITHDRAWN, FAIL, "after its weight was 0")
    says(verdict, "canary share", FAIL)


def test_a_version_that_is_tried_again_fails() -> None:
    course = {**bad_canary(), 45.0: trying(20)}
    weights = {26.0: 20.0, 36.0: 0.0, 45.0: 20.0, 60.0: 0.0}
    says(judged(Delivery(course=course, weights=weights), WITHDRAWN), WITHDRAWN, FAIL, "again")


def test_more_users_than_the_weight_fails_and_far_fewer_is_unknown() -> None:
    says(judged(Delivery(weights={26: 45.0, 36: 0.0}), WITHDRAWN), "canary share", FAIL)
    fewer = judged(Delivery(weights={26: 2.0, 36: 0.0}), WITHDRAWN)
    says(fewer, "canary share", UNKNOWN, "fewer users")


def test_pods_of_the_bad_version_left_behind_fail() -> None:
    course = {k: v for k, v in bad_canary().items() if k != 66.0}
    says(judged(Delivery(course=course), WITHDRAWN), "bad version gone", FAIL, NEW_PODS[0])


def test_fewer_pods_of_the_stable_version_fail() -> None:
    course = {**bad_canary(), 66.0: rollout(pods={OLD: OLD_PODS[:1]}, ready=1)}
    says(judged(Delivery(course=course), WITHDRAWN), "stable version intact", FAIL, "1 pods")


def test_wrong_bytes_of_a_version_that_is_withdrawn_are_its_own_and_no_others() -> None:
    tried = Delivery(failing={28: 5, 30: 5}, error="checksum")
    says(judged(tried, WITHDRAWN), "content", PASS, "10 wrong answers of versions being tried")
    for elsewhere in (5, 50, 70):
        later = Delivery(failing={28: 5, elsewhere: 1}, error="checksum")
        says(judged(later, WITHDRAWN), "content", FAIL, "checksum × 6")
    more = Delivery(failing=dict.fromkeys(range(27, 36), 30), error="checksum")
    says(judged(more, WITHDRAWN), "content", FAIL)


def test_wrong_bytes_of_a_version_that_stays_are_a_failure() -> None:
    course = {k: v for k, v in bad_canary().items() if k != 36.0}
    weights = {26.0: 20.0, 60.0: 0.0}
    stays = Delivery(course=course, weights=weights, failing={28: 5}, error="checksum")
    says(judged(stays, WITHDRAWN), "content", FAIL)
    unknown = Delivery(failing={28: 5}, error="checksum", status="error")
    says(judged(unknown, WITHDRAWN), "content", FAIL)


@pytest.mark.parametrize("ahead_s", [5.0, -5.0])
def test_what_pods_served_is_told_by_our_clock_however_far_prometheus_is_ahead(
    ahead_s: float,
) -> None:
    ours = of(judged(Delivery(), WITHDRAWN), WITHDRAWN)
    found = of(judged(Delivery(ahead_s=ahead_s), WITHDRAWN), WITHDRAWN)
    assert (found.outcome, found.measured) == (ours.outcome, ours.measured)
    late = judged(Delivery(ahead_s=ahead_s), "canary: withdrawn within 8s")
    says(late, "canary: withdrawn within 8s", FAIL)


def test_a_clock_of_prometheus_that_is_not_known_well_widens_the_time() -> None:
    day = Delivery(ahead_s=1.0)
    events = list(day._events())
    said = {"subject": "clock:prometheus", "value": 3.0, "uncertainty_s": 0.1}
    events.append(("watch/clock", 30, "sighting", said))
    day._events = lambda: iter(events)  # type: ignore[method-assign]
    found = of(judged(day, WITHDRAWN), WITHDRAWN).measured
    ours = of(judged(Delivery(), WITHDRAWN), WITHDRAWN).measured
    assert found is not None and ours is not None and ours.high is not None
    # It is ahead by 1 to 3 s: by 2 s, give or take one, and the points lie 1 s earlier than so.
    assert (found.low, found.high) == (ours.low, ours.high + 2.0)


def test_a_weight_that_nobody_saw_may_have_been_any() -> None:
    course = {k: v for k, v in bad_canary().items() if k != 26.0}
    for away_s, outcome in ((0.5, FAIL), (1.0, FAIL), (14.0, UNKNOWN)):
        day = Delivery(course=course, looked_away={36.0: away_s})
        found = says(judged(day, WITHDRAWN), "canary share", outcome, "at weight none")
        assert ("nobody saw its weight" in found.because) == (outcome is UNKNOWN)
    more = Delivery(weights={26: 90.0, 45: 0.0}, course=course, looked_away={36.0: 5.0})
    says(judged(more, WITHDRAWN), "canary share", FAIL)
    seen = Delivery(looked_away={36.0: 5.0})
    says(judged(seen, WITHDRAWN), "canary share", PASS)


# ---- nobody looked, or what was seen makes no sense ------------------------------------------


def test_an_observer_that_was_silent_leaves_it_unknown() -> None:
    for silent in (range(21, 60), range(61, 80)):
        verdict = judged(Delivery(silent=silent), WITHDRAWN)
        assert verdict.outcome is UNKNOWN
    says(judged(Delivery(silent=range(21, 60)), WITHDRAWN), WITHDRAWN, UNKNOWN, "silent")


def test_a_rollout_that_could_not_be_seen_is_unknown() -> None:
    course = {**bad_canary(), 30.0: "unknown"}
    says(judged(Delivery(course=course), WITHDRAWN), WITHDRAWN, UNKNOWN, "could not be seen")


def test_a_status_of_an_older_spec_says_nothing() -> None:
    course = {**bad_canary(), 36.0: trying(0, abort=True, observed=False)}
    verdict = judged(Delivery(course=course), WITHDRAWN)
    says(verdict, WITHDRAWN, FAIL, "still shifted")


def test_a_third_version_in_between_is_unknown() -> None:
    course = {**bad_canary(), 50.0: {**trying(0), "current": "cccc"}}
    says(judged(Delivery(course=course), WITHDRAWN), WITHDRAWN, UNKNOWN, "cccc")


def test_a_course_that_jumps_was_not_seen_whole() -> None:
    course = {k: v for k, v in bad_canary().items() if k not in (21.0, 26.0)}
    says(judged(Delivery(course=course), WITHDRAWN), WITHDRAWN, UNKNOWN, "not seen between")


def test_a_delivery_nobody_saw_did_not_land() -> None:
    verdict = judged(Delivery(course={-1.0: rollout()}), WITHDRAWN)
    says(verdict, "fault landed", UNKNOWN)
    says(verdict, WITHDRAWN, UNKNOWN, "never landed")
    assert verdict.outcome is UNKNOWN


@pytest.mark.parametrize(
    "spoil",
    [
        lambda day: setattr(day, "status", "error"),
        lambda day: day.points.clear(),
        lambda day: day.points[NEW_PODS[0]].update({30: "NaN"}),
        lambda day: [points.pop(t) for points in day.points.values() for t in range(30, 35)],
        lambda day: [points.pop(t, 0) for points in day.points.values() for t in range(-3, 21)],
        lambda day: [day.points.pop(pod) for pod in OLD_PODS],
        lambda day: [points.update(dict.fromkeys(points, "47")) for points in day.points.values()],
        lambda day: day.points.pop(NEW_PODS[0]),
    ],
)
@pytest.mark.parametrize("objective", [WITHDRAWN, PROMOTED])
def test_without_sound_counts_of_who_met_it_nothing_passes(spoil: Any, objective: str) -> None:
    good = objective is PROMOTED
    day = Delivery(course=good_canary(), weights=dict(TRIED)) if good else Delivery()
    spoil(day)
    verdict = judged(day, objective)
    says(verdict, objective, UNKNOWN)
    assert verdict.outcome is UNKNOWN


@pytest.mark.parametrize("offset", sorted(bad_canary()))
def test_no_sighting_that_is_lost_makes_a_failure_pass(offset: float) -> None:
    course = {k: v for k, v in good_canary().items() if k != offset}
    assert judged(Delivery(course=course, weights=TRIED), WITHDRAWN).outcome is not PASS


# ---- a good version -----------------------------------------------------------------------------


def test_a_good_canary_that_is_promoted_in_time_passes() -> None:
    verdict = judged(Delivery(course=good_canary(), weights=TRIED), PROMOTED)
    assert {f.outcome for f in verdict.findings} == {PASS}, verdict.summary
    found = says(verdict, PROMOTED, PASS, "tried at 20 %, then 50 %")
    assert found.measured is not None
    assert (found.measured.low, found.measured.high) == (25.0, 25.5)
    assert "delivering" in verdict.summary


def test_a_good_canary_that_is_given_up_fails() -> None:
    says(judged(Delivery(), PROMOTED), PROMOTED, FAIL, "it fails")


def test_a_good_canary_that_waits_for_ever_fails() -> None:
    course = {k: v for k, v in good_canary().items() if k != 46.0}
    weights = {k: v for k, v in TRIED.items() if k != 46.0}
    says(judged(Delivery(course=course, weights=weights), PROMOTED), PROMOTED, FAIL, "50 %")


def test_a_version_given_to_all_without_a_trial_was_no_canary() -> None:
    course = {k: v for k, v in good_canary().items() if k not in (26.0, 36.0)}
    verdict = judged(Delivery(course=course, weights={46: 100.0, 60: 0.0}), PROMOTED)
    says(verdict, PROMOTED, UNKNOWN, "never tried")


# ---- blue/green and rolling ----------------------------------------------------------------------


def switching(**changes: Any) -> Delivery:
    return Delivery(**{"course": blue_green(), "weights": {31: 100.0, 60: 0.0}, **changes})


def test_a_switch_nobody_notices_passes() -> None:
    verdict = judged(switching(), SWITCHED)
    assert {f.outcome for f in verdict.findings} == {PASS}, verdict.summary
    says(verdict, SWITCHED, PASS, "switched 10.0–10.5 s")
    says(verdict, "no request failed", PASS)


def test_a_switch_that_costs_one_request_fails() -> None:
    says(judged(switching(failing={31: 1}), SWITCHED), "no request failed", FAIL, "500 × 1")


def test_a_switch_that_never_comes_or_reaches_nobody_does_not_pass() -> None:
    course = {k: v for k, v in blue_green().items() if k not in (31.0, 31.5)}
    never = judged(switching(course=course, weights={}), SWITCHED)
    says(never, SWITCHED, FAIL, "still started")
    says(judged(switching(weights={}), SWITCHED), SWITCHED, UNKNOWN, "no traffic")


def test_a_switch_that_is_taken_back_by_itself_fails() -> None:
    course = blue_green()
    course[40.0] = {**course[30.0], "abort": True, "message": "RolloutAborted"}
    del course[31.5]
    says(judged(switching(course=course), SWITCHED), SWITCHED, FAIL, "given up")


def rolling(**changes: Any) -> Delivery:
    return Delivery(**{"course": rolling_update(), "subject": DEPLOYMENT, **changes})


def test_a_rolling_update_that_keeps_its_pods_passes() -> None:
    verdict = judged(rolling(), COMPLETE)
    assert {f.outcome for f in verdict.findings} == {PASS}, verdict.summary
    says(verdict, COMPLETE, PASS, "complete 14.0–14.5 s")


def test_a_rolling_update_with_too_few_pods_fails() -> None:
    course = {**rolling_update(), 24.0: deployment(revision="2", updated=1, available=1)}
    says(judged(rolling(course=course), COMPLETE), "enough pods available", FAIL, "only 1")


def test_a_rolling_update_that_never_ends_fails() -> None:
    course = {k: v for k, v in rolling_update().items() if k != 35.0}
    says(judged(rolling(course=course), COMPLETE), COMPLETE, FAIL)
    late = "rolling update: complete within 40s"
    says(judged(rolling(course=course), late), late, UNKNOWN, "too soon")


def test_an_objective_of_the_other_kind_of_delivery_is_unknown() -> None:
    says(judged(rolling(), WITHDRAWN), WITHDRAWN, UNKNOWN)
    says(judged(Delivery(), COMPLETE), COMPLETE, UNKNOWN)


# ---- the table ----------------------------------------------------------------------------


def test_every_state_is_reached_and_a_promoted_version_stays() -> None:
    assert set(TRANSITIONS) == set(State)
    reached = {State.STABLE} | set(itertools.chain.from_iterable(TRANSITIONS.values()))
    assert reached == set(State)
    assert not TRANSITIONS[State.PROMOTED]


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (rollout(), State.STABLE),
        (trying(0), State.STARTED),
        (trying(20), State.SHIFTED),
        (trying(20, abort=True), State.ABORTED),
        (trying(0, abort=True), State.WITHDRAWN),
        (rollout(current=NEW, stable=NEW), State.PROMOTED),
        (rollout(observed=False), None),
        (rollout(stable="cccc"), None),
        ("unknown", None),
        (None, None),
    ],
)
def test_a_sighting_is_one_state_or_cannot_be_read(value: Any, state: State | None) -> None:
    assert state_of(value, OLD, NEW) is state


def test_the_findings_name_the_rollout() -> None:
    found = of(judged(Delivery(), WITHDRAWN), WITHDRAWN)
    assert dataclasses.asdict(found)["because"].startswith("rollout:us-east-1a/gateway: ")


def test_of_a_switch_that_was_never_made_nothing_is_said_and_at_once() -> None:
    day = Delivery(course=blue_green(), weights={31: 100.0, 60: 0.0})
    events = [event for event in day._events() if event[2] != "fault.made"]
    day._events = lambda: iter(events)  # type: ignore[method-assign]
    found = says(judged(day, SWITCHED), "no request failed", UNKNOWN, "never landed")
    assert found.measured is None


def test_counts_over_all_time_are_those_of_the_seconds_that_are_known() -> None:
    case = Case(plan(WITHDRAWN), Delivery().evidence())
    seconds = case.by_second.seconds()
    ever = case.by_second.over(range(10**12))
    assert ever == case.by_second.over(seconds)
    assert ever.planned == 100 * len(seconds)
    some = case.by_second.over(range(seconds[10], 10**12))
    assert some.planned == 100 * (len(seconds) - 10)


# ---- each finding by itself ----------------------------------------------------------------


def case_of(day: Delivery, objective: str | Plan) -> Case:
    return Case(plan(objective) if isinstance(objective, str) else objective, day.evidence())


def found(
    day: Delivery | Evidence, objective: str | Plan, uncounted: range = range(0)
) -> dict[str, Finding]:
    """The findings of one objective, had nobody counted anything in some seconds."""
    asked = plan(objective) if isinstance(objective, str) else objective
    evidence = day.evidence() if isinstance(day, Delivery) else day
    case = Case(asked, evidence).without(frozenset(T0 + second for second in uncounted))
    kind: Any = asked.objectives[-1]
    judges: dict[Any, Any] = {
        Canary: judge_canary,
        BlueGreen: judge_blue_green,
        RollingUpdate: judge_rolling_update,
    }
    findings = judges[type(kind)](case, kind, landing(case, "new"))
    return {finding.objective: finding for finding in findings}


def first(day: Delivery | Evidence, objective: str | Plan, **others: Any) -> Finding:
    asked = objective if isinstance(objective, str) else objective.objectives[-1].text
    return found(day, objective, **others)[asked]


def seconds(finding: Finding) -> tuple[float | None, float | None]:
    assert finding.measured is not None
    return finding.measured.low, finding.measured.high


@pytest.mark.parametrize(
    ("until", "outcome", "words"),
    [(43, PASS, "withdrawn 8.5–11.0 s"), (44, FAIL, "served requests 6 s after")],
)
def test_requests_may_drain_for_five_seconds(until: int, outcome: Outcome, words: str) -> None:
    finding = first(Delivery(weights={26: 20.0, until: 0.0}), WITHDRAWN)
    assert finding.outcome is outcome
    assert words in finding.because


def test_a_version_given_up_before_anybody_met_it_took_no_time() -> None:
    course = {-1.0: rollout(), 21.0: trying(0), 22.0: trying(20), 61.0: rollout()}
    for gone, measured in ((24.0, (0.0, 0.0)), (25.5, (0.0, 0.5)), (27.75, (0.25, 2.75))):
        day = Delivery(course=course | {gone: trying(0, abort=True)}, weights={26: 20.0, 28: 0.0})
        finding = first(day, WITHDRAWN)
        assert (finding.outcome, seconds(finding)) == (PASS, measured)


def test_what_aborted_it_is_said_where_it_is_known() -> None:
    course = bad_canary() | {34.0: trying(20, abort=True, message="it is slow")}
    assert "(it is slow)" in first(Delivery(course=course), WITHDRAWN).because
    silent = bad_canary() | {36.0: trying(0, abort=True)}
    assert "()" not in first(Delivery(course=silent), WITHDRAWN).because


def test_a_version_that_was_tried_again_and_withdrawn_again_fails() -> None:
    again = {37.0: trying(0), 38.0: trying(20), 39.0: bad_canary()[36.0]}
    day = Delivery(course={**bad_canary(), **again}, failing={28: 5}, error="checksum")
    finding = first(day, WITHDRAWN)
    assert (finding.outcome, finding.measured) == (FAIL, None)
    assert "withdrawn, and then started again" in finding.because
    case = case_of(day, WITHDRAWN)
    assert list(trials(case, {"new": landing(case, "new")})) == []


def test_a_scrape_that_was_missed_makes_no_trial_shorter() -> None:
    day = Delivery()
    for t in range(27, 33):
        del day.points[NEW_PODS[0]][t]
    # It was met from 26 to 36, of which a point at 33 tells that it was before.
    finding = first(day, "canary: withdrawn within 8s")
    assert (finding.outcome, seconds(finding)) == (UNKNOWN, (2.5, 11.0))


@pytest.mark.parametrize(
    ("day", "objective", "surely_s"),
    [
        (Delivery(course=bad_canary(), weights={26: 20.0, 60: 0.0}), "canary: withdrawn", 33.0),
        (Delivery(course=good_canary(), weights=TRIED, call_s=1.0), "canary: promoted", 38.5),
        (Delivery(course=blue_green(), call_s=1.0), "blue/green: switched", 38.5),
    ],
)
def test_what_had_not_ended_when_it_was_taken_back_took_as_long_at_least(
    day: Delivery, objective: str, surely_s: float
) -> None:
    ends = {31.0, 31.5} if "switched" in objective else {36.0, 46.0}
    day = dataclasses.replace(day, course={k: v for k, v in day.course.items() if k not in ends})
    late = first(day, f"{objective} within {surely_s - 0.5:g}s")
    assert (late.outcome, late.measured) == (FAIL, Measured(None, surely_s, None, "s"))
    soon = first(day, f"{objective} within {surely_s:g}s")
    assert (soon.outcome, soon.measured) == (UNKNOWN, None)
    assert ("at weight 20 %" in soon.because) == ("canary" in objective)
    assert "too soon to tell" in soon.because


def of_errors(*allowed: tuple[str, str]) -> Plan:
    """The plan with other availabilities: (percentage, phase)."""
    usual = '  - availability: at least 99 %\n    in: ["fault:new"]\n'
    text = "".join(f"  - availability: at least {n} %\n    in: [{p}]\n" for n, p in allowed)
    assert usual in PLAN
    objective = PLAN.replace(usual, text).replace("OBJECTIVE", WITHDRAWN)
    return parse_plan(objective, REPO / "delivery.yaml")


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        ([("99", '"fault:new"')], ", 50% of the error budget of the phase"),
        ([("99", '"fault:new"'), ("90", '"fault:new"')], ", 50% of the error budget of the phase"),
        ([("90", '"fault:new"'), ("99", "baseline")], ", 5% of the error budget of the phase"),
        ([("99", "baseline")], ""),
        ([("100", '"fault:new"')], ""),
        ([("100", '"fault:new"'), ("90", '"fault:new"')], ""),
        ([], ""),
    ],
)
def test_what_it_cost_is_set_against_the_strictest_availability_of_the_phase(
    allowed: list[tuple[str, str]], words: str
) -> None:
    for outcome in ("failed", "unsure"):
        day = Delivery(failing={24: 10, 36: 10, 23: 7, 37: 7}, scraped_s=-0.5, outcome=outcome)
        day.course[36.5] = day.course.pop(36.0)
        # From 24.5, when it may have served the first one, to 36.5.
        because = first(day, of_errors(*allowed)).because
        assert because.endswith(f"; 20 of 1300 arrivals lost meanwhile{words}")


@pytest.mark.parametrize(
    ("day", "objective", "name"),
    [
        (Delivery(), WITHDRAWN, "canary: withdrawn within 15s"),
        (Delivery(), WITHDRAWN, "canary share"),
        (Delivery(), WITHDRAWN, "bad version gone"),
        (Delivery(), WITHDRAWN, "stable version intact"),
        (Delivery(course=good_canary(), weights=TRIED), PROMOTED, PROMOTED),
        (Delivery(course=blue_green(), weights={31: 100.0, 60: 0.0}), SWITCHED, SWITCHED),
        (Delivery(course=rolling_update(), subject=DEPLOYMENT), COMPLETE, COMPLETE),
        (Delivery(course=rolling_update(), subject=DEPLOYMENT), COMPLETE, "enough pods available"),
    ],
)
def test_what_was_not_watched_throughout_or_never_landed_is_unknown(
    day: Delivery, objective: str, name: str
) -> None:
    assert found(day, objective)[name].outcome is PASS
    silent = found(dataclasses.replace(day, silent=range(21, 60)), objective)[name]
    assert (silent.outcome, "silent" in silent.because) == (UNKNOWN, True)
    blind = {**day.course, 40.0: "unknown"}
    assert found(dataclasses.replace(day, course=blind), objective)[name].outcome is UNKNOWN
    evidence = day.evidence()
    faults = tuple(dataclasses.replace(fault, holds=False) for fault in evidence.faults)
    nothing = found(dataclasses.replace(evidence, faults=faults), objective)[name]
    assert (nothing.outcome, "never landed" in nothing.because) == (UNKNOWN, True)


@pytest.mark.parametrize(
    ("objective", "delivered"),
    [(COMPLETE, Delivery()), (WITHDRAWN, rolling()), (SWITCHED, rolling())],
)
def test_an_objective_of_what_was_not_delivered_says_so(
    objective: str, delivered: Delivery
) -> None:
    (finding,) = found(delivered, objective).values()
    assert (finding.outcome, finding.because) == (UNKNOWN, "no record of what was delivered")
    evidence = delivered.evidence()
    (finding,) = found(dataclasses.replace(evidence, faults=()), objective).values()
    assert (finding.outcome, "never landed" in finding.because) == (UNKNOWN, True)


# ---- who met it ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("served", "expected", "unseen", "outcome"),
    [
        (151.0, (0.0, 100.0), 0.0, PASS),
        (152.0, (0.0, 100.0), 0.0, FAIL),
        (152.0, (0.0, 100.0), 1.0, UNKNOWN),
        (501.0, (0.0, 100.0), 300.0, UNKNOWN),
        (502.0, (0.0, 100.0), 300.0, FAIL),
        (49.0, (100.0, 200.0), 0.0, PASS),
        (48.0, (100.0, 200.0), 0.0, UNKNOWN),
        (0.0, (0.0, 100.0), 0.0, UNKNOWN),
    ],
)
def test_the_share_of_a_version_is_what_its_weights_account_for(
    served: float, expected: tuple[float, float], unseen: float, outcome: Outcome
) -> None:
    case = case_of(Delivery(), WITHDRAWN)
    course = follow(case, landing(case, "new"), ROLLOUT)
    at = (T0 + 26.0, T0 + 27.0) if served else None
    finding = _share("fault:new", course, Exposure(served, 1000.0, at, at, *expected, unseen))
    assert finding.outcome is outcome
    share = served / 1000
    assert finding.measured == (Measured(share, share, share, "ratio") if served else None)


def test_a_trial_lasts_from_the_first_request_it_may_have_served_until_the_last() -> None:
    day = Delivery(scraped_s=-0.5)
    day.course[36.5] = day.course.pop(36.0)
    case = case_of(day, WITHDRAWN)
    landed = {"new": landing(case, "new")}
    assert list(trials(case, landed)) == [Trial(range(T0 + 24, T0 + 42), 200.0)]
    assert list(trials(case_of(day, PROMOTED), landed)) == []
    assert list(trials(case_of(day, COMPLETE), landed)) == []
    stays = case_of(
        Delivery(course={k: v for k, v in bad_canary().items() if k != 36.0}), WITHDRAWN
    )
    assert list(trials(stays, {"new": landing(stays, "new")})) == []


# ---- promoted, or switched -------------------------------------------------------------------


def test_the_time_to_all_users_counts_from_the_call_which_takes_time_too() -> None:
    promoted = first(Delivery(course=good_canary(), weights=TRIED, call_s=1.0), PROMOTED)
    assert (promoted.outcome, seconds(promoted)) == (PASS, (24.0, 25.5))
    switched = first(switching(call_s=1.0), SWITCHED)
    assert (switched.outcome, seconds(switched)) == (PASS, (9.0, 10.5))
    at_once = {21.0: blue_green()[31.0], 21.25: blue_green()[31.5]}
    course = {-1.0: blue_green()[-1.0], **at_once, 61.0: blue_green()[61.0]}
    switched = first(switching(course=course, call_s=1.0), SWITCHED)
    assert (switched.outcome, seconds(switched)) == (PASS, (0.0, 0.5))
    tried = {-1.0: rollout(), 20.75: trying(20), 21.0: good_canary()[46.0], 61.0: rollout()}
    promoted = first(Delivery(course=tried, weights=TRIED, call_s=1.0), PROMOTED)
    assert (promoted.outcome, seconds(promoted)) == (PASS, (0.0, 0.5))


def test_it_may_take_as_long_as_it_may_and_no_longer() -> None:
    for within, outcome in (("25.5", PASS), ("25.2", UNKNOWN), ("25", UNKNOWN), ("24.9", FAIL)):
        objective = f"canary: promoted within {within}s"
        assert first(Delivery(course=good_canary(), weights=TRIED), objective).outcome is outcome


@pytest.mark.parametrize(("weight", "outcome"), [(99.5, PASS), (100, UNKNOWN)])
def test_a_canary_at_a_hundred_per_cent_was_tried_on_everybody(
    weight: float, outcome: Outcome
) -> None:
    course = {k: v for k, v in good_canary().items() if k != 36.0} | {26.0: trying(weight)}
    weights = {26.0: weight, 46.0: 100.0, 60.0: 0.0}
    finding = first(Delivery(course=course, weights=weights), PROMOTED)
    assert (finding.outcome, "never tried" in finding.because) == (outcome, outcome is UNKNOWN)


@pytest.mark.parametrize(
    ("failing", "outcome", "measured"),
    [
        ({19: 9, 60: 9}, PASS, (0, 0)),
        ({20: 1}, FAIL, (1, 1)),
        ({20: 1, 58: 2}, FAIL, (3, 3)),
        ({59: 1}, PASS, (0, 0)),
    ],
)
def test_no_request_may_fail_from_the_second_of_the_landing_until_it_is_taken_back(
    failing: dict[int, int], outcome: Outcome, measured: tuple[int, int]
) -> None:
    for lost in ("failed", "unsure"):
        day = switching(failing=failing, outcome=lost, taken_back=59.5)
        finding = found(day, SWITCHED)["no request failed"]
        assert (finding.outcome, seconds(finding)) == (outcome, measured)
        assert "not known" not in finding.because


@pytest.mark.parametrize("error", ["generator-late", "too-many-in-flight"])
def test_a_request_that_was_not_sent_did_not_fail_and_was_not_served(error: str) -> None:
    day = switching(failing={31: 3}, outcome="not_sent", error=error)
    finding = found(day, SWITCHED)["no request failed"]
    assert (finding.outcome, seconds(finding)) == (UNKNOWN, (0, 3))
    assert "; of 3 it is not known" in finding.because
    both = found(dataclasses.replace(day, outcome="failed"), SWITCHED)["no request failed"]
    assert (both.outcome, seconds(both)) == (FAIL, (3, 3))


def test_requests_of_which_nothing_is_recorded_may_have_failed() -> None:
    evidence = switching().evidence()
    (tally,) = evidence.tallies
    short = tuple(
        dataclasses.replace(second, planned=101) if second.second == T0 + 31 else second
        for second in tally.seconds
    )
    tallies = (dataclasses.replace(tally, seconds=short),)
    finding = found(dataclasses.replace(evidence, tallies=tallies), SWITCHED)["no request failed"]
    assert (finding.outcome, seconds(finding)) == (UNKNOWN, (0, 1))
    nothing = found(switching(), SWITCHED, uncounted=range(20, 60))["no request failed"]
    assert (nothing.outcome, nothing.because) == (UNKNOWN, "no arrivals")


# ---- what is left of a bad version -----------------------------------------------------------


def ends_as(at_t: float = 66.0, **value: Any) -> dict[float, Any]:
    return {**bad_canary(), at_t: rollout(**value)}


@pytest.mark.parametrize(
    ("course", "outcome", "words"),
    [
        (ends_as(), PASS, "no pod of it is left"),
        (ends_as(pods={OLD: OLD_PODS, NEW: NEW_PODS}), FAIL, NEW_PODS[0]),
        (ends_as(80.0, pods={OLD: OLD_PODS, NEW: NEW_PODS}), FAIL, NEW_PODS[0]),
        (ends_as(80.5, pods={OLD: OLD_PODS, NEW: NEW_PODS}), PASS, "no pod of it is left"),
        (ends_as(current=NEW), FAIL, "not the version before"),
        (ends_as(stable=NEW), FAIL, "not the version before"),
        (ends_as(current=None), FAIL, "not the version before"),
        (ends_as(pods=None), UNKNOWN, "not known"),
        (ends_as(pods={OLD: OLD_PODS, NEW: "many"}), UNKNOWN, "not known"),
        ({**bad_canary(), 70.0: "unknown"}, UNKNOWN, "could not be seen"),
        ({**bad_canary(), -1.0: rollout(stable=None)}, UNKNOWN, "not at rest"),
    ],
)
def test_by_the_end_of_the_recovery_nothing_of_a_bad_version_is_left(
    course: dict[float, Any], outcome: Outcome, words: str
) -> None:
    finding = found(Delivery(course=course), WITHDRAWN)["bad version gone"]
    assert finding.outcome is outcome
    assert words in finding.because
    left = float(outcome is FAIL and "pods of it are left" in finding.because)
    known = "not at rest" not in words
    assert finding.measured == (Measured(left, left, left, "pods") if known else None)
    assert finding.phase == "recovery:new"


@pytest.mark.parametrize(
    ("course", "outcome", "measured"),
    [
        (ends_as(), PASS, (2, "pods of 2")),
        (ends_as(ready=1), FAIL, (2, "pods of 2")),
        (ends_as(pods={OLD: OLD_PODS[:1]}), FAIL, (1, "pods of 2")),
        (ends_as(ready=3, pods={OLD: [*OLD_PODS, "another"]}), PASS, (3, "pods of 2")),
        (ends_as(ready=None), UNKNOWN, (2, "pods of 2")),
        (ends_as(pods=None), UNKNOWN, (0, "pods of 2")),
        (ends_as(-1.0, ready=None), UNKNOWN, (2, "pods of 2")),
        (ends_as(-1.0, pods={}), UNKNOWN, None),
        (ends_as(-1.0, stable=None), UNKNOWN, None),
        (ends_as(80.5, ready=1, stable="cccc"), PASS, (2, "pods of 2")),
        (ends_as(80.0, stable="cccc"), FAIL, (2, "pods of 2")),
        (ends_as(50.0, stable="cccc"), FAIL, (2, "pods of 2")),
        (ends_as(70.0, stable=None), PASS, (2, "pods of 2")),
        ({**bad_canary(), 70.0: "unknown"}, UNKNOWN, (0, "pods of 2")),
    ],
)
def test_the_version_before_stays_and_is_as_many_pods_at_the_end(
    course: dict[float, Any], outcome: Outcome, measured: tuple[int, str] | None
) -> None:
    finding = found(Delivery(course=course), WITHDRAWN)["stable version intact"]
    assert finding.outcome is outcome
    n, unit = measured or (0, "")
    assert finding.measured == (Measured(n, n, n, unit) if measured else None)


@pytest.mark.parametrize("how", ["not recorded", "not ended"])
def test_a_recovery_without_an_end_leaves_what_is_left_unknown(how: str) -> None:
    evidence = Delivery().evidence()
    phases = tuple(
        dataclasses.replace(phase, end_t=None) if phase.name == "recovery:new" else phase
        for phase in evidence.phases
        if how == "not ended" or phase.name != "recovery:new"
    )
    findings = found(dataclasses.replace(evidence, phases=phases), WITHDRAWN)
    for name in ("bad version gone", "stable version intact"):
        assert findings[name].outcome is UNKNOWN
        assert "not watched to its end" in findings[name].because


# ---- a rolling update --------------------------------------------------------------------------


def updated(at_t: float = 35.0, **value: Any) -> dict[float, Any]:
    """As ever, but for what is seen at an instant, the last one before it is taken back."""
    course = {t: v for t, v in rolling_update().items() if t < 35 or t > 60}
    return course | {at_t: deployment(**{"revision": "2", **value})}


@pytest.mark.parametrize(
    ("course", "outcome", "measured"),
    [
        (updated(), PASS, (14.0, 14.5)),
        (updated(21.0), PASS, (0.0, 0.5)),
        (updated(40.0), PASS, (19.0, 19.5)),
        (updated(41.25), FAIL, (20.25, 20.75)),
        (updated(40.75), UNKNOWN, (19.75, 20.25)),
        (updated(60.0), FAIL, (39.0, 39.5)),
        (updated(60.5), FAIL, (39.5, None)),
        (updated(revision="1"), FAIL, (39.5, None)),
        (updated(revision=None), FAIL, (39.5, None)),
        (updated(observed=False), FAIL, (39.5, None)),
        (updated(updated=1), FAIL, (39.5, None)),
        (updated(available=1), FAIL, (39.5, None)),
        (updated(total=3), FAIL, (39.5, None)),
        (updated(wanted=0, updated=0, available=0, total=0), FAIL, (39.5, None)),
        (updated(wanted=None, updated=None, available=None, total=None), FAIL, (39.5, None)),
        ({**updated(), -1.0: deployment(revision=None, current="1")}, UNKNOWN, None),
    ],
)
def test_an_update_is_complete_when_every_pod_wanted_is_new_and_available(
    course: dict[float, Any], outcome: Outcome, measured: tuple[float, float | None] | None
) -> None:
    finding = first(rolling(course=course), COMPLETE)
    assert finding.outcome is outcome
    assert (None if finding.measured is None else seconds(finding)) == measured
    if measured is None:
        assert "before the delivery was not seen" in finding.because


def test_an_update_that_is_not_complete_was_not_for_as_long_as_it_was_watched() -> None:
    course = updated(available=1)
    for call_s, surely in ((0.0, "39.5"), (1.0, "38.5")):
        day = rolling(course=course, call_s=call_s)
        finding = first(day, f"rolling update: complete within {surely}s")
        assert (finding.outcome, finding.measured) == (UNKNOWN, None)
        finding = first(day, f"rolling update: complete within {float(surely) - 0.5:g}s")
        assert (finding.outcome, seconds(finding)) == (FAIL, (float(surely), None))
    quick = first(rolling(course=updated(21.0), call_s=1.0), COMPLETE)
    assert (quick.outcome, seconds(quick)) == (PASS, (0.0, 0.5))


@pytest.mark.parametrize(
    ("course", "outcome", "fewest"),
    [
        (updated(), PASS, 2.0),
        (updated(available=1), FAIL, 1.0),
        (updated(available=1, least=1), PASS, 1.0),
        (updated(60.0, available=1), FAIL, 1.0),
        (updated(60.5, available=1), PASS, 2.0),
        ({**updated(), -1.0: deployment(available=1)}, FAIL, 1.0),
        (updated(available=None), UNKNOWN, 2.0),
        (updated(least=None), UNKNOWN, 2.0),
        (updated(least=None) | {30.0: deployment(revision="2", available=1)}, FAIL, 1.0),
        ({t: {**v, "least": None} for t, v in updated().items()}, UNKNOWN, None),
    ],
)
def test_never_fewer_pods_are_available_than_promised(
    course: dict[float, Any], outcome: Outcome, fewest: float | None
) -> None:
    finding = found(rolling(course=course), COMPLETE)["enough pods available"]
    assert finding.outcome is outcome
    measured = None if fewest is None else Measured(fewest, fewest, fewest, "pods")
    assert finding.measured == measured
    if outcome is UNKNOWN:
        assert "not known throughout" in finding.because


def test_too_few_pods_of_an_update_that_never_landed_are_not_its_own() -> None:
    evidence = rolling(course=updated(available=1)).evidence()
    faults = tuple(dataclasses.replace(fault, holds=False) for fault in evidence.faults)
    findings = found(dataclasses.replace(evidence, faults=faults), COMPLETE)
    assert findings["enough pods available"].outcome is UNKNOWN


# ---- the timeline ------------------------------------------------------------------------------


def test_the_steps_of_a_delivery_are_told_in_order() -> None:
    course = {**bad_canary(), 20.25: rollout(), 34.0: trying(20, abort=True)}
    day = Delivery(course=course, looked_away={21.0: 0.25})
    case = case_of(day, WITHDRAWN)
    steps = list(delivery_steps(case, landing(case, "new")))
    told = [(s.step, (s.t or 0) - T0, s.uncertainty_s, s.after_s) for s in steps]
    assert told == [
        ("started", 21.0, 0.25, 0.5),
        ("shifted", 26.0, 0.5, 5.5),
        ("exposed", 27.0, 2.0, 6.5),
        ("aborted", 34.0, 0.5, 13.5),
        ("withdrawn", 36.0, 0.5, 15.5),
    ]
    assert [step.what for step in steps if "%" in step.what] == [
        f"{ROLLOUT}: users are sent to the new version (20 %)"
    ]
