"""The open loop: arrivals leave at their planned instants, whatever the answers do.

A timer of the kernel goes off when arrivals are due and they are sent from there, in the
hub, without a greenlet or thread for any of them; the answers come back as events. A slow
service meets the same traffic as a fast one. When too many requests are in flight an
arrival is *not sent*, and counted so. Latency runs from the planned instant: the time an
arrival spent waiting for its turn is part of what its user felt.

Runs inside Locust (gevent); nothing here imports Locust.
"""

from __future__ import annotations

import gc
import logging
import random
import time
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import accumulate, repeat
from typing import Any, Protocol

import gevent
from gevent.event import Event
from gevent.pool import Pool

from harness.clock import Clock
from harness.errors import HarnessError, PlanInvalid
from harness.evidence.model import GENERATOR_LATE
from harness.load.flights import Flight
from harness.load.marks import Marks
from harness.load.outcome import OK, Outcome
from harness.load.recorded import Replay, share_s
from harness.load.settings import Settings
from harness.load.steps import Ask, Steps, drive
from harness.load.tally import Tally
from harness.load.wire.client import Exchange, HttpClient
from harness.load.wire.poller import Poller, Ticker

log = logging.getLogger(__name__)

FLUSH_S = 1.0
#: Between the pieces of what is flushed.
PAUSE_S = 0.001
#: What was counted is folded so often: seldom enough that many are folded at once, and often
#: enough that no arrival waits for it.
FOLD_S = 0.01
#: Between "begin" and the first arrival: it can be on time too.
HEAD_START_S = 0.02
#: Beyond the timeout, for answers that arrive in the last moment to be counted.
DRAIN_GRACE_S = 0.5
WARM_UP_AT_ONCE = 4
WARM_UP_RETRY_S = 0.5
#: Above this rate a process wakes up on a grid and sends what is due: at high rates it is
#: waking up that costs, and the grid is as fine as a timer of most systems.
EXACT_MAX_PER_S = 2000.0
GRID_S = 0.0005
#: Most that is sent in one go: a generator that is late must go on reading answers, or it would
#: open a connection for each arrival and never catch up.
BURST_MAX = 64
#: Arrivals that this process is later for than this (or half the timeout, if that is less) are
#: not sent: it has too little of a processor, and what is sent must have time to be answered.
LATE_MAX_S = 1.0

#: Makes the flight of an arrival planned at this wall and monotonic instant.
Takeoff = Callable[["Engine", float, float], Flight]


class Traffic(Protocol):
    """What a kind of user brings along: its service, what it stores first, what it keeps up."""

    http: HttpClient

    def warm_up(self) -> list[Callable[[], Steps[Outcome]]]:
        """What must succeed before the schedule begins, each again until it does."""

    def housekeeping(self) -> Iterable[Steps[None]]:
        """What is done every second beside the schedule."""

    def close(self) -> None:
        """Nothing more will be sent."""

    def about(self) -> dict[str, object]:
        """What is to stand in the evidence when all is over."""


class WarmUpFailed(HarnessError):
    """The service did not store the first objects; no traffic was sent."""


def choose_weights(
    operations: Mapping[str, float], mix: Mapping[str, float]
) -> tuple[list[str], list[float]]:
    """Names and weights of the operations to draw from; ``mix``, if any, replaces the weights.

    Raises PlanInvalid when the mix names an operation the locustfile has not.
    """
    unknown = sorted(set(mix) - set(operations))
    if unknown:
        raise PlanInvalid(
            f"the mix names {', '.join(unknown)}, which the locustfile does not define",
            hint=f"the operations are: {', '.join(sorted(operations))}",
        )
    weights = {name: float(w) for name, w in (mix or operations).items() if w > 0}
    if not weights:
        raise PlanInvalid("no operation has a share above 0", hint="mix: {download: 1}")
    return list(weights), list(weights.values())


def _chooser(weights: list[float], seed: str) -> Callable[[], int]:
    """Draws numbers from 0 on with these weights."""
    if len(weights) == 1:
        return repeat(0).__next__
    sums = list(accumulate(weights))
    total, last = sums[-1], len(sums) - 1
    draw = random.Random(seed).random
    return lambda: bisect(sums, draw() * total, 0, last)


