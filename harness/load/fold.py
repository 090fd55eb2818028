"""Puts what was tallied into Locust's own statistics, many at a time.

Locust's event for every request costs more than sending it. Nobody needs it but those who
listen to it: for them it is fired, and otherwise its statistics get the sums, so that its web
page, tables, CSV and reports to a master show the same as if it had been.

Where the event is fired, half of what it costs are Locust's own statistics, which listen too:
those told one by one are added up together (:class:`BatchedStats`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import groupby, islice

import gevent
from locust import stats as of_locust
from locust.env import Environment
from locust.stats import RequestStats, StatsEntry, StatsError

from harness.evidence import histogram
from harness.load.outcome import DEGRADED, NOT_SENT, OK
from harness.load.tally import CellView

log = logging.getLogger(__name__)

#: Locust looks back a few seconds and keeps a number for every second since the start.
KEEP_SECONDS = 120
#: Points of its charts; it adds one every 5 s and takes none away.
KEEP_POINTS = 1000
#: Its entries that are looked through with each cell.
ENTRIES_AT_ONCE = 8
#: When a request was over, its entry, milliseconds (None: it has no response time), bytes.
_Told = tuple[float, StatsEntry, float | None, int]
#: Requests told one by one are added up so often; and whenever anybody looks.
BATCH_S = 0.01


class BatchedStats(RequestStats):
    """Locust's statistics, which add up what they were told when somebody looks.

    Whoever asks them for anything gets it as if every request had been added at its own time.
    Only an entry that was taken out before lags behind, by :data:`BATCH_S`.
    """

    # Assigned by Locust's own __init__ and clear_all.
    @property
    def total(self) -> StatsEntry:  # type: ignore[override]
        self.add_up()
        return self._total

    @total.setter
    def total(self, entry: StatsEntry) -> None:
        self.add_up()
        self._total = entry

    @property
    def entries(self) -> dict[tuple[str, str], StatsEntry]:  # type: ignore[override]
        self.add_up()
        return self._entries

    @entries.setter
    def entries(self, entries: dict[tuple[str, str], StatsEntry]) -> None:
        self.add_up()
        self._entries = entries

    @classmethod
    def instead_of(cls, stats: RequestStats) -> None:
        """Make ``stats`` one of these: it is known to others already."""
        if type(stats) is not RequestStats:
            return  # somebody else's own
        total, entries = stats.__dict__.pop("total"), stats.__dict__.pop("entries")
        stats.__class__ = cls
        assert isinstance(stats, cls)
        stats._told = []
        stats._total, stats._entries = total, entries
        stats._timer = gevent.get_hub().loop.timer(BATCH_S, BATCH_S, ref=False)
        stats._timer.start(stats.add_up)

    _told: list[_Told]

    def log_request(
        self, method: str, name: str, response_time: float | None, content_length: int
    ) -> None:
        """One request is over: milliseconds (None: it has no response time) and bytes."""
        entry = self._entries[name, method]  # made now, if it is new: it knows since when it is
        self._told.append((time.time(), entry, response_time, content_length))

    def add_up(self) -> None:
        """Add what was told since the last time."""
        told = self._told
        if not told:
            return
        self._told = []
        if int(told[0][0]) == int(told[-1][0]):
            self._add_second(told)
        else:
            # In the order they came: Locust keeps its response times as of the end of each second.
            for _, of_second in groupby(told, lambda request: int(request[0])):
                self._add_second(list(of_second))

    def _add_second(self, told: list[_Told]) -> None:
        by_entry: dict[StatsEntry, list[_Told]] = {}
        for request in told:
            entry = request[1]
            if entry in by_entry:
                by_entry[entry].append(request)
            else:
                by_entry[entry] = [request]
        for entry, requests in by_entry.items():
            try:
                _add(self._total, entry, requests)
            except (TypeError, ValueError, ArithmeticError):
                # Whoever fires Locust's event may tell it anything: the others count all the same.
                if len(requests) == 1:
                    log.exception("not counted: %r", requests[0][2:])
                else:
                    for request in requests:
                        self._add_second([request])


def batch(environment: Environment, **_: object) -> None:
    """Have the statistics of this environment add up many requests at once; for ``events.init``."""
    BatchedStats.instead_of(environment.stats)


class Fold:
    """Adds tallied cells to ``stats``."""

    def __init__(self, stats: RequestStats) -> None:
        self._stats = stats
        #: entries whose old numbers are still to be forgotten this time round
        self._turn: Iterator[StatsEntry] = iter(())
        #: Locust's statistics go by name and method; an operation has one.
        self.methods: dict[str, str] = {}

    def add(self, second: int, cell: CellView) -> None:
        """A cell of one second of planned arrivals, as it was counted since the last time."""
        if cell.outcome != NOT_SENT:
            method = self.methods.get(cell.op, "-")
            response_times, total_ms, low_ms, high_ms = _in_ms(cell.latency)
            for entry in (self._stats.total, self._stats.entries[cell.op, method]):
                _log(entry, second, cell, response_times, total_ms, low_ms, high_ms)
            if cell.outcome != OK:
                self._error(method, cell)
        self.forget_old()

    def forget_old(self) -> None:
        """Keep the numbers per second that Locust looks at; they would grow for ever.

        Of a few entries at a time, each in its turn: all of thousands would take too long.
        """
        entries = list(islice(self._turn, ENTRIES_AT_ONCE))
        if not entries:
            self._turn = iter([self._stats.total, *self._stats.entries.values()])
        oldest = int(time.time()) - KEEP_SECONDS
        for entry in entries:
            for numbers in (entry.num_reqs_per_sec, entry.num_fail_per_sec):
                if len(numbers) > KEEP_SECONDS:
                    for second in [s for s in numbers if s < oldest]:
                        del numbers[second]
        points = self._stats.history
        if len(points) > KEEP_POINTS:
            # The whole run stays to be seen: of the older half every second point goes.
            del points[: KEEP_POINTS // 2 : 2]

    def _error(self, method: str, cell: CellView) -> None:
        # Locust knows success and failure; a degraded answer is no success.
        error = cell.error or cell.outcome
        error = f"{DEGRADED}: {error}" if cell.outcome == DEGRADED else error
        key = StatsError.create_key(method, cell.op, error)
        known = self._stats.errors.get(key)
        if known is None:
            known = self._stats.errors[key] = StatsError(method, cell.op, error)
        known.occurrences += cell.n


def _in_ms(latency: Mapping[int, int]) -> tuple[dict[int, int], float, float, float]:
    """Locust's rounded response times, their sum and the least and greatest, in ms."""
    rounded: dict[int, int] = {}
    total_ms = 0.0
    low_ms, high_ms = float("inf"), 0.0
    for index, n in latency.items():
        middle_ms, key = _of_bucket(index)
        rounded[key] = rounded.get(key, 0) + n
        total_ms += middle_ms * n
        low_ms = min(low_ms, middle_ms)
        high_ms = max(high_ms, middle_ms)
    return rounded, total_ms, low_ms, high_ms


