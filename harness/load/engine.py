"""The open loop: arrivals leave at their planned instants, whatever the answers do.

A timer of the kernel goes off when arrivals are due and they are sent from there, in the
hub, without a greenlet or thread for any of them; the answers come back as events. A slow
service meets the same traffic as a fast one. When too many requests are in flight an
arrival is *not sent*, and counted so. Latency runs from the planned instant: the time an
arrival spent waiting for its turn is part of what its user felt.

Runs inside Locust (gevent); nothing here imports Locust.
"""

from __future__ import annotations

import logging
import random
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Pool

from harness.clock import Clock
from harness.errors import HarnessError, PlanInvalid
from harness.load import content
from harness.load.arrivals import Schedule
from harness.load.marks import Marks
from harness.load.outcome import FAILED, OK, Outcome
from harness.load.settings import Settings
from harness.load.steps import Ask, Pending, Steps, drive
from harness.load.tally import Tally
from harness.load.wire.client import Exchange, taker_for
from harness.load.wire.connection import Connection
from harness.load.wire.origin import NoConnection
from harness.load.wire.poller import Poller, Ticker
from harness.load.workload import Call, NothingToSend, Workload

log = logging.getLogger(__name__)

FLUSH_S = 1.0
#: Beyond the timeout, for answers that arrive in the last moment to be counted.
DRAIN_GRACE_S = 0.5
WARM_UP_AT_ONCE = 4
WARM_UP_RETRY_S = 0.5
#: Above this rate a process wakes up on a grid and sends what is due: at high rates it is
#: waking up that costs, and the grid is as fine as a timer of most systems.
EXACT_MAX_PER_S = 2000.0
GRID_S = 0.0005

Operation = Callable[[Call], Steps[Outcome]]


@dataclass(frozen=True)
class Finished:
    """One finished call, for whoever listens (Locust's own statistics)."""

    op: str
    method: str
    latency_s: float
    size_bytes: int
    error: str


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


class _Flight:
    """One arrival on its way: the steps of its operation, and the exchange it waits for."""

    __slots__ = (
        "call",
        "connection",
        "engine",
        "exchange",
        "op",
        "planned_m",
        "sent_m",
        "steps",
        "taker",
    )

    def __init__(
        self, engine: Engine, op: str, call: Call, steps: Steps[Outcome], planned_m: float
    ) -> None:
        self.engine = engine
        self.op = op
        self.call = call
        self.steps = steps
        self.planned_m = planned_m
        self.sent_m = 0.0
        self.connection: Connection | None = None
        self.taker: Any = None

    def finished(self, connection: Connection) -> None:
        exchange = Exchange()
        exchange.read(connection, self.taker)
        connection.release()
        self.connection = None
        self.engine.answered(self, exchange)

    def moved(self, connection: Connection) -> None:
        self.connection = connection


