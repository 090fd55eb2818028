"""A delivery is judged by what its rollout went through and by who met the version."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from harness.verdict import Finding, Outcome, Verdict, judge
from harness.verdict.case import Case
from harness.verdict.rollouts import TRANSITIONS, State, state_of
from tests.verdict.deliveries import (
    DEPLOYMENT,
    NEW,
    NEW_PODS,
    OLD,
    OLD_PODS,
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
    assert found is not None and ours is not None
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
