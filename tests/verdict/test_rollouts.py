"""The course of a rollout: which sightings are of it, what each shows, and when it is not whole."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from harness.verdict.case import Case
from harness.verdict.landing import landing
from harness.verdict.rollouts import Course, Seen, State, follow, lists_pods, pods_of, state_of
from tests.verdict.build import T0
from tests.verdict.deliveries import (
    MADE,
    NEW,
    OLD,
    ROLLOUT,
    TAKEN_BACK,
    Delivery,
    bad_canary,
    blue_green,
    good_canary,
    plan,
    rollout,
    trying,
)

AT_REST = Seen(State.STABLE, T0 + MADE, 0.0, 0.0, "")


@functools.cache
def the_plan() -> Any:
    return plan("canary: withdrawn within 15s")


def course_of(seen: dict[float, Any]) -> Course:
    case = Case(the_plan(), Delivery(course=seen).evidence())
    return follow(case, landing(case, "new"), ROLLOUT)


def weights(course: Course) -> list[tuple[float, State, float]]:
    return [(seen.t - T0, seen.state, seen.weight) for seen in course.seen]


def test_a_course_is_what_was_seen_after_the_landing_until_it_was_taken_back() -> None:
    gone = bad_canary()[36.0]
    course = course_of({**bad_canary(), MADE: rollout(), TAKEN_BACK: gone})
    assert course.seen[0] == AT_REST
    assert weights(course)[1:] == [
        (21.0, State.STARTED, 0.0),
        (26.0, State.SHIFTED, 20.0),
        (36.0, State.WITHDRAWN, 0.0),
        (60.0, State.WITHDRAWN, 0.0),
    ]
    assert (course.old, course.new, course.why_not) == (OLD, NEW, "")
    assert (course.from_t, course.until_t) == (T0 + MADE, T0 + TAKEN_BACK)


def test_who_is_sent_to_a_version_is_its_weight_or_everybody_once_it_is_promoted() -> None:
    course = good_canary() | {46.0: rollout(current=NEW, stable=NEW, weight=None)}
    assert weights(course_of(course))[-1] == (46.0, State.PROMOTED, 100.0)
    assert weights(course_of(blue_green())) == [
        (20.5, State.STABLE, 0.0),
        (21.0, State.STARTED, 0.0),
        (30.0, State.STARTED, 0.0),
        (31.0, State.SHIFTED, 100.0),
        (31.5, State.PROMOTED, 100.0),
    ]


def test_the_version_before_may_be_seen_once_more_and_is_no_new_one() -> None:
    course = course_of({**bad_canary(), 20.75: rollout(ready=1, weight=100)})
    assert (course.new, course.why_not) == (NEW, "")
    assert weights(course)[1] == (20.75, State.STABLE, 0.0)
    unread = course_of({**bad_canary(), 20.75: rollout(current=None)})
    assert (unread.new, unread.why_not) == (NEW, "")


@pytest.mark.parametrize(
    "before",
    [
        rollout(current="cccc", pods={}),
        rollout(stable="cccc"),
        rollout(stable=None),
        rollout(stable=None, current=None, revision="1"),
    ],
)
def test_a_rollout_that_was_not_at_rest_before_has_no_course(before: Any) -> None:
    course = course_of({**bad_canary(), -1.0: before})
    assert "not at rest" in course.why_not
    assert course.seen == ()


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (trying(0.5), State.SHIFTED),
        (trying(1), State.SHIFTED),
        (trying(1, abort=True), State.ABORTED),
        (trying(0, strategy="blueGreen", active=NEW), State.SHIFTED),
        (trying(100, strategy="blueGreen", active=OLD), State.STARTED),
        (rollout(current=NEW, stable="cccc"), None),
        (rollout(current="cccc", stable=NEW), None),
        (rollout(current="cccc"), None),
    ],
)
def test_a_sighting_shows_one_state(value: Any, state: State | None) -> None:
    assert state_of(value, OLD, NEW) is state


@pytest.mark.parametrize(
    ("value", "listed", "of_new"),
    [
        ({"pods": {OLD: ["a"], NEW: ["b", "c"]}}, True, {"b", "c"}),
        ({"pods": {OLD: ["a"]}}, True, set()),
        ({"pods": {}}, True, set()),
        ({"pods": {OLD: ["a"], NEW: "b"}}, False, set()),
        ({"pods": {OLD: 2, NEW: ["b"]}}, False, {"b"}),
        ({"pods": ["b"]}, False, set()),
        ({"pods": None}, False, set()),
        ({}, False, set()),
        ("unknown", False, set()),
        (None, False, set()),
    ],
)
def test_pods_are_listed_by_version_or_are_not_known(
    value: Any, listed: bool, of_new: set[str]
) -> None:
    assert lists_pods(value) is listed
    assert pods_of(value, NEW) == of_new
