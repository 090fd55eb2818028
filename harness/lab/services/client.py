"""HTTP/1.1 between services: keep-alive, deadlines, and the next address at once.

Written on the parser that uvicorn uses as well, because a call between services
happens several times per user request and must cost little. A request is sent
again to another address when nothing of it can have been processed, or when the
caller says that repeating it is harmless.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import cast

import httptools

from harness.lab.services.dns import DnsError, Resolver

CONNECT_TIMEOUT_S = 1.0
TOTAL_TIMEOUT_S = 3.0
#: Longest silence in the middle of a body.
BODY_SILENCE_S = 3.0
#: Shorter than the keep-alive of the servers, so that they rarely close first.
IDLE_S = 15.0
MAX_IDLE_PER_ADDRESS = 32
#: An address that failed is asked last for this long.
AVOID_S = 2.0
_HIGH_WATER_BYTES = 512 * 1024

Header = tuple[bytes, bytes]
Body = bytes | AsyncIterator[bytes]


class CallFailed(Exception):
    """No response. ``sent``: the request may have been processed. ``late``: a deadline passed."""

    def __init__(self, message: str, *, sent: bool, late: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.late = late


class _Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self.idle_since_s = 0.0
        self.used = False
        self.closed = False
        self.transport: asyncio.Transport | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._reset("GET")
        self._parser = httptools.HttpResponseParser(self)

    def _reset(self, method: str) -> None:
        self._method = method
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.head_done = False
        self.complete = False
        self.reusable = True
        self.any_bytes = False
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports are no asyncio.Transport.
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._can_write.set()
        self._wake()

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def data_received(self, data: bytes) -> None:
        self.any_bytes = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    # httptools callbacks
    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self.headers = {}
            return
        self.status = status
        self.reusable = self._parser.should_keep_alive()
        self.head_done = True
        if self._method == "HEAD":
            # The parser would wait for the body that Content-Length announces.
            self.complete = True
            self._parser = httptools.HttpResponseParser(self)
        self._wake()

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._buffered += len(body)
        if self._buffered > _HIGH_WATER_BYTES and not self._paused and self.transport:
            self.transport.pause_reading()
            self._paused = True
        self._wake()

    def on_message_complete(self) -> None:
        if self.head_done:
            self.complete = True
            self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def abort(self) -> None:
        self.closed = True
        self.reusable = False
        if self.transport:
            self.transport.abort()
        self._wake()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    async def send(self, method: str, head: bytes, body: Body, chunked: bool) -> None:
        """Write one request; stops early when the answer comes before the body is through."""
        self._reset(method)
        self.used = True
        assert self.transport
        if isinstance(body, bytes):
            self.transport.write(head + body)
            return
        self.transport.write(head)
        async for chunk in body:
            if self.closed or self.head_done:
                self.reusable = False
                return
            self.transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            await self._can_write.wait()
        if chunked:
            self.transport.write(b"0\r\n\r\n")

    async def head(self) -> None:
        while not self.head_done:
            if self.closed:
                raise CallFailed("the connection closed before an answer", sent=True)
            await self._wait()

    async def chunk(self) -> bytes:
        """The next piece of the body, b"" at its end."""
        while not self._chunks:
            if self.complete:
                return b""
            if self.closed:
                raise CallFailed("the connection closed in the middle of an answer", sent=True)
            await self._wait()
        data = b"".join(self._chunks) if len(self._chunks) > 1 else self._chunks[0]
        self._chunks.clear()
        self._buffered = 0
        if self._paused and self.transport:
            self.transport.resume_reading()
            self._paused = False
        return data


@dataclass(slots=True)
class ClientResponse:
    """An answer whose body is still to be read; read it whole or call :meth:`close`."""

    status: int
    headers: dict[bytes, bytes]
    address: tuple[str, int]
    _connection: _Connection
    _client: HttpClient
    _closed: bool = False

    @property
    def content_length(self) -> int | None:
        value = self.headers.get(b"content-length")
        return int(value) if value and value.isdigit() else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises CallFailed when it is cut short or falls silent."""
        try:
            while True:
                try:
                    async with asyncio.timeout(BODY_SILENCE_S):
                        data = await self._connection.chunk()
                except TimeoutError:
                    raise CallFailed("the answer fell silent", sent=True, late=True) from None
                if not data:
                    return
                yield data
        finally:
            self.close()

    async def read(self) -> bytes:
        connection = self._connection
        if connection.complete:
            data = b"".join(connection._chunks)
            self.close()
            return data
        return b"".join([chunk async for chunk in self.chunks()])

    def close(self) -> None:
        """Give the connection back, or drop it when the body was not read to its end."""
        if not self._closed:
            self._closed = True
            self._client.release(self.address, self._connection)


