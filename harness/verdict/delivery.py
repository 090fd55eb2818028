"""Whether a new version was delivered, or withdrawn, as it should be.

A bad version must be given up and taken from its users in time, a good one must reach all of
them. Either is only shown where the version was really tried: a canary that served no request
proves nothing, whatever its controller says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any

from harness.plan.model import Availability, BlueGreen, Canary, RollingUpdate
from harness.verdict.case import Case, number_of
from harness.verdict.exposure import SERIES, Exposure, exposure, said, surely_less, surely_more
from harness.verdict.landing import Landing
from harness.verdict.model import Finding, Measured, Outcome, Step, judge_at_most
from harness.verdict.rollouts import (
    Course,
    Seen,
    State,
    follow,
    lists_pods,
    pods_of,
    subjects,
    text_of,
)
from harness.verdict.traffic import Trial

_SEEN = "history.jsonl sighting rollout:"
_EVIDENCE = (_SEEN, f"series/{SERIES}.json")
#: Requests begun before the weight was 0 end, and are counted, this much later.
_DRAINED_S = 5.0
_ON_NEW = (State.SHIFTED, State.PROMOTED)


def judge_canary(case: Case, objective: Canary, landed: Landing) -> Iterator[Finding]:
    """A version tried on some users: withdrawn from them, or promoted to all."""
    phase = f"fault:{landed.fault}"
    named = subjects(case, landed.fault, "rollout:")
    for subject in named:
        course = follow(case, landed, subject)
        met = exposure(case, course)
        if objective.ends == "withdrawn":
            yield _withdrawn(case, objective, phase, course, met)
            yield _share(phase, course, met)
            yield _version_gone(case, landed, course)
            yield _stable_intact(case, landed, course)
        else:
            yield _promoted(objective, phase, landed, course, met)
            yield _share(phase, course, met)
    if not named:
        yield _nothing_delivered(objective.text, phase, landed)


def judge_blue_green(case: Case, objective: BlueGreen, landed: Landing) -> Iterator[Finding]:
    """All users switched at once, and nobody noticed."""
    phase = f"fault:{landed.fault}"
    named = subjects(case, landed.fault, "rollout:")
    for subject in named:
        course = follow(case, landed, subject)
        yield _switched(objective, phase, landed, course, exposure(case, course))
    if named:
        yield _none_failed(case, phase, landed)
    else:
        yield _nothing_delivered(objective.text, phase, landed)


def judge_rolling_update(
    case: Case, objective: RollingUpdate, landed: Landing
) -> Iterator[Finding]:
    """Every pod replaced by one of the new version, with enough of them available throughout."""
    phase = f"fault:{landed.fault}"
    named = subjects(case, landed.fault, "deployment:")
    for subject in named:
        yield _complete(case, objective, phase, landed, subject)
        yield _enough_available(case, phase, landed, subject)
    if not named:
        yield _nothing_delivered(objective.text, phase, landed)


def _nothing_delivered(objective: str, phase: str, landed: Landing) -> Finding:
    because = landed.why_not or "no record of what was delivered"
    return Finding(objective, phase, Outcome.UNKNOWN, None, "delivered and watched", because)


def _unproven(met: Exposure) -> str:
    """Why nothing is shown by how the delivery went; empty when users met the version."""
    if met.why_not:
        return met.why_not
    return "" if met.first else "the new version received no traffic: nothing was tried"


# ---- canary ----------------------------------------------------------------------------------


def _withdrawn(case: Case, objective: Canary, phase: str, course: Course, met: Exposure) -> Finding:
    """Seconds from the first request the version served until no user was sent to it."""
    required = f"no user sent to it within {objective.within_s:g} s of the first request it served"

    def finding(outcome: Outcome, because: str, measured: Measured | None = None) -> Finding:
        because = f"{course.subject}: {because}"
        return Finding(objective.text, phase, outcome, measured, required, because, _EVIDENCE)

    promoted, gone = course.first(State.PROMOTED), course.first(State.WITHDRAWN)
    if promoted is not None:
        return finding(Outcome.FAIL, "the version was promoted to all users instead")
    doubt = course.why_not or _unproven(met)
    if doubt:
        return finding(Outcome.UNKNOWN, doubt)
    assert met.first is not None
    assert met.last is not None
    if gone is None:
        return _never(finding, objective.within_s, course.until_t - met.first[1], course)
    again = _again(course, gone)
    if again is not None:
        return finding(Outcome.FAIL, f"withdrawn, and then {again.state} again")
    if met.last[0] > gone.t + _DRAINED_S:
        late_s = met.last[0] - gone.t
        return finding(Outcome.FAIL, f"served requests {late_s:.0f} s after its weight was 0")
    low, high = max(0.0, gone.low - met.first[1]), max(0.0, gone.t - met.first[0])
    because = f"withdrawn {low:.1f}–{high:.1f} s after the first request it served"
    aborted = course.first(State.ABORTED) or gone
    because += f" ({aborted.message})" if aborted.message else ""
    because += _budget(case, phase, met.first[0], gone.t)
    measured = Measured(high, low, high, "s")
    return finding(judge_at_most(objective.within_s, low, high), because, measured)


def _again(course: Course, gone: Seen) -> Seen | None:
    """When a version that was withdrawn was tried once more, whatever became of that."""
    since = course.seen[course.seen.index(gone) :]
    return next((seen for seen in since if seen.state is not State.WITHDRAWN), None)


def _never(
    finding: Callable[..., Finding], within_s: float, surely_s: float, course: Course
) -> Finding:
    """It did not end as it should while it was watched: too long, or not watched for so long."""
    last = course.seen[-1]
    because = f"still {last.state} when it was taken back"
    if last.state is State.SHIFTED:
        because += f", at weight {last.weight:g} %"
    if surely_s > within_s:
        return finding(Outcome.FAIL, because, Measured(None, surely_s, None, "s"))
    because += f", {surely_s:.0f} s after: too soon to tell; lengthen the hold"
    return finding(Outcome.UNKNOWN, because)


def _budget(case: Case, phase: str, start_t: float, end_t: float) -> str:
    """What users lost meanwhile, of the errors that the phase's availability allows."""
    allowed = [
        o.at_least
        for o in case.plan.objectives
        if isinstance(o, Availability) and phase in o.phases
    ]
    counts = case.by_second.over(range(math.floor(start_t), math.ceil(end_t)))
    lost = counts.failed + counts.unsure
    text = f"; {lost} of {counts.planned} arrivals lost meanwhile"
    if not allowed:
        return text
    budget = (1 - max(allowed)) * case.counts(phase).planned
    return f"{text}, {lost / budget:.0%} of the error budget of the phase" if budget else text


