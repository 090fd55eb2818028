"""One client's connection to the edge: requests in, answers out, one after the other.

A GET whose head came whole, which is nearly every one, is read here and answered from the
cache without a task or a future. Anything else goes through the parser the services use.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import httptools

log = logging.getLogger("edge")

Headers = dict[bytes, bytes]
HEAD_MAX_BYTES = 32 * 1024
#: While this much of a body waits to be passed on, no more is read.
_HIGH_WATER_BYTES = 256 * 1024


class ClientGone(Exception):
    """The client hung up before its request was whole."""


@dataclass(slots=True)
class Request:
    """One request; header names in lower case. ``body`` None: it has none."""

    method: bytes
    target: bytes
    headers: Headers
    received_s: float
    keep_alive: bool = True
    body: Body | None = field(default=None)


class Body:
    """What a client sends after its head, as it arrives."""

    def __init__(self, transport: asyncio.Transport, length: int | None) -> None:
        self.length = length
        self.complete = False
        self._transport = transport
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self._paused = False
        self._gone = False
        self._news = asyncio.Event()

    def feed(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes > _HIGH_WATER_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._news.set()

    def end(self) -> None:
        self.complete = True
        self._news.set()

    def gone(self) -> None:
        self._gone = not self.complete
        self._news.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Raises ClientGone when it does not come to its end."""
        while True:
            if self._pieces:
                data = b"".join(self._pieces)
                self._pieces.clear()
                self._waiting_bytes = 0
                if self._paused:
                    self._paused = False
                    self._transport.resume_reading()
                yield data
            elif self.complete:
                return
            elif self._gone:
                raise ClientGone
            else:
                self._news.clear()
                await self._news.wait()

    async def whole(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])


class Handler(Protocol):
    """What is done with a request."""

    now: Any

    def at_once(self, request: Request) -> bytes | None:
        """The whole answer, when nobody needs to be asked for it."""

    def answer(self, request: Request, connection: Connection) -> Coroutine[Any, Any, None]:
        """Write the answer to ``connection``; ``request.keep_alive`` False: it must be closed."""


class Connection(asyncio.Protocol):
    """See the module. ``transport`` is None once the client is gone."""

    __slots__ = (
        "_can_write",
        "_handler",
        "_head_bytes",
        "_in_head",
        "_parser",
        "_reading",
        "_request",
        "_task",
        "transport",
    )

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        #: made with the first request that needs it
        self._parser: httptools.HttpRequestParser | None = None
        self._reading = False
        self._head_bytes = 0
        self._in_head = False
        self._request: Request | None = None
        self._can_write: asyncio.Event | None = None

    # ---- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports are no asyncio.Transport.
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.resume_writing()
        if self._request is not None and self._request.body is not None:
            self._request.body.gone()

    def pause_writing(self) -> None:
        self._can_write = asyncio.Event()

    def resume_writing(self) -> None:
        if self._can_write is not None:
            self._can_write.set()
            self._can_write = None

    def data_received(self, data: bytes) -> None:
        if self._task is None and not self._reading and data.startswith(b"GET "):
            request = simple_get(data, self._handler.now())
            if request is not None:
                answer = self._handler.at_once(request)
                if answer is None:
                    self._start(request)
                elif self.transport is not None:
                    self.transport.write(answer)
                return
        self._parse(data)

    async def write(self, data: bytes) -> None:
        """Send; waits while the client does not take what was sent before."""
        if self.transport is None:
            raise ClientGone
        self.transport.write(data)
        if self._can_write is not None:
            await self._can_write.wait()

    # ---- the long way ------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(b"400 Bad Request")
            return
        self._head_bytes += len(data) if self._in_head else 0
        if self._head_bytes > HEAD_MAX_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        if self._task is not None:
            # Nobody here sends the next request before the answer to the last.
            raise ValueError("pipelined")
        self._reading = self._in_head = True
        self._request = Request(b"", b"", {}, self._handler.now())

    def on_url(self, url: bytes) -> None:
        assert self._request is not None
        self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._request is not None
        self._request.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        request, parser = self._request, self._parser
        assert request is not None and parser is not None
        self._head_bytes, self._in_head = 0, False
        request.method = parser.get_method()
        request.keep_alive = parser.should_keep_alive()
        length = request.headers.get(b"content-length")
        if self.transport is None:
            return
        if length not in (None, b"0") or b"transfer-encoding" in request.headers:
            known = int(length) if length is not None and length.isdigit() else None
            request.body = Body(self.transport, known)
            if request.headers.get(b"expect", b"").lower() == b"100-continue":
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._start(request)

    def on_body(self, body: bytes) -> None:
        if self._request is not None and self._request.body is not None:
            self._request.body.feed(body)

    def on_message_complete(self) -> None:
        self._reading = False
        if self._request is not None and self._request.body is not None:
            self._request.body.end()

    # ---- answering ---------------------------------------------------------------------------

    def _start(self, request: Request) -> None:
        self._request = request
        self._task = asyncio.get_running_loop().create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        try:
            await self._handler.answer(request, self)
        except ClientGone:
            request.keep_alive = False
        except Exception:
            log.exception("%s %s", request.method, request.target)
            request.keep_alive = False
        finally:
            self._task = None
            self._request = None
        if not request.keep_alive or (request.body is not None and not request.body.complete):
            self._close()

    def _refuse(self, status: bytes) -> None:
        """Nothing can be made of what comes; an answer under way is cut off with it."""
        if self.transport is not None:
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
        self._close()

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.close()


def simple_get(data: bytes, now_s: float) -> Request | None:
    """The one whole GET without a body in ``data``; None for anything that is not just that."""
    if data.find(b"\r\n\r\n") != len(data) - 4 or len(data) > HEAD_MAX_BYTES:
        return None
    first, *lines = data[:-4].split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or words[2] != b"HTTP/1.1" or not words[1].startswith(b"/"):
        return None
    headers: Headers = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name[0] in b" \t" or name[-1] in b" \t":
            return None
        headers[name.lower()] = value.strip()
    if headers.keys() & _NOT_SIMPLE:
        return None
    return Request(words[0], words[1], headers, now_s)


_NOT_SIMPLE = frozenset(
    (b"connection", b"content-length", b"expect", b"transfer-encoding", b"upgrade")
)