class HttpClient:
    """Calls to named services (or addresses) with connect and total deadlines."""

    def __init__(self, resolver: Resolver, *, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self._resolver = resolver
        self._connect_timeout_s = connect_timeout_s
        self._idle: dict[tuple[str, int], list[_Connection]] = {}
        self._avoid_until_s: dict[str, float] = {}
        self._turn = itertools.count()

    async def request(
        self,
        method: str,
        host: str,
        port: int,
        target: str,
        *,
        headers: Sequence[Header] = (),
        body: Body = b"",
        length: int | None = None,
        total_s: float = TOTAL_TIMEOUT_S,
        attempt_s: float | None = None,
        repeatable: bool | None = None,
    ) -> ClientResponse:
        """Send and wait for the head of the answer, within ``total_s`` for all attempts.

        ``length`` is the size of a streamed body in bytes (None: chunked). ``attempt_s``
        bounds one attempt when there is another address. ``repeatable`` (default: GET and
        HEAD) allows sending again after the request may have been processed; a streamed
        body is never sent twice. Raises CallFailed.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + total_s
        repeatable = method in ("GET", "HEAD") if repeatable is None else repeatable
        once = not isinstance(body, bytes)
        try:
            addresses = self._order(await self._resolver.addresses(host))
        except DnsError as error:
            raise CallFailed(f"{host}: {error}", sent=False) from error
        if not addresses:
            raise CallFailed(f"{host} has no ready address", sent=False)
        head, chunked = _head(method, host, port, target, headers, body, length)
        failure: CallFailed | None = None
        for n, ip in enumerate(addresses[:3]):
            left_s = deadline_s - loop.time()
            if left_s <= 0:
                break
            last = n + 1 >= min(3, len(addresses))
            limit_s = left_s if last or attempt_s is None else min(attempt_s, left_s)
            try:
                return await self._attempt(
                    (ip, port), method, head, body, chunked, limit_s, repeatable
                )
            except CallFailed as error:
                failure = error
                self._avoid_until_s[ip] = loop.time() + AVOID_S
                if error.sent and (once or not repeatable):
                    break
        raise failure or CallFailed(f"{host}: deadline passed", sent=False, late=True)

    def _order(self, addresses: Sequence[str]) -> list[str]:
        if len(addresses) < 2:
            return list(addresses)
        now_s = asyncio.get_running_loop().time()
        start = next(self._turn) % len(addresses)
        turned = [*addresses[start:], *addresses[:start]]
        return sorted(turned, key=lambda ip: self._avoid_until_s.get(ip, 0.0) > now_s)

    async def _attempt(
        self,
        address: tuple[str, int],
        method: str,
        head: bytes,
        body: Body,
        chunked: bool,
        limit_s: float,
        repeatable: bool,
    ) -> ClientResponse:
        deadline_s = asyncio.get_running_loop().time() + limit_s
        while True:
            connection = await self._connection(address, limit_s)
            reused = connection.used
            try:
                async with asyncio.timeout_at(deadline_s):
                    await connection.send(method, head, body, chunked)
                    await connection.head()
            except TimeoutError:
                connection.abort()
                raise CallFailed(
                    f"{address[0]} did not answer within {limit_s:.1f} s", sent=True, late=True
                ) from None
            except CallFailed:
                # A kept connection that closes without a byte was most likely closed by a
                # server at rest, before it saw the request: try it on a new one.
                whole = isinstance(body, bytes)
                if reused and not connection.any_bytes and whole and repeatable:
                    self._idle.pop(address, None)
                    continue
                raise
            except BaseException:
                connection.abort()
                raise
            return ClientResponse(connection.status, connection.headers, address, connection, self)

    async def _connection(self, address: tuple[str, int], limit_s: float) -> _Connection:
        loop = asyncio.get_running_loop()
        idle = self._idle.get(address)
        while idle:
            kept = idle.pop()
            if not kept.closed and loop.time() - kept.idle_since_s < IDLE_S:
                return kept
            kept.abort()
        connect_s = min(self._connect_timeout_s, limit_s)
        try:
            async with asyncio.timeout(connect_s):
                _, connection = await loop.create_connection(_Connection, *address)
        except TimeoutError:
            raise CallFailed(
                f"{address[0]}: no connection within {connect_s:.1f} s", sent=False, late=True
            ) from None
        except OSError as error:
            raise CallFailed(f"{address[0]}: {error}", sent=False) from error
        return connection

    def release(self, address: tuple[str, int], connection: _Connection) -> None:
        """Take back a connection: kept if its answer was read to the end, closed otherwise."""
        if connection.closed or not connection.complete or not connection.reusable:
            connection.abort()
            return
        idle = self._idle.setdefault(address, [])
        if len(idle) >= MAX_IDLE_PER_ADDRESS:
            connection.abort()
            return
        connection.idle_since_s = asyncio.get_running_loop().time()
        idle.append(connection)

    async def close(self) -> None:
        for idle in self._idle.values():
            for connection in idle:
                connection.abort()
        self._idle.clear()


def _head(
    method: str,
    host: str,
    port: int,
    target: str,
    headers: Sequence[Header],
    body: Body,
    length: int | None,
) -> tuple[bytes, bool]:
    lines = [f"{method} {target} HTTP/1.1\r\nhost: {host}:{port}\r\n".encode("ascii")]
    lines += [b"%b: %b\r\n" % header for header in headers]
    chunked = False
    if isinstance(body, bytes):
        if body or method in ("PUT", "POST"):
            lines.append(b"content-length: %d\r\n" % len(body))
    elif length is None:
        chunked = True
        lines.append(b"transfer-encoding: chunked\r\n")
    else:
        lines.append(b"content-length: %d\r\n" % length)
    lines.append(b"\r\n")
    return b"".join(lines), chunked