def _promoted(
    objective: Canary, phase: str, landed: Landing, course: Course, met: Exposure
) -> Finding:
    """Seconds from the delivery until the version was everybody's."""
    required = f"everybody's within {objective.within_s:g} s, after it was tried on some"

    def finding(outcome: Outcome, because: str, measured: Measured | None = None) -> Finding:
        because = f"{course.subject}: {because}"
        return Finding(objective.text, phase, outcome, measured, required, because, _EVIDENCE)

    given_up = course.first(State.ABORTED, State.WITHDRAWN)
    if given_up is not None:
        why = f": {given_up.message}" if given_up.message else ""
        return finding(Outcome.FAIL, f"the version was given up{why}")
    if course.why_not:
        return finding(Outcome.UNKNOWN, course.why_not)
    done = course.first(State.PROMOTED)
    if done is None:
        return _never(finding, objective.within_s, course.until_t - landed.high, course)
    tried = [s.weight for s in course.seen if s.state is State.SHIFTED and s.weight < 100]
    doubt = _unproven(met) or ("" if tried else "it was never tried on some of the users only")
    if doubt:
        return finding(Outcome.UNKNOWN, doubt)
    low, high = max(0.0, done.low - landed.high), done.t - landed.low
    because = f"promoted {low:.1f}–{high:.1f} s after its delivery, tried at {said(tried)}"
    measured = Measured(high, low, high, "s")
    return finding(judge_at_most(objective.within_s, low, high), because, measured)


