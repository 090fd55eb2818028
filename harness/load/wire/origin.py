"""The connections to one service: where it is, how long each may live, how many there are.

The newest idle connection is used first, so that few stay busy and the rest can age. A name
is asked for again when its answer expires, by a greenlet of its own: nobody who sends
waits for DNS, and a connection to an address that the name no longer has is closed.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gevent
import gevent.event

from harness.load.resolver import ResolveError, Resolver, is_address
from harness.load.wire.ask import Ask
from harness.load.wire.connection import DROP_BYTES, IDLE, Connection, Owner, Sink, name_of
from harness.load.wire.poller import Poller

#: After a failed look-up with nothing to go on with, it is tried again this much later.
RETRY_S = 0.5


@dataclass(frozen=True)
class Limits:
    """Deadlines and the life of connections, in seconds.

    ``first_byte_s`` None: only the exchange's own deadline counts. A connection is closed
    when it is ``max_age_s`` old (each a little earlier than the next, so that they are not all
    renewed at once) and not busy.
    """

    connect_s: float = 2.0
    first_byte_s: float | None = None
    max_age_s: float = 10.0
    max_connections: int = 10_000
    body_max_bytes: int = DROP_BYTES


@dataclass
class Counts:
    """What happened to connections. ``reconnects``: requests begun again on a new connection
    because a kept one had ended before any byte of the answer."""

    connections: int = 0
    reused: int = 0
    reconnects: int = 0
    aged_out: int = 0
    dropped_by_dns: int = 0
    unasked: int = 0


class NoConnection(Exception):
    """A request could not be begun; ``name`` says why (:data:`message.ERRORS`)."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Name:
    """The addresses of a host, asked for again whenever their time is over.

    One greenlet per name, however many connections use it; none for an address. Those in
    ``changed`` are called (in that greenlet) when the addresses have become other ones.
    """

    def __init__(self, resolver: Resolver, host: str, now: Callable[[], float]) -> None:
        self.host = host
        self.addresses: tuple[str, ...] = (host,) if is_address(host) else ()
        self.changed: list[Callable[[], None]] = []
        self._resolver = resolver
        self._now = now
        self._keeper: Any = None
        self._asked = gevent.event.Event()
        self._known = gevent.event.Event()

    def wait(self, timeout_s: float) -> bool:
        """Whether there is an address to go to; before the first answer, wait for it."""
        if not self.addresses:
            self._start()
            self._asked.wait(max(0.0, timeout_s))
        return bool(self.addresses)

    def wait_known(self, timeout_s: float) -> bool:
        """Whether there is an address in time, however many times it has to be asked for."""
        if not self.addresses:
            self._start()
            self._known.wait(max(0.0, timeout_s))
        return bool(self.addresses)

    def close(self) -> None:
        """Ask no more."""
        if self._keeper is not None:
            self._keeper.kill(block=False)

    def _start(self) -> None:
        if self._keeper is None:
            self._keeper = gevent.spawn(self._keep_fresh)

    def _keep_fresh(self) -> None:
        while True:
            try:
                answer = self._resolver.answer(self.host)
                addresses, again_m = answer.addresses, answer.expires_m
            except ResolveError:
                addresses, again_m = (), 0.0
            if addresses != self.addresses:
                self.addresses = addresses
                for tell in self.changed:
                    tell()
            if addresses:
                self._known.set()
            self._asked.set()
            # An answer kept beyond its time, or none at all: try again before long.
            gevent.sleep(max(RETRY_S if again_m <= self._now() else 0.0, again_m - self._now()))


