"""When requests are due: pure functions of rate, seed and number.

An open schedule is fixed before the first request is sent and does not depend on the
answers, so a slow system meets the same traffic as a fast one and its slowness shows.
Several generator processes share one schedule: process ``i`` of ``n`` sends the
arrivals ``i, i + n, i + 2n, …``, so the traffic is the same however many there are.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from operator import sub, truediv

from harness.errors import PlanInvalid
from harness.plan.rates import Curve

EVEN = "even"
POISSON = "poisson"


@dataclass(frozen=True)
class Schedule:
    """Arrivals as ``curve`` says, over all processes together.

    ``arrivals`` is ``even`` (as regular as the curve allows) or ``poisson`` (independent
    users, bursts included). ``duration_s`` None means without end.
    """

    curve: Curve
    arrivals: str = POISSON
    seed: int = 0
    duration_s: float | None = None

    def __post_init__(self) -> None:
        if self.arrivals not in (EVEN, POISSON):
            raise PlanInvalid(f"arrivals {self.arrivals!r} is not known", hint="even or poisson")

    def offsets_s(self) -> Iterator[float]:
        """Planned instants, in seconds from the start, ascending; all before ``duration_s``."""
        return self.share_s(0, 1)

    def share_s(self, worker: int, workers: int) -> Iterator[float]:
        """The offsets that process ``worker`` (from 0) of ``workers`` sends.

        Each process draws the arrivals of all, so this has no line of Python per arrival.
        """
        sums = itertools.islice(self._sums(), worker, None, workers)
        if self.curve.is_constant:
            instants = map(truediv, sums, itertools.repeat(self.curve.peak))
        else:
            instants = map(self.curve.instant_s, sums)
        if self.duration_s is None:
            return instants
        return itertools.takewhile(float(self.duration_s).__gt__, instants)

    def _sums(self) -> Iterator[float]:
        """How many arrivals the curve must have summed up to when each one is due."""
        if self.arrivals == EVEN:
            return map(float, itertools.count())
        # Gaps between independent arrivals are exponential: -log(1 - u). Their sums.
        uniform = random.Random(f"arrivals:{self.seed}").random
        logs = map(log, map((1.0).__sub__, itertools.starmap(uniform, itertools.repeat(()))))
        return itertools.islice(itertools.accumulate(logs, sub, initial=0.0), 1, None)