def _share(phase: str, course: Course, met: Exposure) -> Finding:
    """Users that met the version, against the weight it was given."""
    required = "some requests, and no more than its weight accounts for"

    def finding(outcome: Outcome, because: str, measured: Measured | None = None) -> Finding:
        because = f"{course.subject}: {because}"
        return Finding("canary share", phase, outcome, measured, required, because, _EVIDENCE)

    doubt = _unproven(met)
    if doubt:
        return finding(Outcome.UNKNOWN, doubt)
    share = met.served / met.total
    measured = Measured(share, share, share, "ratio")
    weights = said(s.weight for s in course.seen)
    because = (
        f"{met.served:.0f} of {met.total:.0f} requests met it, at weight {weights}, which accounts "
        f"for {met.expected_low:.0f} to {met.expected_high:.0f}"
    )
    if surely_more(met.served, met.expected_high + met.unseen):
        return finding(Outcome.FAIL, because, measured)
    if surely_more(met.served, met.expected_high):
        because += f"; of {met.unseen:.0f} requests nobody saw its weight"
        return finding(Outcome.UNKNOWN, because, measured)
    if surely_less(met.served, met.expected_low):
        return finding(Outcome.UNKNOWN, f"{because}: tried on fewer users than meant", measured)
    return finding(Outcome.PASS, because, measured)


def _watched_to_the_end(case: Case, landed: Landing, course: Course) -> tuple[str, float, str]:
    """The recovery's phase, the end of it, and why what was left by then is not known."""
    phase = f"recovery:{landed.fault}"
    span = case.span(phase)
    if not course.new:
        return phase, course.until_t, course.why_not
    if span is None or span.end_t is None:
        return phase, course.until_t, "the recovery was not watched to its end"
    return phase, span.end_t, case.not_watched(course.subject, course.from_t, span.end_t)


def _version_gone(case: Case, landed: Landing, course: Course) -> Finding:
    """By the end of the recovery nothing of the version is left."""
    phase, end_t, doubt = _watched_to_the_end(case, landed, course)
    value = case.last(course.subject, end_t)
    left = sorted(pods_of(value, course.new)) if course.new else []
    outcome, because = Outcome.PASS, "no pod of it is left, and it is not what is asked for"
    if doubt:
        outcome, because = Outcome.UNKNOWN, doubt
    elif left:
        outcome, because = Outcome.FAIL, f"pods of it are left: {', '.join(left)}"
    elif not lists_pods(value):
        outcome, because = Outcome.UNKNOWN, "which pods are left is not known"
    elif text_of(value, "current") != course.old or text_of(value, "stable") != course.old:
        outcome, because = Outcome.FAIL, "what is asked for is not the version before"
    return Finding(
        "bad version gone",
        phase,
        outcome,
        Measured(len(left), len(left), len(left), "pods") if course.new else None,
        "no pod of the version by the end of the recovery",
        f"{course.subject}: {because}",
        (_SEEN,),
    )


def _stable_intact(case: Case, landed: Landing, course: Course) -> Finding:
    """The version before stayed the one to go back to, and is served by as many pods."""
    phase, end_t, doubt = _watched_to_the_end(case, landed, course)
    before, after = case.last(course.subject, course.from_t), case.last(course.subject, end_t)
    lost = [
        s
        for s in case.evidence.seen(course.subject)
        if course.from_t < s.t <= end_t and text_of(s.value, "stable") not in ("", course.old)
    ]
    then, now = len(pods_of(before, course.old)), len(pods_of(after, course.old))
    ready, ready_now = number_of(before, "ready"), number_of(after, "ready")
    outcome = Outcome.FAIL
    if lost and course.old:
        because = "the version before was no longer the stable one"
    elif doubt:
        outcome, because = Outcome.UNKNOWN, doubt
    elif ready is None or ready_now is None or not then or not lists_pods(after):
        outcome, because = Outcome.UNKNOWN, "pods of the version before are not known"
    elif now < then or ready_now < ready:
        because = f"{now} pods of it, {ready_now:.0f} ready, of {then} before"
    else:
        outcome, because = Outcome.PASS, f"stable throughout, {now} pods as before"
    return Finding(
        "stable version intact",
        phase,
        outcome,
        Measured(now, now, now, f"pods of {then}") if then else None,
        "the version before stable throughout, with as many pods ready at the end",
        f"{course.subject}: {because}",
        (_SEEN,),
    )


