"""What a rollout went through: sightings of it, replayed over a table of transitions.

A version is delivered by changing a pod template; a controller then sends users to it, step by
step or all at once, and ends with all of them on it or with none. What a sighting says is
one of six states, and only what :data:`TRANSITIONS` lists may follow: a course that jumps was
not seen whole, and nothing is said of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from harness.evidence.model import Sighting
from harness.verdict.case import Case, number_of
from harness.verdict.landing import Landing


class State(StrEnum):
    """Of a rollout, as users meet it."""

    #: every user is on the version before
    STABLE = "stable"
    #: pods of the new version come up; no user is sent to it
    STARTED = "started"
    #: some users, or all, are sent to it
    SHIFTED = "shifted"
    #: given up, and users still sent to it
    ABORTED = "aborted"
    #: given up, and no user sent to it
    WITHDRAWN = "withdrawn"
    #: it is the version everybody is on
    PROMOTED = "promoted"


#: state → what may follow it. A rollout given up may be tried again; a promoted one has ended.
TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.STABLE: frozenset({State.STARTED, State.SHIFTED}),
    State.STARTED: frozenset({State.SHIFTED, State.WITHDRAWN, State.PROMOTED}),
    State.SHIFTED: frozenset({State.ABORTED, State.WITHDRAWN, State.PROMOTED}),
    State.ABORTED: frozenset({State.WITHDRAWN}),
    State.WITHDRAWN: frozenset({State.STARTED, State.SHIFTED}),
    State.PROMOTED: frozenset(),
}


@dataclass(frozen=True)
class Seen:
    """The rollout was in ``state`` from an instant in ``[t - uncertainty_s, t]`` on."""

    state: State
    t: float
    uncertainty_s: float
    weight: float
    message: str

    @property
    def low(self) -> float:
        """The earliest it can have been."""
        return self.t - self.uncertainty_s


@dataclass(frozen=True)
class Course:
    """One rollout from the delivery of a version until ``until_t``, when that was taken back.

    ``old`` and ``new`` are the pod template hashes of the version before and of the one
    delivered; ``seen`` is every sighting that can be read, in order. ``why_not`` says why the
    course is not known; empty when it is.
    """

    subject: str
    old: str
    new: str
    from_t: float
    until_t: float
    seen: tuple[Seen, ...]
    why_not: str

    def first(self, *states: State) -> Seen | None:
        """When it was first seen in one of ``states``."""
        return next((s for s in self.seen if s.state in states), None)

    @property
    def moves(self) -> tuple[Seen, ...]:
        """The first sighting of each state in a row."""
        return tuple(next(group) for _, group in itertools.groupby(self.seen, lambda s: s.state))


def subjects(case: Case, fault: str, prefix: str) -> tuple[str, ...]:
    """What was delivered to, by the names under which it is watched."""
    named = {t for action in case.actions(fault) for t in action.targets}
    return tuple(sorted(t for t in named if t.startswith(prefix)))


def follow(case: Case, landed: Landing, subject: str) -> Course:
    """The course of the rollout ``subject`` from the landing until the delivery is taken back."""
    until_t = case.undo_start(landed.fault) or landed.high
    before = case.last(subject, landed.low)
    old = text_of(before, "stable")

    def course(new: str, seen: tuple[Seen, ...], why_not: str) -> Course:
        return Course(subject, old, new, landed.low, until_t, seen, why_not)

    if not landed.landed:
        return course("", (), landed.why_not)
    if not old or text_of(before, "current") != old:
        return course("", (), f"{subject} was not at rest before the delivery")
    during = [s for s in case.evidence.seen(subject) if landed.low < s.t <= until_t]
    current = [text_of(s.value, "current") for s in during]
    new = next((hash_ for hash_ in current if hash_ and hash_ != old), "")
    if not new:
        return course("", (), f"no other version of {subject} was seen")
    others = sorted({hash_ for hash_ in current if hash_ not in ("", old, new)})
    seen = (Seen(State.STABLE, landed.low, 0.0, 0.0, ""), *_read(during, old, new))
    return course(new, seen, _doubt(case, subject, landed.low, until_t, others, seen))


def _doubt(
    case: Case,
    subject: str,
    from_t: float,
    until_t: float,
    others: list[str],
    seen: tuple[Seen, ...],
) -> str:
    """Why what was seen is not the whole course; empty if it is."""
    if others:
        return f"another version of {subject} came in between: {', '.join(others)}"
    blind = case.not_watched(subject, from_t, until_t)
    if blind:
        return blind
    for earlier, later in itertools.pairwise(seen):
        if later.state != earlier.state and later.state not in TRANSITIONS[earlier.state]:
            return f"{subject} was not seen between {earlier.state} and {later.state}"
    return ""


def _read(sightings: list[Sighting], old: str, new: str) -> Iterator[Seen]:
    for sighting in sightings:
        state = state_of(sighting.value, old, new)
        if state is not None:
            yield Seen(
                state,
                sighting.t,
                sighting.uncertainty_s,
                _sent(sighting.value, new),
                text_of(sighting.value, "message"),
            )


def state_of(value: Any, old: str, new: str) -> State | None:
    """The state that a sighting of a rollout shows; None where it cannot be read: not seen, not
    yet looked at by its controller, or of another version."""
    if not isinstance(value, Mapping) or value.get("observed") is not True:
        return None
    stable, current = text_of(value, "stable"), text_of(value, "current")
    if stable == new and current == new:
        return State.PROMOTED
    if stable != old or current not in (old, new):
        return None
    if current == old:
        return State.STABLE
    sent = _sent(value, new) > 0
    if value.get("abort") is True:
        return State.ABORTED if sent else State.WITHDRAWN
    return State.SHIFTED if sent else State.STARTED


def _sent(value: Any, new: str) -> float:
    """Percentage of users that are sent to the version ``new``."""
    if text_of(value, "strategy") == "blueGreen":
        return 100.0 if text_of(value, "active") == new else 0.0
    if text_of(value, "current") != new:
        return 0.0
    return 100.0 if text_of(value, "stable") == new else number_of(value, "weight") or 0.0


def text_of(value: Any, key: str) -> str:
    """A text inside a sighting's value; empty where there is none."""
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, str) else ""


def pods_of(value: Any, version: str) -> frozenset[str]:
    """Names of the pods of one version in a sighting of a rollout."""
    pods = value.get("pods") if isinstance(value, Mapping) else None
    names = pods.get(version) if isinstance(pods, Mapping) else None
    return frozenset(map(str, names)) if isinstance(names, list) else frozenset()


def lists_pods(value: Any) -> bool:
    """Whether a sighting of a rollout says which pods there are."""
    pods = value.get("pods") if isinstance(value, Mapping) else None
    return isinstance(pods, Mapping) and all(isinstance(names, list) for names in pods.values())