class Origin:
    """Connections to one scheme, host and port, through one poller."""

    def __init__(
        self,
        poller: Poller,
        name: Name,
        port: int,
        limits: Limits,
        counts: Counts,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self._connections: set[Connection] = set()
        self._poller = poller
        self._port = port
        self._limits = limits
        self._counts = counts
        self._tls = tls
        self._server_name = name.host if tls is not None else None
        self._idle: list[Connection] = []
        self._closed = False
        self._turn = 0
        name.changed.append(self._forget_unlisted)

    def begin(
        self,
        owner: Owner,
        ask: Ask,
        sink: Sink | None,
        deadline_m: float,
        now_m: float,
    ) -> None:
        """Send a request on an idle connection, else on a new one. Raises NoConnection.

        It may be over, and its owner told, before this returns.
        """
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.state != IDLE:
                continue  # closed by its peer meanwhile
            if connection.expires_m <= now_m:
                self._counts.aged_out += 1
                connection.close()
                continue
            self._counts.reused += 1
            break
        else:
            connection = self._open()
        owner.connection = connection
        connection.begin(owner, ask, sink, deadline_m, now_m)

    @property
    def size(self) -> int:
        """How many connections there are, those being made included."""
        return len(self._connections)

    def owners(self) -> list[Any]:
        """Whoever waits for an answer on one of the connections."""
        return [c.owner for c in self._connections if c.owner is not None]

    def close(self) -> None:
        """Close every idle connection, and begin none again."""
        self._closed = True
        for connection in self._connections:
            connection.pool = None
        idle = self._idle.copy()
        self._idle.clear()
        for connection in idle:
            connection.close()
        with contextlib.suppress(ValueError):
            self.name.changed.remove(self._forget_unlisted)

    # ---- what connections tell ---------------------------------------------------------

    def idle(self, connection: Connection) -> None:
        if self._closed:
            connection.close()
        elif connection.address[0] in self.name.addresses:
            connection.pool = self._idle
            self._idle.append(connection)
        else:
            self._counts.dropped_by_dns += 1
            connection.close()

    def gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection.error == "unasked":
            self._counts.unasked += 1

    def again(self, connection: Connection, error: str) -> bool:
        """Begin its request on a new connection: another address, or a kept one had ended."""
        owner = connection.owner
        tried = connection.tried | {connection.address[0]} if not connection.sent else frozenset()
        left = [a for a in self.name.addresses if a not in tried]
        if owner is None or not left or self._poller.now() >= connection.whole_m:
            return False
        self._connections.discard(connection)  # it is closed, and its place may be needed
        try:
            new = self._open(left)
        except NoConnection:
            return False
        if connection.sent:
            self._counts.reconnects += 1
        new.tried = tried
        new.sent_elsewhere = connection.sent or connection.sent_elsewhere
        owner.connection = new
        now_m = self._poller.now()
        new.begin(owner, connection.ask, connection.sink, connection.whole_m, now_m)
        return True

    # ---- opening and closing ---------------------------------------------------------------

    def _open(self, among: Sequence[str] = ()) -> Connection:
        addresses = among or self.name.addresses
        if not addresses:
            raise NoConnection("dns")
        if len(self._connections) >= self._limits.max_connections:
            raise NoConnection("no-connection")
        self._turn += 1
        address = addresses[self._turn % len(addresses)]
        # The golden ratio spreads the ends of connections made together evenly.
        age_s = self._limits.max_age_s * (1.0 - 0.1 * (self._turn * 0.618034 % 1.0))
        try:
            connection = Connection(
                self._poller,
                self,
                (address, self._port),
                expires_m=self._poller.now() + age_s,
                pool=None if self._closed else self._idle,
                connect_s=self._limits.connect_s,
                first_byte_s=self._limits.first_byte_s,
                tls=self._tls,
                server_name=self._server_name,
                body_max_bytes=self._limits.body_max_bytes,
            )
        except OSError as error:
            raise NoConnection(name_of(error)) from error
        self._connections.add(connection)
        self._counts.connections += 1
        return connection

    def _forget_unlisted(self) -> None:
        listed = self.name.addresses
        for connection in self._connections:
            if connection.address[0] not in listed:
                connection.pool = None  # the next time it is idle it is closed
        dropped = [c for c in self._idle if c.pool is None]
        self._idle[:] = [c for c in self._idle if c.pool is not None]
        self._counts.dropped_by_dns += len(dropped)
        for connection in dropped:
            connection.close()