# ---- blue/green --------------------------------------------------------------------------------


def _switched(
    objective: BlueGreen, phase: str, landed: Landing, course: Course, met: Exposure
) -> Finding:
    """Seconds from the delivery until all users were sent to the version."""
    required = f"all users on it within {objective.within_s:g} s of its delivery"

    def finding(outcome: Outcome, because: str, measured: Measured | None = None) -> Finding:
        because = f"{course.subject}: {because}"
        return Finding(objective.text, phase, outcome, measured, required, because, _EVIDENCE)

    given_up = course.first(State.ABORTED, State.WITHDRAWN)
    if given_up is not None:
        return finding(Outcome.FAIL, f"the version was given up: {given_up.message}")
    if course.why_not:
        return finding(Outcome.UNKNOWN, course.why_not)
    done = course.first(*_ON_NEW)
    if done is None:
        return _never(finding, objective.within_s, course.until_t - landed.high, course)
    doubt = _unproven(met)
    if doubt:
        return finding(Outcome.UNKNOWN, doubt)
    low, high = max(0.0, done.low - landed.high), done.t - landed.low
    because = f"switched {low:.1f}–{high:.1f} s after its delivery; {met.served:.0f} requests since"
    measured = Measured(high, low, high, "s")
    return finding(judge_at_most(objective.within_s, low, high), because, measured)


def _none_failed(case: Case, phase: str, landed: Landing) -> Finding:
    """Not one request failed from the delivery until it was taken back."""

    def finding(outcome: Outcome, because: str, measured: Measured | None = None) -> Finding:
        required = "no request fails while users are switched"
        return Finding(
            "no request failed", phase, outcome, measured, required, because, ("tallies/",)
        )

    until_t = case.undo_start(landed.fault) or landed.high
    if not landed.landed:
        return finding(Outcome.UNKNOWN, landed.why_not)
    counts = case.by_second.over(range(math.floor(landed.low), math.floor(until_t)))
    if not counts.planned:
        return finding(Outcome.UNKNOWN, "no arrivals")
    failed = counts.failed + counts.unsure
    # What was not sent since too many waited for an answer did not fail, and was not served.
    high = failed + counts.not_sent + counts.unaccounted
    errors = [f"{error} × {n}" for error, n in counts.errors().items()]
    because = f"{failed} of {counts.planned} arrivals failed"
    because += f" ({', '.join(errors[:3])})" if failed else ""
    because += f"; of {high - failed} it is not known" if high > failed else ""
    outcome = Outcome.FAIL if failed else Outcome.UNKNOWN if high else Outcome.PASS
    return finding(outcome, because, Measured(failed, failed, high, "requests"))


# ---- rolling update ------------------------------------------------------------------------------


def _rolled(value: Any) -> bool:
    """Whether every pod wanted is of the newest version, available, and no other is left."""
    wanted = number_of(value, "wanted")
    same = [number_of(value, key) == wanted for key in ("updated", "available", "total")]
    return bool(wanted) and all(same) and value.get("observed") is True


def _complete(
    case: Case, objective: RollingUpdate, phase: str, landed: Landing, subject: str
) -> Finding:
    """Seconds from the delivery until every pod was of the version."""
    required = f"every pod of the new version within {objective.within_s:g} s"
    until_t = case.undo_start(landed.fault) or landed.high
    before = text_of(case.last(subject, landed.low), "revision")

    def finding(outcome: Outcome, because: str, measured: Measured | None = None) -> Finding:
        because = f"{subject}: {because}"
        evidence = ("history.jsonl sighting deployment:",)
        return Finding(objective.text, phase, outcome, measured, required, because, evidence)

    doubt = landed.why_not or case.not_watched(subject, landed.low, until_t)
    if doubt or not before:
        return finding(Outcome.UNKNOWN, doubt or "the version before the delivery was not seen")
    done = next(
        (
            s
            for s in case.evidence.seen(subject)
            if landed.low < s.t <= until_t
            and text_of(s.value, "revision") not in ("", before)
            and _rolled(s.value)
        ),
        None,
    )
    if done is None:
        surely_s = until_t - landed.high
        because = "pods of the version before, or too few, when it was taken back"
        if surely_s <= objective.within_s:
            return finding(Outcome.UNKNOWN, f"{because}, {surely_s:.0f} s after: too soon to tell")
        return finding(Outcome.FAIL, because, Measured(None, surely_s, None, "s"))
    low = max(0.0, done.t - done.uncertainty_s - landed.high)
    high = done.t - landed.low
    because = f"complete {low:.1f}–{high:.1f} s after the delivery"
    measured = Measured(high, low, high, "s")
    return finding(judge_at_most(objective.within_s, low, high), because, measured)


