"""What becomes of one arrival, by how its operation is written.

Three kinds, from the cheapest: a declared request, the steps of a generator, a plain Locust
task in a greenlet of its own. Each counts its outcome once, from its planned instant.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import gevent

from harness.load.declare import Bound
from harness.load.outcome import DEGRADED, FAILED, OK, UNSURE, Outcome
from harness.load.steps import Ask, Pending, Steps
from harness.load.wire.client import NOBODY, Exchange, degraded_to, served_by, taker_for
from harness.load.wire.connection import Connection
from harness.load.wire.message import Head
from harness.load.wire.origin import NoConnection

if TYPE_CHECKING:
    from harness.load.engine import Engine

log = logging.getLogger(__name__)

_SUCCESS = Outcome(OK)
_WRONG_LENGTH = Outcome(FAILED, "wrong-length")
#: Outcomes by status, made once each.
_statuses: dict[int, Outcome] = {}


class NothingToSend(Exception):
    """The operation has nothing to work on (no object to delete, say)."""


class Flight(Protocol):
    """One arrival on its way."""

    op: str
    planned_t: float
    planned_m: float
    sent_m: float

    def start(self, now_m: float) -> None:
        """Send it, in the hub, at this monotonic instant."""

    def give_up(self) -> None:
        """The run is over: count it as unfinished and let go of what it holds."""


class DeclaredFlight:
    """One declared request; used again for another when it is over."""

    __slots__ = (
        "ask",
        "connection",
        "engine",
        "hangar",
        "head",
        "is_told",
        "key",
        "op",
        "outcome",
        "planned_m",
        "planned_t",
        "sent_m",
        "served",
    )

    def __init__(self, engine: Engine, op: str, ask: Bound, hangar: list[DeclaredFlight]) -> None:
        self.engine = engine
        engine.methods[op] = ask.method
        self.op = op
        self.ask = ask
        self.hangar = hangar
        self.planned_t = self.planned_m = self.sent_m = 0.0
        self.connection: Connection | None = None
        #: The last head of known length, and what it means: the same head means the same.
        self.head: Head | None = None
        self.outcome = _SUCCESS
        self.served = NOBODY
        self.key = -1
        self.is_told = False

    def start(self, now_m: float) -> None:
        engine = self.engine
        try:
            engine.origin.begin(self, self.ask, None, self.planned_m + engine.timeout_s, now_m)
        except NoConnection as failure:
            self._count(Outcome(FAILED, failure.name))

    def finished(self, connection: Connection) -> None:
        self.connection = None
        if connection.error:
            self._failed(connection)
            return
        if connection.head is not self.head:
            self._judge(connection)
        # What Engine.count does, written out: this is done once per request.
        engine = self.engine
        planned_m, sent_m, done_m = self.planned_m, self.sent_m, connection.done_m
        size_bytes = connection.received_bytes + self.ask.size_bytes
        latency_s = done_m - planned_m
        service_s = latency_s if sent_m is planned_m else done_m - sent_m
        engine.landings.append((self.planned_t, self.key, size_bytes, latency_s, service_s))
        if self.is_told:
            engine.tell(self.op, self.outcome, self.served, size_bytes, latency_s)
        self.hangar.append(self)
        if engine.closed:
            engine.follow(self.outcome, done_m)

    def _judge(self, connection: Connection) -> None:
        """Say what an answer means."""
        ask, head = self.ask, connection.head
        assert head is not None
        self.head = head if head.length >= 0 else None
        self.served = served_by(head)
        if head.status not in ask.expect:
            self.outcome = _of_status(head.status)
        elif degraded_to(head):
            self.outcome = Outcome(DEGRADED, degraded_to(head))
        elif ask.length is not None and ask.length != connection.body_bytes:
            self.outcome = _WRONG_LENGTH
        else:
            self.outcome = _SUCCESS
        self.key = self.engine.key(self.op, self.served, self.outcome)
        self.is_told = self.engine.tells(self.served, self.outcome)

    def _failed(self, connection: Connection) -> None:
        sure = self.ask.method == "GET" or not connection.sent
        self.engine.count(
            self,
            Outcome(FAILED if sure else UNSURE, connection.error),
            served_by(connection.head) if connection.head is not None else NOBODY,
            connection.received_bytes + self.ask.size_bytes,
            connection.done_m,
        )
        self.hangar.append(self)

    def give_up(self) -> None:
        if self.connection is not None:
            self.connection.abandon()
        name = FAILED if self.ask.method == "GET" else UNSURE
        self._count(Outcome(name, "unfinished"))

    def _count(self, result: Outcome) -> None:
        engine = self.engine
        engine.count(self, result, NOBODY, self.ask.size_bytes, engine.now())


def _of_status(status: int) -> Outcome:
    found = _statuses.get(status)
    if found is None:
        found = _statuses[status] = Outcome(FAILED, f"status-{status}")
    return found


class Call(Protocol):
    """What the steps of an operation work with."""

    exchange: Exchange
    method: str
    bytes_sent: int

    def unfinished(self) -> Outcome: ...


class StepsFlight:
    """One operation written as steps."""

    __slots__ = (
        "call",
        "connection",
        "engine",
        "op",
        "planned_m",
        "planned_t",
        "sent_m",
        "steps",
        "taker",
    )

    def __init__(
        self,
        engine: Engine,
        op: str,
        call: Call,
        steps: Steps[Outcome],
        planned_t: float,
        planned_m: float,
    ) -> None:
        self.engine = engine
        self.op = op
        self.call = call
        self.steps = steps
        self.planned_t = planned_t
        self.planned_m = planned_m
        self.sent_m = 0.0
        self.connection: Connection | None = None
        self.taker: Any = None

    def start(self, now_m: float) -> None:
        self._go_on(None)

    def finished(self, connection: Connection) -> None:
        exchange = Exchange.on(connection, self.taker)
        self.connection = None
        self._go_on(exchange)

    def give_up(self) -> None:
        self.engine.waiting.discard(self)
        if self.connection is not None:
            self.connection.abandon()
        self._count(self.call.unfinished())
        self.steps.close()

    def _go_on(self, exchange: Exchange | None) -> None:
        """Let the operation go on with an answer, until it waits again or is over."""
        while True:
            try:
                wanted = self.steps.send(exchange)  # type: ignore[arg-type]
            except StopIteration as stop:
                self._count(stop.value or Outcome(FAILED, "no-outcome"))
                return
            except NothingToSend as nothing:
                self.engine.withdraw(self, str(nothing))
                return
            except Exception as error:
                log.exception("operation %s raised", self.op)
                self._count(Outcome(FAILED, f"exception-{type(error).__name__}"))
                return
            if isinstance(wanted, Pending):
                self.engine.waiting.add(self)
                wanted.then(self._go_on_if_there)
                return
            failure = self._begin(wanted)
            if not failure:
                return
            exchange = Exchange(failure)

    def _go_on_if_there(self) -> None:
        if self in self.engine.waiting:
            self.engine.waiting.discard(self)
            self._go_on(None)

    def _begin(self, ask: Ask) -> str:
        """Send what the operation asks for; why that cannot even be begun, else ``""``."""
        self.taker = taker = taker_for(ask.take)
        now_m = self.engine.now()
        deadline_m = self.planned_m + self.engine.timeout_s
        if ask.within_s is not None:
            deadline_m = min(deadline_m, now_m + ask.within_s)
        sink = taker.take if taker is not None else None
        try:
            self.engine.origin.begin(self, ask, sink, deadline_m, now_m)
        except NoConnection as failure:
            return failure.name
        return ""

    def _count(self, result: Outcome) -> None:
        call = self.call
        engine, exchange = self.engine, call.exchange
        size_bytes = max(0, exchange.size_bytes) + call.bytes_sent
        engine.methods[self.op] = call.method
        is_write = call.method == "PUT"
        if exchange.degraded and result.outcome == OK and not is_write:
            result = Outcome(DEGRADED, exchange.degraded)
        engine.count(self, result, exchange.served, size_bytes, engine.now(), is_write)


class TaskFlight:
    """One plain Locust task, in a greenlet of its own.

    ``run`` does it and returns the outcome; what it raises is a failure.
    """

    __slots__ = ("engine", "greenlet", "op", "planned_m", "planned_t", "run", "sent_m")

    def __init__(
        self,
        engine: Engine,
        op: str,
        run: Callable[[], Outcome],
        planned_t: float,
        planned_m: float,
    ) -> None:
        self.engine = engine
        self.op = op
        self.run = run
        engine.methods[op] = "TASK"
        self.planned_t = planned_t
        self.planned_m = planned_m
        self.sent_m = 0.0
        self.greenlet: Any = None

    def start(self, now_m: float) -> None:
        self.engine.waiting.add(self)
        self.greenlet = gevent.spawn(self._work)

    def give_up(self) -> None:
        self.engine.waiting.discard(self)
        self.engine.count(self, Outcome(UNSURE, "unfinished"), NOBODY, 0, self.engine.now())
        self.greenlet.kill(block=False)

    def _work(self) -> None:
        try:
            result = self.run()
        except Exception as error:
            log.exception("task %s raised", self.op)
            result = Outcome(FAILED, f"exception-{type(error).__name__}")
        if self in self.engine.waiting:
            self.engine.waiting.discard(self)
            self.engine.count(self, result, NOBODY, 0, self.engine.now())