class Engine:
    """One generator process's traffic: warm-up, schedule, drain, closing of the evidence."""

    def __init__(
        self,
        settings: Settings,
        traffic: Traffic,
        operations: Mapping[str, tuple[float, Takeoff]],
        *,
        poller: Poller,
        clock: Clock,
        tally: Tally,
        marks: Marks,
        replay: Replay | None = None,
        on_finished: Callable[[str, str, float, int, str], None] | None = None,
        begin_at: Callable[[Event], float | None] | None = None,
    ) -> None:
        """``replay``: the recording that says what is sent and when, instead of settings and mix,
        and whose operations these are.

        ``on_finished`` is told of each call: operation, method, latency in seconds, size in
        bytes, error or ``""``. It costs more than the call; None where nobody listens.

        ``begin_at`` is called after the warm-up and returns the wall instant at which the
        schedule begins, None if it shall not; it returns when the event is set. By default
        the schedule begins at once."""
        self.settings = settings
        self.done = Event()
        self._traffic = traffic
        weights = {name: weight for name, (weight, _) in operations.items()}
        self._names, self._weights = choose_weights(weights, settings.mix)
        self._takeoffs = [operations[name][1] for name in self._names]
        #: for flights
        self.origin = traffic.http.origin
        self.timeout_s = settings.timeout_s
        self.now = poller.now
        self._in_flight_limit = settings.in_flight_limit
        #: so many may begin before it must be looked how many are in flight
        self._room = 0
        #: for flights: whether one that is over is followed by the next; see :meth:`follow`
        self.closed = settings.closed > 0
        self._late_max_s = min(LATE_MAX_S, settings.timeout_s / 2)
        self._poller = poller
        self._clock = clock
        self._tally = tally
        self._departures = tally.departures
        #: for flights; see :class:`~harness.load.tally.Tally`
        self.landings = tally.landings
        self._marks = marks
        #: the number of an operation, who served it and its outcome, for flights
        self.key = tally.key
        self._on_finished = on_finished
        self._begin_at = begin_at or (lambda stop: clock.wall_s() + HEAD_START_S)
        #: Nothing of the schedule is sent later than this monotonic instant. For ever, where
        #: nobody else would count what this process left undone.
        self.lease_m = float("inf")
        #: whether the rest of the schedule was left to others; see :meth:`abandon`
        self.left = False
        self._drains = True
        self._replay = replay
        #: the number of the operation of the next arrival
        self._pick = (
            replay.pick
            if replay is not None
            else _chooser(self._weights, f"operations:{settings.seed}:{settings.worker}")
        )
        #: flights without a connection: those that wait for something else
        self.waiting: set[Flight] = set()
        self._stop = Event()
        self._over = Event()
        #: no arrival begins any more; asked once per request, so no event
        self._is_over = False
        #: operation → method of its last request; Locust's statistics go by both
        self.methods: dict[str, str] = {}
        self.started = False
        # Of the schedule, once it runs.
        self._offsets: Iterator[float] = iter(())
        self._next_s: float | None = None
        self._start_m = self._start_t = self._cpu_s = 0.0
        self._ticker: Ticker | None = None
        self._exact = True

    def run(self) -> None:
        """Warm up, send the schedule, wait for what is in flight, close the evidence.

        Raises WarmUpFailed. Call it in a greenlet of its own; :meth:`finish` ends it.
        """
        try:
            self._warm_up()
            if not self._stop.is_set():
                # Looking for garbage among all that Locust and its libraries loaded stops the
                # process for tens of milliseconds, and with it what was due meanwhile.
                gc.collect()
                gc.freeze()
                self._run_schedule()
        finally:
            gc.unfreeze()
            self._traffic.close()
            self._marks.close()
            self._traffic.http.close()
            self.done.set()

    @property
    def was_stopped(self) -> bool:
        """Whether it was ended from outside."""
        return self._stop.is_set()

    def finish(self) -> None:
        """End the schedule now and return when the evidence is closed."""
        self._stop.set()
        self._end_schedule()
        self.done.wait()

    def abandon(self, *, drain: bool) -> None:
        """Stop here and leave the rest of the schedule for others to count; returns at once.

        ``drain`` False: what is in flight is given up as well. The tally is written up and
        left open.
        """
        self.left = True
        self._drains = drain
        self._stop.set()
        self._end_schedule()

    # ---- warm-up ------------------------------------------------------------------------

    def _warm_up(self) -> None:
        settings = self.settings
        # Nothing is measured yet: a query that got lost is made again.
        if not self._traffic.http.name.wait_known(settings.timeout_s):
            raise WarmUpFailed(
                f"warm-up: {self._traffic.http.name.host} has no address",
                hint="is the name right, and is it resolved (HARNESS_DNS)?",
            )
        give_up_m = self._clock.monotonic_s() + settings.warm_up_s
        wanted = self._traffic.warm_up()
        errors: list[str] = []
        pool = Pool(WARM_UP_AT_ONCE)
        pool.map(lambda steps: self._until_done(steps, give_up_m, errors), wanted)
        if not errors and not self._stop.is_set():
            pool.map(lambda s: drive(s, self._perform), list(self._traffic.housekeeping()))
        if errors and not self._stop.is_set():
            raise WarmUpFailed(
                f"warm-up: {len(errors)} of {len(wanted)} objects could not be stored within "
                f"{settings.warm_up_s:g} s; last error: {errors[-1]}",
                hint="is the service up, and is its name resolved (HARNESS_DNS)?",
            )

    def _until_done(
        self, steps: Callable[[], Steps[Outcome]], give_up_m: float, errors: list[str]
    ) -> None:
        """Do one thing again and again until it succeeds or time is up."""
        while not self._stop.is_set():
            result = drive(steps(), self._perform)
            if result.outcome == OK:
                return
            if self._clock.monotonic_s() >= give_up_m:
                errors.append(result.error)
                return
            self._stop.wait(WARM_UP_RETRY_S)

    def _perform(self, ask: Ask) -> Exchange:
        """Send one request of warm-up or housekeeping and wait for its answer."""
        within_s = self.settings.timeout_s if ask.within_s is None else ask.within_s
        deadline_m = self._clock.monotonic_s() + within_s
        return self._traffic.http.perform(ask, deadline_m)

    # ---- schedule -----------------------------------------------------------------------

    def _run_schedule(self) -> None:
        settings = self.settings
        rate = settings.planned.peak / settings.workers
        begin_t = self._begin_at(self._stop)
        if begin_t is None:
            return
        self._start_t = round(begin_t, 6)
        self._start_m = self._clock.monotonic_s() + self._start_t - self._clock.wall_s()
        self._cpu_s = time.process_time()
        self._tally.start(
            worker=settings.worker_name,
            rate=rate,
            arrivals=settings.arrivals,
            seed=settings.seed,
            start_t=self._start_t,
            workers=settings.workers,
            duration_s=settings.duration_s,
            timeout_s=settings.timeout_s,
            mix=dict(zip(self._names, self._weights, strict=True)),
        )
        self.started = True
        helpers = [gevent.spawn(self._flush_often), gevent.spawn(self._keep_house)]
        self._offsets = self._planned_offsets()
        self._ticker = ticker = Ticker(self._poller, self._send_due)
        folder = gevent.get_hub().loop.timer(FOLD_S, FOLD_S, ref=False)
        folder.start(self._tally.fold)
        self._exact = rate <= EXACT_MAX_PER_S
        try:
            if self.closed:
                self._run_closed()
            else:
                self._advance()
                if not self._exact:
                    ticker.every(GRID_S)
            self._over.wait()
            if not self._stop.is_set():
                left_s = self._start_m + (settings.duration_s or 0.0) - self._clock.monotonic_s()
                self._stop.wait(max(0.0, left_s))
        finally:
            ticker.close()
            self._next_s = None
            unfinished = self._drain(helpers)
            folder.stop()
            folder.close()
            if self.left:
                self._tally.flush(self._cpu)
            else:
                self._tally.end(
                    unfinished=unfinished,
                    **self._cpu(),
                    **self._connection_counts(),
                    **self._traffic.about(),
                )

    def _planned_offsets(self) -> Iterator[float]:
        """When this process sends, in seconds from the start."""
        settings = self.settings
        records = self._replay.records if self._replay is not None else None
        return share_s(settings, records, settings.worker, settings.workers)

    def _run_closed(self) -> None:
        """So many at once, each following the last, until time is up."""
        settings = self.settings
        self._stop.wait(max(0.0, self._start_m - self._clock.monotonic_s()))
        for _ in range(settings.closed_share):
            self._begin_next()
        if self.settings.duration_s is not None:
            self._stop.wait(self.settings.duration_s)
            self._end_schedule()

    def _end_schedule(self) -> None:
        self._is_over = True
        self._over.set()

    def _advance(self) -> None:
        """Look at the next arrival, and have the timer go off when it is due."""
        self._next_s = next(self._offsets, None)
        if self._next_s is None:
            self._end_schedule()
        elif self._exact and self._ticker is not None:
            self._ticker.at(self._start_m + self._next_s)

    def _send_due(self) -> None:
        """The timer went off (in the hub): send every arrival whose instant has come."""
        now = self._poller.now
        if self._is_over:
            return
        now_m = now()
        if now_m > self.lease_m:
            self.abandon(drain=False)
            return
        start_m, start_t = self._start_m, self._start_t
        offset_s = self._next_s
        for _ in range(BURST_MAX):
            if offset_s is None or start_m + offset_s > now_m:
                break
            if now_m - start_m - offset_s > self._late_max_s:
                self._too_late(start_t + offset_s)
            else:
                self._arrive(start_t + offset_s, start_m + offset_s, now_m)
            offset_s = next(self._offsets, None)
            now_m = now()
        self._next_s = offset_s
        if offset_s is None:
            self._end_schedule()
        elif self._exact and self._ticker is not None:
            self._ticker.at(start_m + offset_s)

    def _too_late(self, planned_t: float) -> None:
        """Count an arrival that this process is too late for: sent now, it would be other traffic
        than was planned, and half of its time is over."""
        index = self._pick()
        self._tally.planned(planned_t)
        self._tally.not_sent(planned_t, self._names[index], GENERATOR_LATE)

    def _arrive(self, planned_t: float, planned_m: float, now_m: float) -> None:
        """Count an arrival that fell due and send it, unless too much is in flight."""
        pick, room, departures = self._pick, self._room, self._departures
        index = pick()
        if room <= 0:
            room = self._in_flight_limit - self._tally.in_flight
            if room <= 0:
                self._tally.planned(planned_t)
                self._tally.not_sent(planned_t, self._names[index], "too-many-in-flight")
                return
        self._room = room - 1
        flight = self._takeoffs[index](self, planned_t, planned_m)
        flight.sent_m = now_m
        departures.append((planned_t, now_m - planned_m))
        flight.start(now_m)

    # ---- what flights tell --------------------------------------------------------------

    def withdraw(self, flight: Flight, why: str) -> None:
        """There was nothing to send after all."""
        self._tally.withdrawn(flight.planned_t, flight.op, why)

    def _begin_next(self) -> None:
        now_m = self.now()
        if not self._is_over and now_m <= self.lease_m:
            self._arrive(self._start_t + (now_m - self._start_m), now_m, now_m)

    def count(
        self,
        flight: Flight,
        result: Outcome,
        served: tuple[str, str],
        size_bytes: int,
        done_m: float,
        is_write: bool = False,
    ) -> None:
        """It is over: count its outcome."""
        latency_s = done_m - flight.planned_m
        self._tally.done(
            flight.planned_t,
            flight.op,
            served,
            result,
            size_bytes,
            latency_s,
            done_m - flight.sent_m,
        )
        if self.tells(served, result):
            self.tell(flight.op, result, served, size_bytes, latency_s, is_write)
        if self.closed:
            self.follow(result, done_m)

    def tells(self, served: tuple[str, str], result: Outcome) -> bool:
        """Whether somebody wants to be told of each call that ends like this."""
        return self._on_finished is not None or (bool(served[0]) and result[0] == OK)

    def tell(
        self,
        op: str,
        result: Outcome,
        served: tuple[str, str],
        size_bytes: int,
        latency_s: float,
        is_write: bool = False,
    ) -> None:
        """Tell of a call that is over whoever :meth:`tells` that it wants to know."""
        if served[0] and result[0] == OK:
            self._marks.success(self._clock.wall_s(), op, *served, is_write=is_write)
        if self._on_finished is not None:
            self._on_finished(op, self.methods[op], latency_s, size_bytes, result[1])

    def follow(self, result: Outcome, done_m: float) -> None:
        """Closed loop: one is over, so the next begins."""
        if self._is_over:
            return
        if result[0] == OK and done_m <= self.lease_m:
            # At the instant of the answer: a closed loop has no other plan.
            self._arrive(self._start_t + (done_m - self._start_m), done_m, done_m)
        else:
            # From the loop: a failure at once must not follow a failure at once for ever.
            gevent.get_hub().loop.run_callback(self._begin_next)

    def _drain(self, helpers: list[gevent.Greenlet]) -> int:
        """Wait for what is in flight, at most the timeout; how many had to be given up.

        The helpers go on meanwhile (what waits may need a new token), and end before the count:
        a request of theirs is none of the schedule.
        """
        give_up_m = self._clock.monotonic_s() + self.settings.timeout_s + DRAIN_GRACE_S
        while self._tally.in_flight and self._clock.monotonic_s() < give_up_m:
            if not self._drains:
                break
            gevent.sleep(0.01)
        gevent.killall(helpers)
        unfinished = [*self.waiting, *self.origin.owners()]
        for flight in unfinished:
            flight.give_up()
        return len(unfinished)

    # ---- helpers ------------------------------------------------------------------------

    def _flush_often(self) -> None:
        while True:
            gevent.sleep(FLUSH_S - self._clock.wall_s() % FLUSH_S)
            with closing(self._tally.flushing(self._cpu)) as lines:
                for _ in lines:
                    # What fell due meanwhile is sent and what came is read before it goes on. No
                    # sleep of nothing: gevent goes on with those for 5 ms before it looks.
                    gevent.sleep(PAUSE_S)

    def _cpu(self) -> dict[str, float]:
        """Processor seconds of this process since the last line that told them."""
        before_s, self._cpu_s = self._cpu_s, time.process_time()
        return {"cpu_s": round(self._cpu_s - before_s, 6)}

    def _keep_house(self) -> None:
        while True:
            gevent.sleep(1.0)
            for steps in self._traffic.housekeeping():
                drive(steps, self._perform)

    def _connection_counts(self) -> dict[str, Any]:
        return {"connections": vars(self._traffic.http.counts).copy()}