def _enough_available(case: Case, phase: str, landed: Landing, subject: str) -> Finding:
    """Never fewer pods available than the update strategy promises."""
    until_t = case.undo_start(landed.fault) or landed.high
    seen = [s.value for s in case.evidence.seen(subject) if landed.low < s.t <= until_t]
    seen.append(case.last(subject, landed.low))
    counts = [(number_of(v, "available"), number_of(v, "least")) for v in seen]
    known = [(a, least) for a, least in counts if a is not None and least is not None]
    doubt = landed.why_not or case.not_watched(subject, landed.low, until_t)
    fewest = min((a for a, _ in known), default=math.inf)
    outcome, because = Outcome.PASS, f"never fewer than {fewest:.0f} available"
    if any(a < least for a, least in known) and landed.landed:
        outcome, because = Outcome.FAIL, f"only {fewest:.0f} available at a time"
    elif doubt or len(known) < len(counts):
        outcome, because = Outcome.UNKNOWN, doubt or "pods available are not known throughout"
    return Finding(
        "enough pods available",
        phase,
        outcome,
        Measured(fewest, fewest, fewest, "pods") if known else None,
        "as many pods available as the update strategy promises, throughout",
        f"{subject}: {because}",
        ("history.jsonl sighting deployment:",),
    )


def trials(case: Case, landings: Mapping[str, Landing]) -> Iterator[Trial]:
    """Versions that were to be withdrawn, were, and what they served until then."""
    for objective in case.plan.objectives:
        if not isinstance(objective, Canary) or objective.ends != "withdrawn":
            continue
        for landed in (landings[fault] for fault in objective.faults):
            for subject in subjects(case, landed.fault, "rollout:"):
                course = follow(case, landed, subject)
                met, gone = exposure(case, course), course.first(State.WITHDRAWN)
                if met.first is None or gone is None:
                    continue
                if _again(course, gone) is None:
                    until = math.ceil(gone.t + _DRAINED_S)
                    yield Trial(range(math.floor(met.first[0]), until), met.served)


# ---- timeline ----------------------------------------------------------------------------------

_MOVES = {
    State.STARTED: "pods of the new version started",
    State.SHIFTED: "users are sent to the new version",
    State.ABORTED: "the new version is given up",
    State.WITHDRAWN: "the new version is given up, and no user sent to it",
    State.PROMOTED: "the new version is everybody's",
}


def delivery_steps(case: Case, landed: Landing) -> Iterator[Step]:
    """What the rollouts of a delivery went through, and the first request the version served."""
    for subject in subjects(case, landed.fault, "rollout:"):
        course = follow(case, landed, subject)
        met = exposure(case, course)
        steps = [_moved(landed, course, seen) for seen in course.moves if seen.state in _MOVES]
        if met.first is not None:
            low, high = met.first
            what = f"{course.subject}: first request served by the new version"
            steps.append(_step(landed, "exposed", what, high, high - low))
        yield from sorted(steps, key=attrgetter("t"))


def _moved(landed: Landing, course: Course, seen: Seen) -> Step:
    weight = f" ({seen.weight:g} %)" if seen.state is State.SHIFTED else ""
    what = f"{course.subject}: {_MOVES[seen.state]}{weight}"
    return _step(landed, str(seen.state), what, seen.t, seen.uncertainty_s)


def _step(landed: Landing, step: str, what: str, t: float, uncertainty_s: float) -> Step:
    after_s = max(0.0, t - landed.low)
    return Step(landed.fault, "fault", step, what, t, uncertainty_s, after_s)
