"""Recorded requests as arrivals: bytes ready to be sent, under names that stay few.

A request is put together when it is sent from pieces that are bytes already. What is counted
is its operation: the method and the path with everything that looks like an id folded, so
``GET /v1/files/{}``. Query strings, and parts of a path that are no plain words, are never in a
name: names go into the evidence, and those parts may be secrets.
"""

from __future__ import annotations

import itertools
import re
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from os import dup
from pathlib import Path
from typing import TYPE_CHECKING

import gevent

from harness.load.arrivals import Schedule
from harness.load.declare import Bound, Declared
from harness.load.flights import DeclaredFlight
from harness.load.settings import Settings
from harness.load.wire.client import HttpClient
from harness.load.wire.upload import COPY_MAX_BYTES, Body
from harness.plan.logfile import read_records
from harness.plan.recording import Records

if TYPE_CHECKING:
    from harness.load.engine import Engine, Takeoff

#: Names of operations at most; the rarest share one name.
OPERATIONS_MAX = 50
OTHER = "(other)"
#: Where more different words than this follow the same beginning, they are ids.
WORDS_MAX = 20
#: Parts of a path that are counted in a name; what is deeper is folded into one.
DEPTH_MAX = 8
ID = "{}"
_WORD = re.compile(rb"[A-Za-z][A-Za-z_.-]{0,31}|v\d{1,3}")
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
#: Nobody was answered then, or the service had failed, so nothing is known of a right answer.
_NOT_ANSWERED = frozenset({408, 429, 460, 499})
_SUCCESS = frozenset(range(200, 300))


@lru_cache(maxsize=1024)
def expected(recorded: int) -> frozenset[int]:
    """Statuses that are right where ``recorded`` was answered when it was recorded.

    Of a success, any success; of a redirect, any redirect. A refusal (404, 403) is right again;
    what was missing then may be there now. A 304 came of a condition that no log holds, so
    the whole is right as well. Where the service failed, anything but failing again.
    """
    if recorded < 200 or recorded >= 500 or recorded in _NOT_ANSWERED:
        return frozenset(range(200, 500))
    if recorded < 300:
        return _SUCCESS
    if recorded == 304:
        return _SUCCESS | {304}
    if recorded < 400:
        return frozenset(range(300, 400))
    return _SUCCESS | {recorded} if recorded in (404, 410) else frozenset({recorded})


def operations(records: Records) -> tuple[list[str], array[int]]:
    """Names of operations, the commonest first, and for each different request which it is."""
    names = [
        f"{method} {template}"
        for method, template in zip(records.methods, templates(records.targets), strict=True)
    ]
    times = Counter[str]()
    for what, n in Counter(records.what).items():
        times[names[what]] += n
    kept = [name for name, _ in times.most_common(OPERATIONS_MAX)]
    if len(times) > OPERATIONS_MAX:
        # One name per method, so that an operation is still of one method.
        methods = sorted(set(records.methods))
        kept = kept[: OPERATIONS_MAX - len(methods)]
        known = set(kept)
        names = [n if n in known else f"{n.partition(' ')[0]} {OTHER}" for n in names]
        kept += sorted({name for name in names if name.endswith(OTHER)})
    numbers = {name: number for number, name in enumerate(kept)}
    return kept, array("H", (numbers[name] for name in names))


def templates(targets: Sequence[bytes]) -> list[str]:
    """The path of each target, ids folded."""
    paths = [target.partition(b"?")[0].split(b"/")[1:] for target in targets]
    folded = [[_word(part) for part in path[:DEPTH_MAX]] + path[DEPTH_MAX:][:1] for path in paths]
    for path in folded:
        path[DEPTH_MAX:] = ["{…}"] * len(path[DEPTH_MAX:])
    for depth in range(DEPTH_MAX):
        after: dict[tuple[str, ...], set[str]] = {}
        for path in folded:
            if depth < len(path):
                after.setdefault(tuple(path[:depth]), set()).add(path[depth])
        many = {start for start, words in after.items() if len(words) > WORDS_MAX}
        for path in folded if many else ():
            if depth < len(path) and tuple(path[:depth]) in many:
                path[depth] = ID
    return ["/" + "/".join(path) for path in folded]