class Engine:
    """One generator process's traffic: warm-up, schedule, drain, closing of the evidence."""

    def __init__(
        self,
        settings: Settings,
        workload: Workload,
        operations: Mapping[str, tuple[float, Operation]],
        *,
        poller: Poller,
        clock: Clock,
        tally: Tally,
        marks: Marks,
        on_finished: Callable[[Finished], None] = lambda finished: None,
    ) -> None:
        self.settings = settings
        self.done = Event()
        self._workload = workload
        self._operations = {name: op for name, (_, op) in operations.items()}
        weights = {name: weight for name, (weight, _) in operations.items()}
        self._names, self._weights = choose_weights(weights, settings.mix)
        self._sums = list(accumulate(self._weights))
        self._in_flight_limit = settings.in_flight_limit
        self._poller = poller
        self._clock = clock
        self._tally = tally
        self._marks = marks
        self._on_finished = on_finished
        self._choice = random.Random(f"operations:{settings.seed}:{settings.worker}").random
        self._flights: set[_Flight] = set()
        self._stop = Event()
        self._over = Event()
        self.started = False
        # Of the schedule, once it runs.
        self._offsets: Iterator[float] = iter(())
        self._next_s: float | None = None
        self._start_m = self._start_t = 0.0
        self._ticker: Ticker | None = None
        self._exact = True

    def run(self) -> None:
        """Warm up, send the schedule, wait for what is in flight, close the evidence.

        Raises WarmUpFailed. Call it in a greenlet of its own; :meth:`finish` ends it.
        """
        try:
            self._warm_up()
            if not self._stop.is_set():
                self._run_schedule()
        finally:
            self._workload.ledger.close()
            self._marks.close()
            self._workload.http.close()
            self.done.set()

    def finish(self) -> None:
        """End the schedule now and return when the evidence is closed."""
        self._stop.set()
        self._over.set()
        self.done.wait()

    # ---- warm-up ------------------------------------------------------------------------

    def _warm_up(self) -> None:
        settings = self.settings
        workers = settings.workers
        files = -(-settings.warm_up_files // workers)
        images = -(-settings.warm_up_images // workers)
        give_up_m = self._clock.monotonic_s() + settings.warm_up_s
        wanted = ["upload"] * files + ["image"] * images
        errors: list[str] = []
        pool = Pool(WARM_UP_AT_ONCE)
        pool.map(lambda op: self._store(op, give_up_m, errors), wanted)
        if not errors and not self._stop.is_set():
            pool.map(lambda user: drive(user.renew_if_due(), self._perform), self._workload.users)
        if errors and not self._stop.is_set():
            raise WarmUpFailed(
                f"warm-up: {len(errors)} of {len(wanted)} objects could not be stored within "
                f"{settings.warm_up_s:g} s; last error: {errors[-1]}",
                hint="is the service up, and is its name resolved (HARNESS_DNS)?",
            )

    def _store(self, op: str, give_up_m: float, errors: list[str]) -> None:
        """Upload one object, again and again until it is acknowledged or time is up."""
        while not self._stop.is_set():
            is_image = op == "image"
            object_id, body = self._workload.new_image() if is_image else self._workload.new_file()
            call = self._workload.call(self._clock.wall_s())
            kind = content.IMAGE_TYPE if is_image else content.FILE_TYPE
            steps = call.upload(object_id, body, op=op, content_type=kind)
            result = drive(steps, self._perform)
            if result.outcome == OK:
                return
            if self._clock.monotonic_s() >= give_up_m:
                errors.append(result.error)
                return
            self._stop.wait(WARM_UP_RETRY_S)

    def _perform(self, ask: Ask) -> Exchange:
        """Send one request of warm-up or housekeeping and wait for its answer."""
        deadline_m = self._clock.monotonic_s() + self.settings.timeout_s
        return self._workload.http.perform(
            ask.request, ask.body, ask.take, deadline_m, head_only=ask.head_only, again=ask.again
        )

    # ---- schedule -----------------------------------------------------------------------

    def _run_schedule(self) -> None:
        settings = self.settings
        curve = settings.planned
        schedule = Schedule(curve, settings.arrivals, settings.seed, settings.duration_s)
        rate = curve.peak / settings.workers
        # Some milliseconds of head start: the first arrival can be on time too.
        self._start_m = self._clock.monotonic_s() + 0.02
        self._start_t = round(self._clock.wall_s() + 0.02, 6)
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
        helpers = [gevent.spawn(self._flush_often), gevent.spawn(self._renew_tokens)]
        self._offsets = schedule.share_s(settings.worker, settings.workers)
        self._ticker = ticker = Ticker(self._poller, self._send_due)
        self._exact = rate <= EXACT_MAX_PER_S
        try:
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
            unfinished = self._drain()
            gevent.killall(helpers)
            self._tally.end(unfinished=unfinished, **self._connection_counts())

    def _advance(self) -> None:
        """Look at the next arrival, and have the timer go off when it is due."""
        self._next_s = next(self._offsets, None)
        if self._next_s is None:
            self._over.set()
        elif self._exact and self._ticker is not None:
            self._ticker.at(self._start_m + self._next_s)

    def _send_due(self) -> None:
        """The timer went off (in the hub): send every arrival whose instant has come."""
        if self._stop.is_set():
            return
        now = self._poller.now
        start_m, start_t = self._start_m, self._start_t
        offset_s = self._next_s
        while offset_s is not None and start_m + offset_s <= now():
            self._arrive(start_t + offset_s, start_m + offset_s)
            offset_s = next(self._offsets, None)
        self._next_s = offset_s
        if offset_s is None:
            self._over.set()
        elif self._exact and self._ticker is not None:
            self._ticker.at(start_m + offset_s)

    def _arrive(self, planned_t: float, planned_m: float) -> None:
        """Count an arrival that fell due and send it, unless too much is in flight."""
        index = bisect(self._sums, self._choice() * self._sums[-1])
        op = self._names[min(index, len(self._names) - 1)]
        self._tally.planned(planned_t)
        if len(self._flights) >= self._in_flight_limit:
            self._tally.not_sent(planned_t, op, "too-many-in-flight")
            return
        call = self._workload.call(planned_t)
        flight = _Flight(self, op, call, self._operations[op](call), planned_m)
        self._tally.sent()
        flight.sent_m = sent_m = self._poller.now()
        self._tally.late(sent_m - planned_m)
        self._flights.add(flight)
        self._go_on(flight, None)

    # ---- one arrival --------------------------------------------------------------------

    def answered(self, flight: _Flight, exchange: Exchange) -> None:
        """The exchange a flight waited for is over (in the hub)."""
        if flight in self._flights:
            self._go_on(flight, exchange)

    def _go_on(self, flight: _Flight, exchange: Exchange | None) -> None:
        """Let the operation go on with an answer, until it waits again or is over."""
        while True:
            try:
                wanted = flight.steps.send(exchange)  # type: ignore[arg-type]
            except StopIteration as stop:
                self._count(flight, stop.value or Outcome(FAILED, "no-outcome"))
                return
            except NothingToSend as nothing:
                self._flights.discard(flight)
                self._tally.withdrawn(flight.call.planned_t, flight.op, str(nothing))
                return
            except Exception as error:
                log.exception("operation %s raised", flight.op)
                self._count(flight, Outcome(FAILED, f"exception-{type(error).__name__}"))
                return
            if isinstance(wanted, Pending):
                wanted.then(lambda: self._go_on_if_there(flight))
                return
            failure = self._begin(flight, wanted)
            if not failure:
                return
            exchange = Exchange(failure)

    def _go_on_if_there(self, flight: _Flight) -> None:
        if flight in self._flights:
            self._go_on(flight, None)

    def _begin(self, flight: _Flight, ask: Ask) -> str:
        """Send what the operation asks for; why that cannot even be begun, else ``""``."""
        flight.taker = taker = taker_for(ask.take)
        try:
            flight.connection = self._workload.http.origin.begin(
                flight,
                ask.request,
                ask.body,
                taker.take if taker is not None else None,
                flight.planned_m + self.settings.timeout_s,
                head_only=ask.head_only,
                again=ask.again,
            )
        except NoConnection as failure:
            return failure.name
        return ""

    def _count(self, flight: _Flight, result: Outcome) -> None:
        self._flights.discard(flight)
        call = flight.call
        now_m = self._poller.now()
        latency_s = now_m - flight.planned_m
        exchange = call.exchange
        size_bytes = max(0, exchange.size_bytes) + call.bytes_sent
        served = exchange.served
        self._tally.done(
            call.planned_t,
            flight.op,
            served,
            result,
            size_bytes=size_bytes,
            latency_s=latency_s,
            service_s=now_m - flight.sent_m,
        )
        if result.outcome == OK:
            self._marks.success(
                self._clock.wall_s(), flight.op, *served, is_write=call.method == "PUT"
            )
        self._on_finished(Finished(flight.op, call.method, latency_s, size_bytes, result.error))

    def _drain(self) -> int:
        """Wait for what is in flight, at most the timeout; how many had to be given up."""
        give_up_m = self._clock.monotonic_s() + self.settings.timeout_s + DRAIN_GRACE_S
        while self._flights and self._clock.monotonic_s() < give_up_m:
            gevent.sleep(0.01)
        unfinished = list(self._flights)
        for flight in unfinished:
            if flight.connection is not None:
                flight.connection.abandon()
            self._count(flight, flight.call.unfinished())
            flight.steps.close()
        return len(unfinished)

    # ---- helpers ------------------------------------------------------------------------

    def _flush_often(self) -> None:
        while True:
            gevent.sleep(FLUSH_S - self._clock.wall_s() % FLUSH_S)
            self._tally.flush()

    def _renew_tokens(self) -> None:
        while True:
            gevent.sleep(1.0)
            for user in self._workload.users:
                drive(user.renew_if_due(), self._perform)

    def _connection_counts(self) -> dict[str, Any]:
        return {"connections": vars(self._workload.http.counts).copy()}
