"""Counts of what was planned and what became of it, second by second.

The generator cannot keep every request, and must not keep its counts in memory until
the end: a killed generator would leave nothing, or worse, something that looks whole.
Counts are therefore written about once a second as deltas, an arrival is counted as
planned when it falls due (before it is sent), and the file is closed by a line of sums.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from harness.evidence import histogram
from harness.load.outcome import NOT_SENT

log = logging.getLogger(__name__)


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


#: Operations counted by their own name, per process. A name that holds an id would be as many as
#: there are requests: those beyond are counted as one.
NAMES_MAX = 2000
OTHER_NAMES = "(other)"
#: Likewise all there is of operation, region, zone and error; those beyond have no region.
KEYS_MAX = 20_000

#: A line is written once it holds so many figures: some tenths of a millisecond of work.
LINE_FIGURES = 300
#: What a cell holds beside its durations.
_CELL_FIGURES = 8

#: Durations that most are, in quarters of a microsecond: their buckets are looked up in a third of
#: the time it takes to compute them.
_SMALL = 1 << 18
_small = [0] * 4
for _octave in range(2, 18):
    for _step in range(0, 128, max(1, 128 >> _octave)):
        _small += [((_octave - 2) << 7) + _step] * max(1, 1 << _octave >> 7)


class CellView(NamedTuple):
    """What is counted together within one second, and its counts."""

    op: str
    outcome: str
    error: str
    n: int
    size_bytes: int
    latency: histogram.Histogram


Served = tuple[str, str]
#: What is counted together, beside its second: operation, (region, zone), (outcome, error).
Key = tuple[str, Served, tuple[str, str]]
NOBODY: Served = ("", "")


class _Cell:
    __slots__ = ("at_edge", "latency", "service", "size_bytes", "unmeasured")

    def __init__(self, thresholds: int) -> None:
        #: how many without durations: what was not sent
        self.unmeasured = 0
        self.size_bytes = 0
        self.latency: histogram.Histogram = {}
        self.service: histogram.Histogram = {}
        #: by threshold: how many latencies in its own bucket are not above it
        self.at_edge = [0] * thresholds

    @property
    def n(self) -> int:
        return self.unmeasured + histogram.count(self.latency)


class _Second:
    __slots__ = ("cells", "from_t", "planned")

    def __init__(self, from_t: float) -> None:
        self.from_t = from_t
        self.planned = 0
        #: by the number of their key
        self.cells: dict[int, _Cell] = {}


@dataclass
class TallySums:
    """Sums since the start; ``sent`` includes what is still in flight."""

    planned: int = 0
    sent: int = 0
    not_sent: int = 0
    in_flight: int = 0


class Tally:
    """Counts of one generator process. Not for sharing between OS threads."""

    def __init__(
        self,
        pen: Pen,
        thresholds_s: Sequence[float],
        on_counted: Callable[[int, CellView], None] = lambda second, cell: None,
        sums: TallySums | None = None,
    ) -> None:
        """``on_counted`` is told at each flush what was counted, of which second; ``sums`` are
        those of a tally that this one goes on with."""
        #: what took off and has not been counted: planned instant, lateness; for :meth:`took_off`
        self.departures: list[tuple[float, float]] = []
        #: and what is over: planned instant, :meth:`key`, bytes, latency, service time
        self.landings: list[tuple[float, int, int, float, float]] = []
        self._sums = sums or TallySums()
        self._on_counted = on_counted
        self._pen = pen
        self._thresholds_s = tuple(thresholds_s)
        #: of each threshold its bucket, and of each such bucket its thresholds
        self._edge_of = [_index_of(s) for s in self._thresholds_s]
        self._edges = {
            edge: [i for i, other in enumerate(self._edge_of) if other == edge]
            for edge in self._edge_of
        }
        self._names: set[str] = set()
        self._other_names = False
        self._numbers: dict[Key, int] = {}
        self._keys: list[Key] = []
        self._seconds: dict[int, _Second] = {}
        self._lateness: histogram.Histogram = {}

    def start(self, **about: Any) -> None:
        """Write ``tally.start``: who counts, which schedule, which thresholds."""
        self._pen.write("tally.start", thresholds_s=list(self._thresholds_s), **about)

    def key(self, op: str, served: Served, result: tuple[str, str]) -> int:
        """The number under which this is counted; for :meth:`count`."""
        found = self._numbers.get((op, served, result))
        return found if found is not None else self._new_key(op, served, result)

    @property
    def sums(self) -> TallySums:
        """The sums up to now."""
        self.fold()
        return self._sums

    @property
    def in_flight(self) -> int:
        """How many are on their way now."""
        return self._sums.in_flight + len(self.departures) - len(self.landings)

    def planned(self, planned_t: float) -> None:
        """An arrival fell due at wall instant ``planned_t``."""
        self._second_of(planned_t).planned += 1
        self._sums.planned += 1

    def took_off(self, planned_t: float, lateness_s: float) -> None:
        """An arrival fell due at wall instant ``planned_t`` and is on its way, so much later."""
        self.departures.append((planned_t, lateness_s))

    def not_sent(self, planned_t: float, op: str, error: str) -> None:
        """It was not sent at all: the generator's fault, not the service's."""
        self._sums.not_sent += 1
        key = self.key(op, NOBODY, (NOT_SENT, error))
        self._cell(self._second_of(planned_t), key).unmeasured += 1

    def done(
        self,
        planned_t: float,
        op: str,
        served: Served,
        result: tuple[str, str],
        size_bytes: int,
        latency_s: float,
        service_s: float,
    ) -> None:
        """What was sent has its outcome; durations from the planned instant and the send."""
        key = self.key(op, served, result)
        self.landings.append((planned_t, key, size_bytes, latency_s, service_s))

    def fold(self) -> None:
        """Count what has taken off and landed since the last time.

        To be called often: the two lists must not grow. Many counted in a row cost a fraction of
        what each would cost among all that a request does.
        """
        if self.departures:
            self._fold_departures()
        if self.landings:
            self._fold_landings()

    def _fold_departures(self) -> None:
        departures, lateness, small = self.departures, self._lateness, _small
        punctual, from_t, to_t = 0, 1.0, 0.0
        for planned_t, lateness_s in departures:
            if not from_t <= planned_t < to_t:
                second = self._second_of(planned_t)
                from_t, to_t = second.from_t, second.from_t + 1.0
            second.planned += 1
            if not lateness_s:
                punctual += 1  # as in a closed loop, where there is no plan to be late for
                continue
            try:
                index = small[int(lateness_s * 4e6)]
            except IndexError:
                index = histogram.index_of(lateness_s * 1e6)
            if index in lateness:
                lateness[index] += 1
            else:
                lateness[index] = 1
        if punctual:
            lateness[0] = lateness.get(0, 0) + punctual
        n = len(departures)
        departures.clear()
        sums = self._sums
        sums.planned += n
        sums.sent += n
        sums.in_flight += n

    def _fold_landings(self) -> None:
        landings, edges, small = self.landings, self._edges, _small
        from_t, to_t = 1.0, 0.0
        for planned_t, key, size_bytes, latency_s, service_s in landings:
            if not from_t <= planned_t < to_t:
                second = self._second_of(planned_t)
                from_t, to_t, find = second.from_t, second.from_t + 1.0, second.cells.get
            cell = find(key)
            if cell is None:
                cell = self._cell(second, key)
            cell.size_bytes += size_bytes
            try:
                index = small[int(latency_s * 4e6)]
            except IndexError:
                index = histogram.index_of(latency_s * 1e6)
            if index in edges:
                # The bucket of a threshold: which side of it, no bucket tells.
                for i in edges[index]:
                    if latency_s <= self._thresholds_s[i]:
                        cell.at_edge[i] += 1
            counts = cell.latency
            if index in counts:
                counts[index] += 1
            else:
                counts[index] = 1
            if service_s is not latency_s:
                try:
                    index = small[int(service_s * 4e6)]
                except IndexError:
                    index = histogram.index_of(service_s * 1e6)
            counts = cell.service
            if index in counts:
                counts[index] += 1
            else:
                counts[index] = 1
        self._sums.in_flight -= len(landings)
        landings.clear()

    def _second_of(self, planned_t: float) -> _Second:
        t = int(planned_t)
        second = self._seconds.get(t)
        if second is None:
            second = self._seconds[t] = _Second(float(t))
        return second

    def _cell(self, second: _Second, key: int) -> _Cell:
        cell = second.cells.get(key)
        if cell is None:
            cell = second.cells[key] = _Cell(len(self._thresholds_s))
        return cell

    def _new_key(self, op: str, served: Served, result: tuple[str, str]) -> int:
        """A number for what has none yet, unless there are too many."""
        if op not in self._names and len(self._names) >= NAMES_MAX and op != OTHER_NAMES:
            if not self._other_names:
                log.warning(
                    "more than %d names of operations: from %r on all are counted as %s; give "
                    "requests that differ by an id one name",
                    NAMES_MAX,
                    op,
                    OTHER_NAMES,
                )
            self._other_names = True
            return self.key(OTHER_NAMES, served, result)
        self._names.add(op)
        if len(self._keys) >= KEYS_MAX and served != NOBODY:
            return self.key(op, NOBODY, result)
        key = (op, served, result)
        self._numbers[key] = number = len(self._keys)
        self._keys.append(key)
        return number

    def withdrawn(self, planned_t: float, op: str, error: str) -> None:
        """It was taken up, but there was nothing to send (no object to delete, say)."""
        self._sums.in_flight -= 1
        self._sums.sent -= 1
        self.not_sent(planned_t, op, error)

    def flush(self, about: Callable[[], Mapping[str, Any]] = dict) -> None:
        """Write what was counted since the last flush; ``about``: what else each line tells."""
        for _ in self.flushing(about):
            pass

    def flushing(self, about: Callable[[], Mapping[str, Any]] = dict) -> Iterator[None]:
        """The same a line at a time, for those who have other things to do in between.

        To be closed by whoever does not go on to the end: that writes the rest.
        """
        self.fold()
        seconds, self._seconds = self._seconds, {}
        lateness, self._lateness = self._lateness, {}
        lines = self._lines(seconds, lateness, self._sums.in_flight)
        try:
            for line in lines:
                self._pen.write("tally", **line, **about())
                yield
        finally:
            for line in lines:
                self._pen.write("tally", **line, **about())

    def _lines(
        self, seconds: Mapping[int, _Second], lateness: histogram.Histogram, in_flight: int
    ) -> Iterator[dict[str, Any]]:
        """What was counted, as lines of some size; the first tells what fell due."""
        line = {
            "seconds": {
                str(t): {"planned": second.planned, "cells": []}
                for t, second in sorted(seconds.items())
            },
            "lateness": histogram.to_json(lateness),
            "in_flight": in_flight,
        }
        figures = len(lateness)
        for t, second in sorted(seconds.items()):
            for key, cell in sorted((self._keys[n], cell) for n, cell in second.cells.items()):
                if figures >= LINE_FIGURES:
                    yield line
                    figures, line = 0, {"seconds": {}, "lateness": {}, "in_flight": in_flight}
                of_second = line["seconds"].setdefault(str(t), {"planned": 0, "cells": []})
                of_second["cells"].append(self._cell_json(key, cell))
                figures += len(cell.latency) + len(cell.service) + _CELL_FIGURES
                self._on_counted(t, _view(key, cell))
        yield line

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
            **({"names_max": NAMES_MAX} if self._other_names else {}),
            **about,
        )
        self._pen.close()

    def _cell_json(self, key: Key, cell: _Cell) -> dict[str, Any]:
        op, (region, zone), (outcome, error) = key
        return {
            "op": op,
            "region": region,
            "zone": zone,
            "outcome": outcome,
            "error": error,
            "n": cell.n,
            "bytes": cell.size_bytes,
            "latency": histogram.to_json(cell.latency),
            "service": histogram.to_json(cell.service),
            "below": self._below(cell),
        }

    def _below(self, cell: _Cell) -> dict[str, int]:
        """Of each threshold, how many latencies are not above it: exact, whatever the buckets."""
        return {
            str(threshold_s): at_edge + sum(n for i, n in cell.latency.items() if i < edge)
            for threshold_s, edge, at_edge in zip(
                self._thresholds_s, self._edge_of, cell.at_edge, strict=True
            )
        }


def _index_of(seconds: float) -> int:
    """The bucket of a duration, found as that of each latency is: to the last bit."""
    try:
        return _small[int(seconds * 4e6)]
    except IndexError:
        return histogram.index_of(seconds * 1e6)


def _view(key: Key, cell: _Cell) -> CellView:
    op, _, (outcome, error) = key
    return CellView(op, outcome, error, cell.n, cell.size_bytes, cell.latency)
