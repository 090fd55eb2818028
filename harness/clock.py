"""The one place that reads the time.

Everything that needs an instant takes a :class:`Clock`, so a test can pass a
:class:`ManualClock` and an hour of timeouts takes no time. ``wall_s`` is for
instants that are compared with other machines and written to evidence;
``monotonic_s`` is for durations.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Source of instants, in seconds."""

    def wall_s(self) -> float:
        """Seconds since the Unix epoch (may step)."""
        ...

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary origin, the same for all processes of one host."""
        ...

    def sleep(self, duration_s: float) -> None:
        """Let ``duration_s`` seconds pass."""
        ...


class SystemClock:
    """The real clock."""

    def wall_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()

    def sleep(self, duration_s: float) -> None:
        time.sleep(max(0.0, duration_s))


class ManualClock:
    """A clock that moves only when told to; for tests."""

    def __init__(self, wall_s: float = 1_700_000_000.0, monotonic_s: float = 1000.0) -> None:
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s

    def wall_s(self) -> float:
        return self._wall_s

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def sleep(self, duration_s: float) -> None:
        self.advance(max(0.0, duration_s))

    def advance(self, duration_s: float) -> None:
        """Move both hands forward by ``duration_s``."""
        self._wall_s += duration_s
        self._monotonic_s += duration_s