def _word(part: bytes) -> str:
    return part.decode("ascii") if not part or _WORD.fullmatch(part) else ID


def records_of(settings: Settings) -> Records | None:
    """The recording that is to be replayed, if one is; raises PlanInvalid.

    Reading a big one takes seconds, so it is done beside the hub.
    """
    if settings.recording is None:
        return None
    given = {"methods": settings.methods, "seed": settings.seed}
    pool = gevent.get_hub().threadpool
    found: Records = pool.apply(read_records, (Path(settings.recording),), given)
    return found


def share_s(
    settings: Settings, records: Records | None, worker: int, workers: int
) -> Iterator[float]:
    """When process ``worker`` of ``workers`` sends, ascending, in seconds from the start."""
    end_s = settings.duration_s
    if records is None:
        schedule = Schedule(settings.planned, settings.arrivals, settings.seed, end_s)
        return schedule.share_s(worker, workers)
    instants = records.instants_s(settings.speed, worker, workers, loop=settings.loop)
    if end_s is None:
        return instants
    return itertools.takewhile(lambda offset_s: offset_s < end_s, instants)


class Replay:
    """The share of one generator process in a recording: what is sent next, and when."""

    def __init__(
        self,
        records: Records,
        settings: Settings,
        http: HttpClient,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``headers`` go with every request. Raises ValueError for one that is none."""
        self.records = records
        self._http = http
        self._headers = dict(headers or {})
        self._names, self._op_of = operations(records)
        self._next = settings.worker
        self._step = settings.workers
        self._count = len(records)
        self._index = 0
        self._zeros: Body | None = None
        self._pieces = {method: self._around(method) for method in set(records.methods)}

    def pick(self) -> int:
        """Number of the operation of the next arrival; to be called once for each, in order."""
        self._index = index = self._next % self._count
        self._next += self._step
        return self._op_of[self.records.what[index]]

    def takeoffs(self) -> dict[str, tuple[float, Takeoff]]:
        """name → (how often, how one takes off), in the order :meth:`pick` counts them."""
        often = Counter[int]()
        for what, n in Counter(self.records.what).items():
            often[self._op_of[what]] += n
        return {
            name: (float(often[op]), self._takeoff(name, name.partition(" ")[0]))
            for op, name in enumerate(self._names)
        }

    def _takeoff(self, name: str, method: str) -> Takeoff:
        hangar: list[DeclaredFlight] = []
        load = self._load_body if method in WITH_BODY else self._load

        def take_off(engine: Engine, planned_t: float, planned_m: float) -> DeclaredFlight:
            if hangar:
                flight = hangar.pop()
            else:
                ask = Bound(Declared(method, "/"), b"")
                flight = DeclaredFlight(engine, name, ask, hangar)
            load(flight.ask)
            flight.head = None  # what the last answer meant, it meant for another request
            flight.planned_t = planned_t
            flight.planned_m = planned_m
            return flight

        return take_off

    def _load(self, ask: Bound) -> None:
        """Make ``ask`` the request of the arrival that was picked last."""
        records, index = self.records, self._index
        before, after = self._pieces[ask.method]
        ask.head = before + records.targets[records.what[index]] + after
        ask.expect = expected(records.statuses[index])

    def _load_body(self, ask: Bound) -> None:
        records, index = self.records, self._index
        size = records.sizes[index]
        target = records.targets[records.what[index]].decode("ascii")
        head = self._http.head(ask.method, target, self._headers, size)
        if size < COPY_MAX_BYTES:
            ask.head, ask.body = head + bytes(size), None
        else:
            ask.head, ask.body = head, self._body(size)
        ask.size_bytes = size
        ask.expect = expected(records.statuses[index])

    def _body(self, size_bytes: int) -> Body:
        """Zeros, from a file that takes no room on a disk."""
        if self._zeros is None:
            with tempfile.TemporaryFile() as file:
                file.truncate(max(self.records.sizes))
                self._zeros = Body(dup(file.fileno()), 0)
        return Body(self._zeros.fd, size_bytes, of=self._zeros)

    def _around(self, method: str) -> tuple[bytes, bytes]:
        """What stands before and after the target in every request without a body."""
        head = self._http.head(method, "/", self._headers)
        line, end, rest = head.partition(b" HTTP/1.1\r\n")
        return line[:-1], end + rest
