"""A circuit breaker: a service that fails is left alone for a while, and then tried again.

The states and their names are the usual ones (Nygard, "Release It!"): *closed* (calls go through),
*open* (none does), *half-open* (a few do, to see).
"""

from __future__ import annotations

from collections import deque
from typing import Literal

State = Literal["closed", "half-open", "open"]

#: Calls that are looked back at; fewer than the least say nothing.
WINDOW, LEAST = 20, 10
FAILING = 0.5
#: How long it stays open before the service is tried again, in seconds.
OPEN_S = 3.0
#: Good calls in a row that close it again.
TRIALS = 3


class CircuitBreaker:
    """Ask :meth:`allows` before a call; then say once what became of it, :meth:`ended`.

    Seeded defects: ``opens`` False, and it never opens; ``closes`` False, and it never closes.
    """

    def __init__(self, *, opens: bool = True, closes: bool = True) -> None:
        self.state: State = "closed"
        self.opened = 0
        self._opens, self._closes = opens, closes
        self._ends: deque[bool] = deque(maxlen=WINDOW)
        self._opened_s = 0.0
        self._trials = self._good = 0

    @property
    def level(self) -> float:
        """0 closed, 1 half-open, 2 open: what its gauge shows."""
        return {"closed": 0.0, "half-open": 1.0, "open": 2.0}[self.state]

    def allows(self, now_s: float) -> bool:
        """Whether a call may be made now, at this monotonic instant."""
        if self.state == "open" and self._closes and now_s - self._opened_s >= OPEN_S:
            self.state, self._trials, self._good = "half-open", 0, 0
        if self.state == "half-open" and self._trials < TRIALS:
            self._trials += 1
            return True
        return self.state == "closed"

    def ended(self, good: bool | None, now_s: float) -> None:
        """A call that was allowed came to its end; None: nobody waited for it, it says nothing."""
        if self.state == "half-open":
            self._tried(good, now_s)
        elif self.state == "closed" and good is not None:
            self._ends.append(good)
            failed = self._ends.count(False)
            if self._opens and len(self._ends) >= LEAST and failed >= FAILING * len(self._ends):
                self._open(now_s)

    def _tried(self, good: bool | None, now_s: float) -> None:
        if good is None:
            self._trials -= 1  # another may be tried in its place
        elif not good:
            self._open(now_s)
        else:
            self._good += 1
            if self._good >= TRIALS:
                self.state = "closed"

    def _open(self, now_s: float) -> None:
        self.state, self._opened_s = "open", now_s
        self.opened += 1
        self._ends.clear()
