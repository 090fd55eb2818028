"""Counts of what was planned and what became of it, second by second.

The generator cannot keep every request, and must not keep its counts in memory until
the end: a killed generator would leave nothing, or worse, something that looks whole.
Counts are therefore written about once a second as deltas, an arrival is counted as
planned when it falls due (before it is sent), and the file is closed by a line of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from harness.evidence import histogram
from harness.load.outcome import NOT_SENT


class Pen(Protocol):
    """What a line is written with: a Journal, or nothing at all."""

    def write(self, kind: str, /, *, t: float | None = None, **data: Any) -> object: ...

    def close(self) -> None: ...


class NoPen:
    """Writes nothing: plain ``locust -f …`` without a run folder keeps no evidence."""

    def write(self, kind: str, /, *, t: float | None = None, **data: Any) -> object:
        return None

    def close(self) -> None:
        pass


class CellKey(NamedTuple):
    """What is counted together within one second."""

    op: str
    region: str
    zone: str
    outcome: str
    error: str


@dataclass
class _Cell:
    n: int = 0
    bytes: int = 0
    latency: histogram.Histogram = field(default_factory=dict)
    service: histogram.Histogram = field(default_factory=dict)
    below: list[int] = field(default_factory=list)


@dataclass
class _Second:
    planned: int = 0
    cells: dict[CellKey, _Cell] = field(default_factory=dict)


@dataclass
class TallySums:
    """Sums since the start; ``sent`` includes what is still in flight."""

    planned: int = 0
    sent: int = 0
    not_sent: int = 0
    in_flight: int = 0


class Tally:
    """Counts of one generator process. Not for sharing between OS threads."""

    def __init__(self, pen: Pen, thresholds_s: Sequence[float]) -> None:
        self.sums = TallySums()
        self._pen = pen
        self._thresholds_s = tuple(thresholds_s)
        self._seconds: dict[int, _Second] = {}
        self._lateness: histogram.Histogram = {}

    def start(self, **about: Any) -> None:
        """Write ``tally.start``: who counts, which schedule, which thresholds."""
        self._pen.write("tally.start", thresholds_s=list(self._thresholds_s), **about)

    def planned(self, planned_t: float) -> None:
        """An arrival fell due at wall instant ``planned_t``."""
        self._second(planned_t).planned += 1
        self.sums.planned += 1

    def sent(self) -> None:
        """It is on its way."""
        self.sums.sent += 1
        self.sums.in_flight += 1

    def late(self, lateness_s: float) -> None:
        """It began to be sent ``lateness_s`` after its planned instant."""
        histogram.record(self._lateness, lateness_s)

    def not_sent(self, planned_t: float, op: str, error: str) -> None:
        """It was not sent at all: the generator's fault, not the service's."""
        self.sums.not_sent += 1
        self._cell(planned_t, CellKey(op, "", "", NOT_SENT, error)).n += 1

    def done(
        self, planned_t: float, key: CellKey, *, size_bytes: int, latency_s: float, service_s: float
    ) -> None:
        """What was sent has its outcome; durations from the planned instant and the send."""
        self.sums.in_flight -= 1
        cell = self._cell(planned_t, key)
        cell.n += 1
        cell.bytes += size_bytes
        histogram.record(cell.latency, latency_s)
        histogram.record(cell.service, service_s)
        for i, threshold_s in enumerate(self._thresholds_s):
            cell.below[i] += latency_s <= threshold_s

    def withdrawn(self, planned_t: float, op: str, error: str) -> None:
        """It was taken up, but there was nothing to send (no object to delete, say)."""
        self.sums.in_flight -= 1
        self.sums.sent -= 1
        self.not_sent(planned_t, op, error)

    def flush(self) -> None:
        """Write what was counted since the last flush as one line."""
        seconds, self._seconds = self._seconds, {}
        lateness, self._lateness = self._lateness, {}
        self._pen.write(
            "tally",
            seconds={str(t): self._second_json(s) for t, s in sorted(seconds.items())},
            lateness=histogram.to_json(lateness),
            in_flight=self.sums.in_flight,
        )

    def end(self, *, unfinished: int = 0, **about: Any) -> None:
        """Write what is left and ``tally.end`` with the sums, and close the file.

        ``unfinished``: how many requests had to be given up at the end; they are among
        the sent, counted in cells of their own, and reported as ``in_flight``.
        """
        self.flush()
        sums = self.sums
        self._pen.write(
            "tally.end",
            planned=sums.planned,
            sent=sums.sent,
            not_sent=sums.not_sent,
            in_flight=sums.in_flight + unfinished,
            **about,
        )
        self._pen.close()

    def _second(self, t: float) -> _Second:
        return self._seconds.setdefault(int(t), _Second())

    def _cell(self, t: float, key: CellKey) -> _Cell:
        cells = self._second(t).cells
        cell = cells.get(key)
        if cell is None:
            cell = cells[key] = _Cell(below=[0] * len(self._thresholds_s))
        return cell

    def _second_json(self, second: _Second) -> dict[str, Any]:
        return {
            "planned": second.planned,
            "cells": [self._cell_json(k, c) for k, c in sorted(second.cells.items())],
        }

    def _cell_json(self, key: CellKey, cell: _Cell) -> dict[str, Any]:
        return {
            **key._asdict(),
            "n": cell.n,
            "bytes": cell.bytes,
            "latency": histogram.to_json(cell.latency),
            "service": histogram.to_json(cell.service),
            "below": {str(s): n for s, n in zip(self._thresholds_s, cell.below, strict=True)},
        }
