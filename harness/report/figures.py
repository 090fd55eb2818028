"""Figures of a run as they are drawn, binned so that an hour draws as quickly as a minute."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness.evidence import histogram
from harness.evidence.model import Evidence, TallyCell

#: Points along the time axis at most; more would be narrower than two pixels.
MAX_BINS = 420
_NICE_WIDTHS_S = (1, 2, 3, 5, 10, 15, 20, 30, 60)


@dataclass
class Bin:
    """What happened to the arrivals planned in one stretch of ``seconds`` seconds from ``t``."""

    t: float
    seconds: int
    planned: int = 0
    #: failed, unsure and not sent → count
    bad: Counter[str] = field(default_factory=Counter)
    #: answers that the service declared to be less than was asked for
    degraded: int = 0
    #: region that served → successes
    ok: Counter[str] = field(default_factory=Counter)
    latency: Counter[int] = field(default_factory=Counter)

    @property
    def bad_total(self) -> int:
        return sum(self.bad.values())

    def quantile_s(self, q: float) -> float | None:
        """The middle of the interval the ``q`` quantile of the successes' latency lies in."""
        found = histogram.quantile_us(self.latency, q)
        return None if found is None else (found.low + found.high) / 2e6


def span(evidence: Evidence) -> tuple[float, float]:
    """First and last instant of the phases, wall seconds; zeros when none ran.

    A phase without an end reaches to the last thing recorded.
    """
    if not evidence.phases:
        return 0.0, 0.0
    start = min(p.start_t for p in evidence.phases)
    ends = [p.end_t for p in evidence.phases if p.end_t is not None]
    if len(ends) < len(evidence.phases):
        ends += [event.t for event in evidence.events]
    return start, max(ends, default=start)


def bins(evidence: Evidence) -> list[Bin]:
    """Every stretch of the run, in order, without holes.

    Only whole seconds: one of which the run had a part would look like a dip.
    """
    start, end = span(evidence)
    first = math.ceil(start)
    count = math.floor(end) - first
    if count < 1:
        return []
    least = -(-count // MAX_BINS)
    width = next((w for w in _NICE_WIDTHS_S if w >= least), least)
    last = first + count
    found = [Bin(float(t), min(width, last - t)) for t in range(first, last, width)]
    for worker in evidence.tallies:
        for second in worker.seconds:
            index = (second.second - first) // width
            if first <= second.second < last:
                _add(found[index], second.planned, second.cells)
    return found


def _add(into: Bin, planned: int, cells: Iterable[TallyCell]) -> None:
    into.planned += planned
    for cell in cells:
        if cell.outcome == "ok":
            into.ok[cell.region or "unnamed"] += cell.n
            into.latency.update(cell.latency)
        elif cell.outcome == "degraded":
            into.degraded += cell.n
        else:
            into.bad[cell.outcome] += cell.n


def regions(found: Iterable[Bin], order: Sequence[str]) -> list[str]:
    """Regions that served anything, in ``order``, others after."""
    rank = {name: index for index, name in enumerate(order)}
    names = {name for b in found for name in b.ok}
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))
