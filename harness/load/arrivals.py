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

from harness.errors import PlanInvalid

EVEN = "even"
POISSON = "poisson"


@dataclass(frozen=True)
class Schedule:
    """``rate`` arrivals per second, reached linearly over the first ``ramp_s`` seconds.

    ``arrivals`` is ``even`` (a fixed gap) or ``poisson`` (independent users, bursts
    included). ``duration_s`` None means without end.
    """

    rate: float
    arrivals: str = POISSON
    seed: int = 0
    duration_s: float | None = None
    ramp_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise PlanInvalid(f"a rate of {self.rate} arrivals/s sends nothing", hint="200/s")
        if self.arrivals not in (EVEN, POISSON):
            raise PlanInvalid(f"arrivals {self.arrivals!r} is not known", hint="even or poisson")
        if self.ramp_s < 0:
            raise PlanInvalid(f"a ramp of {self.ramp_s} s is negative", hint="0s or more")

    def offsets_s(self) -> Iterator[float]:
        """Planned instants, in seconds from the start, ascending; all before ``duration_s``."""
        for area in self._areas():
            offset_s = self._instant_s(area)
            if self.duration_s is not None and offset_s >= self.duration_s:
                return
            yield offset_s

    def share_s(self, worker: int, workers: int) -> Iterator[float]:
        """The offsets that process ``worker`` (from 0) of ``workers`` sends."""
        return itertools.islice(self.offsets_s(), worker, None, workers)

    def _areas(self) -> Iterator[float]:
        """How many arrivals the rate must have summed up to when each one is due."""
        if self.arrivals == EVEN:
            yield from (float(n) for n in itertools.count())
        source = random.Random(f"arrivals:{self.seed}")
        area = 0.0
        while True:
            area += source.expovariate(1.0)
            yield area

    def _instant_s(self, area: float) -> float:
        """The instant at which the rate, summed from the start, reaches ``area``.

        While ramping the rate is ``rate * t / ramp_s``, whose sum is
        ``rate * t² / (2 * ramp_s)``; afterwards it grows by ``rate`` each second.
        """
        in_ramp = self.rate * self.ramp_s / 2
        if area < in_ramp:
            return float((2 * area * self.ramp_s / self.rate) ** 0.5)
        return self.ramp_s + (area - in_ramp) / self.rate