@cache
def _of_bucket(index: int) -> tuple[float, int]:
    """The middle of a bucket in ms, and what Locust rounds it to. There are a few thousand."""
    low_us, high_us = histogram.bounds_us(index)
    middle_ms = (low_us + high_us) / 2000
    return middle_ms, of_locust.bucket_response_time(middle_ms)


def _log(
    entry: StatsEntry,
    second: int,
    cell: CellView,
    response_times: dict[int, int],
    total_ms: float,
    low_ms: float,
    high_ms: float,
) -> None:
    """What Locust does for one request, for all of a cell."""
    now_t = time.time()
    last_t = entry.last_request_timestamp
    if entry.use_response_times_cache and last_t and int(now_t) > int(last_t):
        entry._cache_response_times(int(now_t) - 1)
    entry.num_requests += cell.n
    entry.num_reqs_per_sec[second] += cell.n
    entry.last_request_timestamp = now_t
    entry.total_response_time += round(total_ms)
    least = entry.min_response_time
    entry.min_response_time = round(low_ms, 3) if least is None else min(least, round(low_ms, 3))
    entry.max_response_time = max(entry.max_response_time, round(high_ms, 3))
    for key, n in response_times.items():
        entry.response_times[key] = entry.response_times.get(key, 0) + n
    entry.total_content_length += cell.size_bytes
    if cell.outcome != OK:
        entry.num_failures += cell.n
        entry.num_fail_per_sec[second] += cell.n


def _add(total: StatsEntry, entry: StatsEntry, requests: list[_Told]) -> None:
    """What Locust does for each of some requests of one entry and second."""
    at_t = requests[-1][0]
    second, n = int(at_t), len(requests)
    size_bytes = sum([size for _, _, _, size in requests])
    times_ms = [ms for _, _, ms, _ in requests if ms is not None]
    sum_ms = sum(times_ms)
    low_ms, high_ms = (min(times_ms), max(times_ms)) if times_ms else (None, 0)
    rounded: dict[int, int] = {}
    bucket = of_locust.bucket_response_time  # may have been replaced by the locustfile
    for ms in times_ms:
        key = bucket(ms)
        if key in rounded:
            rounded[key] += 1
        else:
            rounded[key] = 1
    for each in (total, entry):
        last_t = each.last_request_timestamp
        if each.use_response_times_cache and last_t and second > int(last_t):
            each._cache_response_times(second - 1)
        each.num_requests += n
        each.num_reqs_per_sec[second] += n
        # Of several entries of a batch the latest one is not the last one.
        each.last_request_timestamp = max(at_t, last_t or 0.0)
        each.total_content_length += size_bytes
        each.num_none_requests += n - len(times_ms)
        if low_ms is not None:
            each.total_response_time += sum_ms  # type: ignore[assignment]
            least = each.min_response_time
            each.min_response_time = low_ms if least is None else min(least, low_ms)  # type: ignore[assignment]
            each.max_response_time = max(each.max_response_time, high_ms)  # type: ignore[assignment]
            for key, m in rounded.items():
                each.response_times[key] += m
