"""Requests for code that waits for its answer: one greenlet, one exchange at a time.

Failures are data (:attr:`Exchange.error`), never exceptions.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Iterable, Mapping
from typing import Protocol
from urllib.parse import urlsplit

import gevent
from greenlet import getcurrent

from harness.evidence.model import EDGE
from harness.load.resolver import Resolver
from harness.load.wire.ask import HASH, KEEP, Ask
from harness.load.wire.connection import Connection
from harness.load.wire.message import Head, headers_of, request_bytes
from harness.load.wire.origin import Counts, Limits, Name, NoConnection, Origin
from harness.load.wire.poller import Poller
from harness.load.wire.tls import strict
from harness.load.wire.upload import Body

#: Headers by which the service says who served, and that it is less than what was asked for.
_SAID = re.compile(
    rb"\r\nx-(served-region|served-zone|cache|degraded):[ \t]*([^\r\n]*)", re.IGNORECASE
)
#: What a degraded answer is, as a name; of anything else that stands there only that it is one.
_KIND = re.compile(rb"[a-z][a-z0-9-]{0,31}", re.IGNORECASE)
NOBODY = ("", "")
#: ``((region, zone), what it is instead or "")``
Note = tuple[tuple[str, str], str]


class Exchange:
    """What became of one request.

    ``error`` is empty when a whole answer was read, whatever its status. ``sent`` says
    whether any byte of the request may have reached the service: if not, the operation surely
    did not happen. ``body`` is the answer's body where it was kept; of one that was hashed,
    its first KiB; ``dropped`` says that nobody saw it. ``size_bytes`` is the size of the body
    in any case (-1 where it is not known). ``sent_m``, ``first_m``, ``done_m`` are monotonic
    seconds, 0.0 where it did not come to that.
    """

    __slots__ = (
        "_headers",
        "_sha256",
        "address",
        "body",
        "done_m",
        "dropped",
        "error",
        "first_m",
        "head",
        "received_bytes",
        "sent",
        "sent_m",
        "size_bytes",
        "status",
    )

    def __init__(self, error: str = "") -> None:
        self.error = error
        self.status = 0
        self.head: Head | None = None
        self.body = b""
        self.size_bytes = 0
        self.dropped = False
        self.sent = False
        self.address = ""
        self.received_bytes = 0
        self.sent_m = self.first_m = self.done_m = 0.0
        self._headers: dict[str, str] | None = None
        self._sha256 = ""

    @classmethod
    def on(cls, connection: Connection, taker: Taker | None) -> Exchange:
        """The one that is over on ``connection``, which may then be released."""
        self = cls.__new__(cls)
        self.error = connection.error
        self.head = head = connection.head
        self.status = head.status if head is not None else 0
        if taker is None:
            self.body, self.size_bytes, self._sha256 = b"", connection.body_bytes, ""
            self.dropped = True
        else:
            self.body, self.size_bytes, self._sha256 = taker.result()
            self.dropped = False
        self.sent = connection.sent
        self.address = connection.address[0]
        self.received_bytes = connection.received_bytes
        self.sent_m = connection.sent_m
        self.first_m = connection.first_m
        self.done_m = connection.done_m
        self._headers = None
        return self

    @property
    def headers(self) -> dict[str, str]:
        """Headers by lower-case name; of several the last."""
        if self._headers is None:
            self._headers = headers_of(self.head.raw) if self.head is not None else {}
        return self._headers

    def header(self, name: str) -> str:
        """The header ``name`` (lower case), or ``""``."""
        return self.headers.get(name, "")

    @property
    def served(self) -> tuple[str, str]:
        """``(region, zone)`` that say they served this, ``""`` where nothing does."""
        return served_by(self.head) if self.head is not None else NOBODY

    @property
    def degraded(self) -> str:
        """What the service says this is instead of what was asked for (``stale``,
        ``placeholder``); ``""`` where it says nothing of that kind."""
        return degraded_to(self.head) if self.head is not None else ""

    @property
    def sha256(self) -> str:
        """SHA-256 of the body in hex, where it was kept or hashed."""
        if not self._sha256:
            self._sha256 = hashlib.sha256(self.body).hexdigest()
        return self._sha256


def served_by(head: Head) -> tuple[str, str]:
    """``(region, zone)`` in the head of an answer; looked for once per head."""
    note: Note = head.note or _look(head)
    return note[0]


def degraded_to(head: Head) -> str:
    """What the head of an answer says it is instead of what was asked for."""
    note: Note = head.note or _look(head)
    return note[1]


def _look(head: Head) -> Note:
    found = {name.lower(): value.strip() for name, value in _SAID.findall(head.raw)}
    region, zone = found.get(b"served-region", b""), found.get(b"served-zone", b"")
    served = (region.decode("latin-1"), zone.decode("latin-1"))
    if found.get(b"cache", b"").lower().startswith(b"hit"):
        # A CDN answered by itself: who else the head says is of long ago.
        served = (EDGE, "")
    said = found.get(b"degraded", b"")
    kind = _KIND.match(said)
    degraded = kind[0].decode().lower() if kind else "degraded" if said else ""
    head.note = note = (served, degraded)
    return note


class Taker(Protocol):
    """Takes the pieces of a body, and says in the end what became of it."""

    def take(self, piece: memoryview) -> object: ...

    def result(self) -> tuple[bytes, int, str]:
        """``(body or what is kept of it, its size, its SHA-256 or "")``."""


class Keeping:
    """Keeps the body."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def take(self, piece: memoryview) -> None:
        self._pieces.append(piece.tobytes())

    def result(self) -> tuple[bytes, int, str]:
        body = b"".join(self._pieces)  # of one piece, that piece
        return body, len(body), ""


