"""Per-second figures of a run, binned so that a long run draws as quickly as a short one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.evidence import histogram
from harness.evidence.model import Evidence, TallyCell

#: Points along the time axis at most; more would be narrower than a pixel.
MAX_BINS = 480


@dataclass
class Bin:
    """What happened to the arrivals planned in one stretch of ``seconds`` seconds from ``t``."""

    t: float
    seconds: int
    planned: int = 0
    bad: int = 0
    #: region that served → successes
    ok: dict[str, int] = field(default_factory=dict)
    latency: histogram.Histogram = field(default_factory=dict)

    def quantile_s(self, q: float) -> float | None:
        """The middle of the interval the ``q`` quantile of latency lies in; None if nothing came."""
        found = histogram.quantile_us(self.latency, q)
        return None if found is None else (found.low + found.high) / 2e6


def span(evidence: Evidence) -> tuple[float, float]:
    """First and last instant of the phases, wall seconds; zeros when none ran."""
    if not evidence.phases:
        return 0.0, 0.0
    ends = [p.end_t if p.end_t is not None else p.start_t for p in evidence.phases]
    return evidence.phases[0].start_t, max(ends)


def bins(evidence: Evidence) -> list[Bin]:
    """Every stretch of the run, in order, without holes."""
    start, end = span(evidence)
    first, count = int(start), max(1, int(end) - int(start) + 1)
    width = max(1, -(-count // MAX_BINS))
    found = [Bin(float(t), width) for t in range(first, first + count, width)]
    for worker in evidence.tallies:
        for second in worker.seconds:
            index = (second.second - first) // width
            if 0 <= index < len(found):
                _add(found[index], second.planned, second.cells)
    return found


def _add(into: Bin, planned: int, cells: tuple[TallyCell, ...]) -> None:
    into.planned += planned
    for cell in cells:
        if cell.outcome == "ok":
            region = cell.region or "?"
            into.ok[region] = into.ok.get(region, 0) + cell.n
            into.latency = histogram.merge((into.latency, cell.latency))
        else:
            into.bad += cell.n


def regions(found: list[Bin], order: Mapping[str, int]) -> list[str]:
    """Regions that served anything, in ``order`` (name → rank), others after."""
    names = {name for b in found for name in b.ok}
    return sorted(names, key=lambda name: (order.get(name, 99), name))
