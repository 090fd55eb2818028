"""Whether a failure may be the machine's and not the target's.

The harness's own machine makes the traffic, and in a lab carries the target as well. When it had
nothing left to give, or sent its traffic late, what went wrong then says nothing about the
target: such a failure is unknown, with the figures. So it is where a failure goes once the
seconds without room are left out, and in a run whose clocks were wrong by more than a second: what
went wrong may have done so in another phase. On a machine with room to spare and a right clock a
failure is a failure, and nothing of this ever makes a pass of anything.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from harness.verdict.case import Case, number_of
from harness.verdict.clocks import wrong
from harness.verdict.model import Finding, Outcome
from harness.verdict.sufficiency import LATE_SHARE_MAX, late_share

SUBJECT = "machine:generator"
SOURCE = "watch/machine"
#: Below this share of idle processor time a second counts as one without room. A game day at 200/s
#: on two cores leaves ten times as much.
IDLE_MIN = 0.03
#: This share of a window's seconds must be so before a failure in it is excused.
SECONDS_MIN = 0.5
#: So much of a second without room may have made it a bad one.
NOTICEABLE_S = 0.05
#: What neither explains: wrong bytes, lost uploads, a fault left in place, what happened before.
_NEVER_EXCUSED = frozenset({"content", "durability", "undone", "mttr", "mtbf"})


@dataclass(frozen=True)
class Room:
    """How much room the machine had in a window; ``known_s`` of ``seconds`` are known."""

    seconds: int
    known_s: int
    full_s: int
    #: mean idle share of the seconds without room; of all that are known, where there are none
    idle: float

    @property
    def full(self) -> bool:
        """Whether there was no room for a good part of it."""
        return self.full_s > 0 and self.full_s >= SECONDS_MIN * self.seconds


class Machine:
    """What was seen of the machine, by second."""

    def __init__(self, case: Case) -> None:
        self._case = case

    @cached_property
    def watched(self) -> bool:
        """Whether somebody was to look at it; runs of before, and other systems, do not."""
        events = (
            *self._case.evidence.of_kind("run.start"),
            *self._case.evidence.of_kind("watch.start"),
        )
        names = {SOURCE, SOURCE.partition("/")[2]}
        return any(
            event.source == SOURCE or names & set(event.data.get("observers") or ())
            for event in events
        )

    @cached_property
    def _seen(self) -> tuple[list[float], list[float | None]]:
        """Instants and, from each on to the next, the idle share (None: not seen)."""
        sightings = sorted(self._case.evidence.seen(SUBJECT), key=lambda s: s.t)
        return [s.t for s in sightings], [number_of(s.value, "idle") for s in sightings]

    def idle(self, second: int) -> float | None:
        """The idle share of a second: what was said of the second that ended around its end."""
        instants, shares = self._seen
        index = bisect_right(instants, second + 1.5)
        return shares[index - 1] if index else None

    @cached_property
    def _full(self) -> list[tuple[float, float]]:
        """Stretches without room. A look says how it was since the look before it."""
        sightings = sorted(self._case.evidence.seen(SUBJECT), key=lambda s: s.t)
        begun = [*(s.t - s.uncertainty_s for s in sightings), float("inf")]
        shares = (number_of(s.value, "idle") for s in sightings)
        stretches = zip(shares, pairwise(begun), strict=True)
        return [span for share, span in stretches if share is not None and share < IDLE_MIN]

    def full(self, seconds: Iterable[int]) -> frozenset[int]:
        """Those of ``seconds`` in which there was no room for a noticeable part of them."""
        return frozenset(
            second
            for second in seconds
            if any(min(b, second + 1) - max(a, second) > NOTICEABLE_S for a, b in self._full)
        )

    def room(self, seconds: Iterable[int]) -> Room:
        """The room there was in ``seconds``."""
        window = list(seconds)
        known = [share for share in map(self.idle, window) if share is not None]
        full = [share for share in known if share < IDLE_MIN]
        shown = full or known
        idle = sum(shown) / len(shown) if shown else 0.0
        return Room(len(window), len(known), len(full), idle)


def excused(case: Case, machine: Machine, finding: Finding) -> Finding:
    """``finding``, or that it is unknown where the machine or its clock may have been the cause."""
    if finding.outcome is not Outcome.FAIL or _kind(finding) in _NEVER_EXCUSED:
        return finding
    window = window_of(case, finding.phase)
    reasons = [*_late(case, window), *_full(machine, window), *wrong(case)]
    if not reasons:
        return finding
    because = f"{finding.because}; but {' and '.join(reasons)}: {_carried(case, window)}"
    return dataclasses.replace(finding, outcome=Outcome.UNKNOWN, because=because)


def excused_in_part(
    case: Case, machine: Machine, finding: Finding, check: Callable[[Case], Finding]
) -> Finding:
    """``finding`` of ``check``, or that it is unknown where the failure goes once the seconds
    without room are left out."""
    if finding.outcome is not Outcome.FAIL:
        return finding
    window = window_of(case, finding.phase)
    full = machine.full(window)
    if not full or machine.room(window).full:
        return finding  # none to leave out, or too many: that excuses it as a whole
    if check(case.without(full)).outcome is Outcome.FAIL:
        return finding
    because = (
        f"{finding.because}; but not without the {len(full)} s in which the machine had less than "
        f"{IDLE_MIN:.0%} idle"
    )
    return dataclasses.replace(finding, outcome=Outcome.UNKNOWN, because=because)


def _kind(finding: Finding) -> str:
    return finding.objective.partition(":")[0]


def window_of(case: Case, phase: str) -> list[int]:
    """The seconds in which what a finding of ``phase`` says came about: its own, and for a
    recovery those of its fault too."""
    if phase == "all":
        names = [p.name for p in case.plan.phases]
    elif phase.startswith("recovery:"):
        names = ["fault:" + phase.partition(":")[2], phase]
    else:
        names = [phase]
    return [second for name in names for second in case.seconds(name)]


def _late(case: Case, window: list[int]) -> list[str]:
    if not window:
        return []
    share = late_share(case, range(window[0], window[-1] + 1))
    return [f"{share:.0%} of the sends were over 50 ms late"] if share > LATE_SHARE_MAX else []


def _full(machine: Machine, window: list[int]) -> list[str]:
    room = machine.room(window)
    if room.full:
        return [f"the machine had {room.idle:.1%} idle for {room.full_s} of {room.seconds} s"]
    # Unseen seconds may have been so: enough of them, and nobody can tell.
    unseen = room.seconds - room.known_s
    if machine.watched and unseen and room.full_s + unseen >= SECONDS_MIN * room.seconds:
        return [f"how busy the machine was is not known for {unseen} of {room.seconds} s"]
    return []


def _carried(case: Case, window: list[int]) -> str:
    counts = case.by_second.over(window)
    seconds = max(1, len(window))
    return f"{counts.planned / seconds:,.0f}/s planned, {counts.ok / seconds:,.0f}/s carried"
