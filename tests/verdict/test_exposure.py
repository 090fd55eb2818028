"""Who met a version, to the request: what its pods counted, and what its weights account for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import pytest

from harness.evidence.model import Evidence
from harness.verdict.case import Case
from harness.verdict.exposure import Exposure, exposure, said, surely_less, surely_more
from harness.verdict.landing import landing
from harness.verdict.rollouts import Seen, State, follow
from tests.verdict.build import T0
from tests.verdict.deliveries import (
    MADE,
    NEW_PODS,
    OLD,
    OLD_PODS,
    ROLLOUT,
    Delivery,
    bad_canary,
    plan,
    trying,
)

(NEW_POD,) = NEW_PODS
#: 20 of 100 requests a second from 26 to 36; its weight may have been in force in the scrapes from
#: 26 to 39, and surely was in those from 30 to 35.
USUAL = Exposure(
    served=200.0,
    total=4000.0,
    first=(T0 + 25.0, T0 + 27.0),
    last=(T0 + 34.0, T0 + 36.0),
    expected_low=120.0,
    expected_high=280.0,
)


@functools.cache
def the_plan() -> Any:
    return plan("canary: withdrawn within 15s")


def met(day: Delivery | None = None, evidence: Evidence | None = None, **changes: Any) -> Exposure:
    """What users met on a day, of a course that is changed so."""
    case = Case(the_plan(), evidence or (day or Delivery()).evidence())
    course = follow(case, landing(case, "new"), ROLLOUT)
    assert course.why_not == ""
    return exposure(case, dataclasses.replace(course, **changes))


def thinned(kept: Iterable[int], **changes: Any) -> Delivery:
    """A day of which only these scrapes are known."""
    day, instants = Delivery(**changes), set(kept)
    for points in day.points.values():
        for t in set(points) - instants:
            del points[t]
    return day


def test_every_request_is_counted_and_set_against_the_weights_that_were_in_force() -> None:
    assert met() == USUAL
    for ahead_s in (5.0, -5.0):
        assert met(Delivery(ahead_s=ahead_s)) == USUAL


def test_from_and_to_the_instants_of_the_delivery_and_not_beyond() -> None:
    assert met(from_t=T0 + 21.0).total == 4000
    assert met(from_t=T0 + 21.5).total == 3900
    assert met(until_t=T0 + 59.5).total == 3900


def test_a_weight_is_in_force_as_soon_as_it_can_have_been_set() -> None:
    found = met(Delivery(uncertainty_s=1.0))
    # One scrape more that it may have been in, and one fewer that it surely was.
    assert (found.expected_low, found.expected_high) == (100.0, 300.0)
    never_at_rest = (Seen(State.SHIFTED, T0 + 30.0, 1.0, 20.0, ""),)
    found = met(seen=never_at_rest)
    # Nobody knows what was before 29; from the scrape of 32 on it is sure.
    assert (found.expected_low, found.expected_high) == (29 * 20.0, 32 * 20.0)


def test_what_was_answered_while_nobody_looked_may_have_been_anybodys() -> None:
    assert met(Delivery(looked_away={36.0: 1.0})).unseen == 0
    # From 31 to 36 nobody looked, of which the scrapes from 31 to 38 tell.
    assert met(Delivery(looked_away={36.0: 5.0})).unseen == 800


def test_pods_that_are_first_named_at_the_end_are_the_versions_own() -> None:
    course = {t: {**value, "pods": {OLD: OLD_PODS}} for t, value in bad_canary().items()}
    course[36.0] = bad_canary()[36.0]
    assert met(Delivery(course=course), until_t=T0 + 36.0).served == 200
    assert met(Delivery(course=course), until_t=T0 + 35.9).served == 0


def test_a_pod_that_was_started_again_began_at_zero() -> None:
    day = Delivery()
    points = day.points[NEW_POD]
    for t in (t for t in points if t >= 31):
        points[t] = f"{float(points[t]) - 100 + 7:g}"
    assert met(day).served == 80 + 7 + 100


def test_a_pod_of_which_a_scrape_was_missed_may_have_served_since_the_one_before() -> None:
    day = Delivery()
    for t in range(27, 33):
        del day.points[NEW_POD][t]
    found = met(day)
    assert (found.served, found.total) == (200, 4000)
    assert (found.first, found.last) == ((T0 + 25.0, T0 + 33.0), USUAL.last)
    late = Delivery()
    for t in range(34, 39):
        del late.points[NEW_POD][t]
    assert met(late).last == (T0 + 32.0, T0 + 39.0)
    # Of one pod; the others tell of these seconds as ever.
    old = Delivery()
    del old.points[OLD_PODS[0]][30]
    assert (met(old).first, met(old).total) == (USUAL.first, 4000)


def test_a_pod_that_is_there_and_no_longer_counted_may_have_served_on() -> None:
    """Until 60, when all of it is taken back, or until it is seen to be gone."""

    def counted_until(t: int, day: Delivery) -> Delivery:
        day.points[NEW_POD] = {at: n for at, n in day.points[NEW_POD].items() if at <= t}
        return day

    assert met(counted_until(57, Delivery())).why_not == ""
    assert met(counted_until(55, Delivery(step_s=2.0))).why_not == ""
    at_the_end = Delivery()
    last = at_the_end.points[NEW_POD][60]
    counted_until(56, at_the_end).points[NEW_POD][60] = last
    assert met(at_the_end).why_not == ""
    lost = met(counted_until(56, Delivery())).why_not
    assert lost == f"requests_by_pod: {NEW_POD} was there 4 s longer than counted"
    gone = {40.0: trying(0, abort=True) | {"pods": {OLD: OLD_PODS}}}
    assert met(counted_until(37, Delivery(bad_canary() | gone))).why_not == ""
    assert "4 s longer" in met(counted_until(36, Delivery(bad_canary() | gone))).why_not


def test_a_pod_that_appears_late_may_have_served_since_users_were_sent_to_it() -> None:
    for appears, first in ((27, (25.0, 27.0)), (33, (25.5, 33.0))):
        day = Delivery()
        day.points[NEW_POD] = {t: n for t, n in day.points[NEW_POD].items() if t >= appears}
        found = met(day)
        assert found.served == 200
        assert found.first == (T0 + first[0], T0 + first[1])
    # Where nobody saw that users were sent to it, it is not known since when.
    at_rest = (Seen(State.STABLE, T0 + MADE, 0.0, 0.0, ""),)
    assert met(day, seen=at_rest).first == (T0 + 31.0, T0 + 33.0)
    day.course |= {26.0: trying(0.5), 30.0: trying(50)}
    assert met(day).first == (T0 + 25.5, T0 + 33.0)


def test_a_pod_of_the_version_before_that_appears_tells_nothing_of_the_new_one() -> None:
    day = Delivery(course=bad_canary() | {23.0: trying(20)})
    points = day.points[OLD_PODS[0]]
    day.points[OLD_PODS[0]] = {t: n for t, n in points.items() if t >= 27}
    assert met(day).first == USUAL.first


def test_a_pod_without_any_point_served_nobody() -> None:
    day = Delivery()
    day.points[NEW_POD] = {}
    found = met(day)
    assert (found.served, found.first, found.why_not) == (0, None, "")


@pytest.mark.parametrize("text", ["NaN", "Inf", "-5", "many"])
def test_a_count_that_is_no_number_of_requests_counts_nothing(text: str) -> None:
    day = Delivery()
    day.points[NEW_POD][30] = text
    assert "not a number" in met(day).why_not
    first = Delivery()
    first.points[NEW_POD] = {30: text}
    assert "not a number" in met(first).why_not


@pytest.mark.parametrize(
    ("kept", "step_s", "why_not"),
    [
        ([*range(-3, 31), *range(33, 83)], 1.0, ""),
        ([*range(-3, 31), *range(34, 83)], 1.0, "nothing for 4 s"),
        (range(0, 83, 6), 2.0, ""),
        (range(-1, 83, 7), 2.0, "nothing for 7 s"),
        (range(-3, 58), 1.0, ""),
        (range(-3, 57), 1.0, "nothing for 4 s"),
        (range(20, 83), 1.0, ""),
        (range(21, 83), 1.0, "nothing from before"),
        ((), 1.0, "nothing for 40 s"),
    ],
)
def test_scrapes_may_be_missed_three_times_and_one_is_from_before(
    kept: Iterable[int], step_s: float, why_not: str
) -> None:
    found = met(thinned(kept, step_s=step_s), from_t=T0 + 20.0).why_not
    assert why_not in found
    assert bool(found) == bool(why_not)


def test_a_series_that_was_not_recorded_says_nothing_whatever_prometheuss_clock() -> None:
    for ahead_s in (0.0, 5.0):
        evidence = dataclasses.replace(Delivery(ahead_s=ahead_s).evidence(), series={})
        assert "not recorded" in met(evidence=evidence).why_not


@pytest.mark.parametrize(
    ("changes", "why_not"),
    [
        ({"warnings": ("a part is missing",)}, "partial: a part is missing"),
        ({"error": "refused"}, "refused"),
        ({"status": ""}, "no status"),
        ({"result": ()}, "nothing for"),
    ],
)
def test_a_series_that_is_not_whole_says_nothing(changes: Any, why_not: str) -> None:
    evidence = Delivery().evidence()
    series = dataclasses.replace(evidence.series["requests_by_pod"], **changes)
    evidence = dataclasses.replace(evidence, series={"requests_by_pod": series})
    assert why_not in met(evidence=evidence).why_not


@pytest.mark.parametrize(
    ("looked", "wider_s"), [(20.3, 1.0), (20.6, 1.0), (59.8, 1.0), (60.05, 1.0), (60.2, 0.0)]
)
def test_each_look_at_prometheuss_clock_during_the_delivery_counts(
    looked: float, wider_s: float
) -> None:
    day = Delivery(ahead_s=1.0)
    events = list(day._events())
    said = {"subject": "clock:prometheus", "value": 3.0, "uncertainty_s": 0.1}
    events.append(("watch/clock", looked, "sighting", said))
    day._events = lambda: iter(events)  # type: ignore[method-assign]
    first = met(day, until_t=T0 + 59.5).first
    assert first is not None
    assert first[1] - first[0] == 2.0 + 2 * wider_s


def test_without_a_request_to_the_version_before_nothing_is_known() -> None:
    day = Delivery()
    for pod in OLD_PODS:
        day.points[pod] = dict.fromkeys(day.points[pod], "47")
    assert "no request to the version before" in met(day).why_not
    absent = Delivery()
    for pod in OLD_PODS:
        absent.points[f"of-another-{pod}"] = absent.points.pop(pod)
    assert f"no pod of {ROLLOUT}" in met(absent).why_not


@pytest.mark.parametrize(
    ("expected", "most", "least"), [(100.0, 151.0, 49.0), (400.0, 501.0, 299.0), (0.0, 1.0, -1.0)]
)
def test_five_standard_deviations_and_one_request_may_be_chance(
    expected: float, most: float, least: float
) -> None:
    assert not surely_more(most, expected)
    assert surely_more(most + 0.5, expected)
    assert not surely_less(least, expected)
    assert surely_less(least - 0.5, expected)


def test_weights_are_said_once_each_and_none_where_there_was_none() -> None:
    assert said([0, 0.5, 0.5, 20, 0]) == "0.5 %, then 20 %"
    assert said([0, 0]) == "none"
