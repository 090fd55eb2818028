"""The clocks of a generator and of its master, compared: pure arithmetic and a clock.

Hosts disagree about the time, and one second of evidence must mean the same second whoever
wrote it. A worker asks the master for its time and takes half of the way there and back as
the uncertainty; from then on it reads the master's time off its own monotonic clock, so
that a wall clock that is set meanwhile changes nothing.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from harness.clock import Clock

#: How many of the last exchanges the best is chosen from.
EXCHANGES_KEPT = 20


class Offset(NamedTuple):
    """What is added to a monotonic instant for the other's wall instant, in seconds.

    The truth is within ``uncertainty_s`` of it.
    """

    offset_s: float
    uncertainty_s: float


def measured(asked_m: float, answer_t: float, heard_m: float) -> Offset:
    """From one exchange: asked at ``asked_m``, answered at the other's ``answer_t``."""
    return Offset(answer_t - (asked_m + heard_m) / 2, (heard_m - asked_m) / 2)


class Offsets:
    """The last exchanges; the quickest of them knows best."""

    def __init__(self) -> None:
        self._last: deque[Offset] = deque(maxlen=EXCHANGES_KEPT)

    def add(self, offset: Offset) -> None:
        self._last.append(offset)

    def __len__(self) -> int:
        return len(self._last)

    def best(self) -> Offset | None:
        """The one with the least uncertainty; None before the first exchange."""
        return min(self._last, key=lambda offset: offset.uncertainty_s, default=None)


class OffsetClock:
    """A clock whose wall time is another host's, read off this host's monotonic clock."""

    def __init__(self, clock: Clock, offset_s: float) -> None:
        self.offset_s = offset_s
        self._clock = clock
        self.monotonic_s = clock.monotonic_s
        self.sleep = clock.sleep

    def wall_s(self) -> float:
        return self._clock.monotonic_s() + self.offset_s
