"""Arrivals added up: over workers, seconds and cells, without losing what is not known.

An arrival that was planned and of which nothing is recorded may have gone either way, so
every share here is an interval: at worst it failed, at best it succeeded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from harness.evidence import histogram
from harness.evidence.model import NOBODY_ASKED, TallyCell, WorkerTally


class Share(NamedTuple):
    """A share of the arrivals, somewhere in ``[low, high]``."""

    low: float
    high: float


@dataclass(frozen=True)
class Counts:
    """What became of the arrivals planned in some seconds."""

    planned: int
    ok: int
    degraded: int
    failed: int
    unsure: int
    not_sent: int
    cells: tuple[TallyCell, ...]

    @property
    def accounted(self) -> int:
        """Arrivals whose outcome is recorded."""
        return self.sent + self.not_sent

    @property
    def unaccounted(self) -> int:
        """Arrivals planned of which nothing is recorded."""
        return max(0, self.planned - self.accounted)

    @property
    def either_way(self) -> int:
        """Arrivals that may have gone either way: nothing is recorded of them, or their
        generator was too late to send them, or gone, and nobody was asked."""
        return self.unaccounted + sum(
            cell.n
            for cell in self.cells
            if cell.outcome == "not_sent" and cell.error in NOBODY_ASKED
        )

    @property
    def sent(self) -> int:
        """Arrivals surely sent."""
        return self.ok + self.degraded + self.failed + self.unsure

    def with_degraded(self, counts: bool = True) -> Counts:
        """The same, where degraded answers are as good as any, if they count."""
        if not counts or not self.degraded:
            return self
        cells = (
            dataclasses.replace(c, outcome="ok", error="") if c.outcome == "degraded" else c
            for c in self.cells
        )
        return dataclasses.replace(self, ok=self.ok + self.degraded, degraded=0, cells=tuple(cells))

    def of(self, operations: Collection[str]) -> Counts:
        """What became of the arrivals of some operations; none named: of all.

        Nobody knows of which operation an arrival was of which nothing is recorded, so each of
        them may have been of these.
        """
        if not operations:
            return self
        mine = add((cell for cell in self.cells if cell.op in operations), 0)
        return dataclasses.replace(mine, planned=mine.accounted + self.unaccounted)

    def availability(self) -> Share | None:
        """Successes among the planned arrivals; None without any."""
        return self.of_planned(self.ok)

    def of_planned(self, n: int) -> Share | None:
        """``n`` and whatever may have gone either way, as a share of the planned arrivals."""
        total = max(self.planned, self.accounted)
        if total == 0:
            return None
        return Share(n / total, min(1.0, (n + self.either_way) / total))

    def error_rate(self) -> Share | None:
        """Failed or unsure among those sent; None when none was."""
        bad, total = self.failed + self.unsure, self.sent + self.unaccounted
        if total == 0:
            return None
        return Share(bad / total, (bad + self.unaccounted) / total)

    def good(self, within_s: float) -> Share | None:
        """Planned arrivals that succeeded, within ``within_s`` if that is above zero."""
        return self.within(within_s) if within_s else self.availability()

    def errors(self) -> dict[str, int]:
        """What was wrong with those that did not succeed, the commonest first."""
        bad = (cell for cell in self.cells if cell.outcome != "degraded" and cell.error)
        return add(bad, 0).by(lambda cell: cell.error)

    def ok_cells(self) -> tuple[TallyCell, ...]:
        return tuple(cell for cell in self.cells if cell.outcome == "ok")

    def within(self, threshold_s: float) -> Share | None:
        """Planned arrivals that succeeded within ``threshold_s``; None without arrivals.

        From exact counts where there are any, else from histogram buckets, as bounds.
        """
        low = high = 0
        for cell in self.ok_cells():
            exact = _exact(cell.below, threshold_s)
            if exact is not None:
                low, high = low + exact, high + exact
                continue
            bounds = histogram.fraction_below(cell.latency, threshold_s * 1e6)
            if bounds is None:
                high += cell.n
            else:
                low += round(bounds.low * cell.n)
                high += round(bounds.high * cell.n)
        surely, possibly = self.of_planned(low), self.of_planned(high)
        return None if surely is None or possibly is None else Share(surely.low, possibly.high)

    def quantile_s(self, q: float) -> Share | None:
        """The ``q`` quantile of latency in seconds over the planned arrivals.

        What did not succeed is slower than anything: None when the quantile falls there.
        """
        total = max(self.planned, self.accounted)
        merged = histogram.merge(cell.latency for cell in self.ok_cells())
        succeeded = histogram.count(merged)
        if total == 0 or succeeded == 0 or q * total > succeeded:
            return None
        found = histogram.quantile_us(merged, q * total / succeeded)
        return None if found is None else Share(found.low / 1e6, found.high / 1e6)

    def by(self, key: Callable[[TallyCell], str], outcome: str | None = None) -> dict[str, int]:
        """Counts per ``key``, of one outcome or of all, largest first."""
        found: dict[str, int] = {}
        for cell in self.cells:
            if outcome is None or cell.outcome == outcome:
                found[key(cell)] = found.get(key(cell), 0) + cell.n
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _exact(below: Mapping[str, int], threshold_s: float) -> int | None:
    for text, n in below.items():
        try:
            if abs(float(text) - threshold_s) < 1e-9:
                return n
        except ValueError:
            continue
    return None


def add(cells: Iterable[TallyCell], planned: int) -> Counts:
    """Counts of some cells and the arrivals planned with them."""
    cells = tuple(cells)
    sums = dict.fromkeys(("ok", "degraded", "failed", "unsure", "not_sent"), 0)
    for cell in cells:
        sums[cell.outcome] += cell.n
    return Counts(planned=planned, cells=cells, **sums)


class BySecond:
    """All workers' tallies, by second."""

    def __init__(self, tallies: Iterable[WorkerTally]) -> None:
        self._planned: dict[int, int] = {}
        self._cells: dict[int, list[TallyCell]] = {}
        for worker in tallies:
            for second in worker.seconds:
                at = second.second
                self._planned[at] = self._planned.get(at, 0) + second.planned
                self._cells.setdefault(at, []).extend(second.cells)
        self._one = {at: add(self._cells[at], self._planned[at]) for at in sorted(self._planned)}

    def seconds(self) -> list[int]:
        """Every second of which anything is recorded, ascending."""
        return list(self._one)

    def at(self, second: int) -> Counts:
        """Counts of one second, all zero when nothing is recorded."""
        return self._one.get(second) or add((), 0)

    def over(self, seconds: Collection[int]) -> Counts:
        """Counts of some seconds together; of however many nothing is recorded."""
        if len(seconds) > len(self._one):
            seconds = [second for second in self.seconds() if second in seconds]
        cells: list[TallyCell] = []
        planned = 0
        for second in seconds:
            planned += self._planned.get(second, 0)
            cells.extend(self._cells.get(second, ()))
        return add(cells, planned)
