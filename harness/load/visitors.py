"""Who takes an arrival: users with sessions, who think between their steps.

The schedule says when something happens and the mix says what; neither is changed here. An
arrival is taken by the user who has been ready for longest; if nobody is ready, a new user
comes and a session begins. After each step the session ends with the same probability (so
the number of steps is geometric), or the user thinks (log-normal) and is ready again after
that. So the number of users follows the rate: on average rate × thinking time of them are
there (Little's law), and the rate is what was planned.

Only planned instants and a seed go in: the same schedule has the same users.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from math import exp
from statistics import NormalDist
from typing import TYPE_CHECKING

from harness.load.objects import StoredObject
from harness.plan.behaviour import Behaviour

if TYPE_CHECKING:
    from harness.load.workload import VirtualUser

#: Spread of the thinking time: the logarithm's standard deviation.
THINK_SIGMA = 1.0
#: Who is ready is looked up this often: a thinking time's mean over so many, at least 1 ms.
TICKS = 512
TICK_MIN_S = 0.001
#: Thinking times are drawn from so many equally likely values.
THINK_VALUES = 2048
#: Whoever is ready and not called on for so long has left.
PATIENCE_S = 60.0
#: Users that may think at the same time in one process; who comes when it is full does not stay.
MOST = 200_000
#: Objects of each kind a user remembers, the latest first.
REMEMBERED = 5


def think_times_s(mean_s: float) -> list[float]:
    """Equally likely thinking times, ascending: log-normal with this mean, in seconds.

    The middles of as many equal slices of the distribution, scaled so that the mean is exact.
    """
    normal = NormalDist(0.0, THINK_SIGMA)
    values = [exp(normal.inv_cdf((i + 0.5) / THINK_VALUES)) for i in range(THINK_VALUES)]
    scale = mean_s * THINK_VALUES / sum(values)
    return [value * scale for value in values]


class Visitor:
    """A user in a session, and what it has looked at lately."""

    __slots__ = ("account", "files", "images", "number", "ready_t", "width")

    def __init__(self, number: int, account: VirtualUser) -> None:
        self.number = number
        #: whose token its requests carry
        self.account = account
        #: it thinks until this instant
        self.ready_t = 0.0
        self.files: tuple[StoredObject, ...] = ()
        self.images: tuple[StoredObject, ...] = ()
        #: of the picture it looked at last, in pixels
        self.width = 0


def seen_now(stored: StoredObject, before: tuple[StoredObject, ...]) -> tuple[StoredObject, ...]:
    """What a user remembers who sees ``stored`` now and remembered ``before``."""
    # Tuples, since there may be many users and most remember little: nothing is kept for nothing.
    if stored in before:
        before = tuple([known for known in before if known is not stored])
    return (stored, *before[: REMEMBERED - 1])


class Visitors:
    """The users of one generator process."""

    def __init__(
        self, behaviour: Behaviour, source: random.Random, accounts: Sequence[VirtualUser]
    ) -> None:
        self._draw = source.random
        self._accounts = accounts
        self._leave = 1.0 / behaviour.steps
        self._think_s = think_times_s(behaviour.think_s)
        # A wheel and not a heap: as cheap with many users as with few.
        self._tick_s = max(TICK_MIN_S, behaviour.think_s / TICKS)
        self._tick = -1
        #: tick → users who are ready from it on
        self._thinking: dict[int, list[Visitor]] = {}
        self._ready: deque[Visitor] = deque()
        self._there = 0
        #: sessions begun
        self.begun = 0
        #: most users there at the same time
        self.most = 0

    def __len__(self) -> int:
        """How many users are in a session."""
        return self._there

    def next(self, planned_t: float) -> Visitor:
        """Who takes the arrival planned at this instant; call in the order of instants."""
        draw = self._draw
        ends = draw() < self._leave
        think_s = self._think_s[int(draw() * THINK_VALUES)]
        tick = int(planned_t / self._tick_s)
        if tick > self._tick:
            self._turn_to(tick, planned_t)
        if self._ready:
            visitor = self._ready.popleft()
            if ends:
                self._there -= 1
                return visitor
        else:
            self.begun = number = self.begun + 1
            visitor = Visitor(number, self._accounts[number % len(self._accounts)])
            if ends or self._there >= MOST:
                return visitor
            self._there += 1
            if self._there > self.most:
                self.most = self._there
        visitor.ready_t = ready_t = planned_t + think_s
        # The tick after: nobody is called on before its time.
        tick = int(ready_t / self._tick_s) + 1
        others = self._thinking.get(tick)
        if others is None:
            self._thinking[tick] = [visitor]
        else:
            others.append(visitor)
        return visitor

    def _turn_to(self, tick: int, planned_t: float) -> None:
        """Who is ready by this tick; who has waited too long goes."""
        thinking, ready = self._thinking, self._ready
        past: Iterable[int] = range(self._tick + 1, tick + 1)
        if tick - self._tick > len(thinking):  # also the first time
            past = sorted(t for t in thinking if t <= tick)
        for t in past:
            if t in thinking:
                ready.extend(thinking.pop(t))
        self._tick = tick
        while ready and ready[0].ready_t < planned_t - PATIENCE_S:
            ready.popleft()
            self._there -= 1