class Hashing:
    """Hashes the body and keeps its beginning, in case it is a message and not a file."""

    __slots__ = ("_hash", "_size_bytes", "_start")

    START_BYTES = 1024

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        self._start = b""

    def take(self, piece: memoryview) -> None:
        self._hash.update(piece)
        self._size_bytes += len(piece)
        if len(self._start) < self.START_BYTES:
            self._start += piece[: self.START_BYTES - len(self._start)].tobytes()

    def result(self) -> tuple[bytes, int, str]:
        return self._start, self._size_bytes, self._hash.hexdigest()


def taker_for(take: int) -> Taker | None:
    """A taker for one of :data:`DROP`, :data:`KEEP`, :data:`HASH`."""
    if take == KEEP:
        return Keeping()
    return Hashing() if take == HASH else None


class _Waiting:
    """A greenlet that waits for its exchange."""

    __slots__ = ("connection", "exchange", "greenlet", "taker")

    def __init__(self, taker: Taker | None) -> None:
        self.exchange: Exchange | None = None
        self.taker = taker
        self.greenlet = getcurrent()
        self.connection: Connection | None = None

    def finished(self, connection: Connection) -> None:
        self.exchange = Exchange.on(connection, self.taker)
        self.connection = None
        if self.greenlet is not getcurrent():
            self.greenlet.switch()


class HttpClient:
    """Requests to one base URL (``http://host:port`` or https), on kept connections.

    For many greenlets of one thread.
    """

    def __init__(
        self,
        base_url: str,
        resolver: Resolver,
        *,
        poller: Poller,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        name: Name | None = None,
    ) -> None:
        """``name``: one that several clients share, so that it is asked for once.

        Raises ValueError for what is not an http or https address.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url!r} is not an http:// or https:// address")
        self.counts = Counts()
        self.now = poller.now
        self._host_header = parts.netloc.rpartition("@")[2]
        self._prefix = parts.path.rstrip("/")
        self.is_encrypted = parts.scheme == "https"
        if self.is_encrypted:
            tls = strict(tls or ssl.create_default_context())
        port = parts.port or (443 if self.is_encrypted else 80)
        self._owns_name = name is None
        self.name = name or Name(resolver, parts.hostname, poller.now)
        self.origin = Origin(
            poller,
            self.name,
            port,
            limits or Limits(),
            self.counts,
            tls=tls if self.is_encrypted else None,
        )

    def head(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        length: int | None = None,
    ) -> bytes:
        """The bytes of a request without its body of ``length`` bytes. Raises ValueError."""
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        return request_bytes(method, self._prefix + path, self._host_header, pairs, length)

    def request(
        self,
        method: str,
        path: str,
        *,
        deadline_m: float,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes | Body = b"",
        take: int = KEEP,
    ) -> Exchange:
        """Send one request and read the whole answer, all before ``deadline_m`` (monotonic).

        ``take``: :data:`KEEP` the answer's body, :data:`HASH` it, or :data:`DROP` it unread. A
        request on a kept connection that turns out to be closed, before any byte of an answer, is
        sent once more on a new one if its method is idempotent. Raises ValueError for a path
        or header that is none.
        """
        head = self.head(method, path, headers, len(body) if body else None)
        return self.perform(Ask(method, head, body, take=take), deadline_m)

    def perform(self, ask: Ask, deadline_m: float) -> Exchange:
        """Send a request that is bytes already, and wait for its answer until ``deadline_m``."""
        if not self.name.addresses and not self.name.wait(deadline_m - self.now()):
            return Exchange("dns")
        taker = taker_for(ask.take)
        waiting = _Waiting(taker)
        try:
            sink = taker.take if taker is not None else None
            self.origin.begin(waiting, ask, sink, deadline_m, self.now())
        except NoConnection as failure:
            return Exchange(failure.name)
        try:
            hub = gevent.get_hub()
            while (exchange := waiting.exchange) is None:
                hub.switch()
        except BaseException:
            if waiting.connection is not None:
                waiting.connection.abandon()
            raise
        return exchange

    def close(self) -> None:
        """Close every idle connection and ask for the name no more."""
        self.origin.close()
        if self._owns_name:
            self.name.close()
