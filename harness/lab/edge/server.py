"""What the edge does with a request: from the cache, or from the origin.

A token the origin has not accepted lately is never answered from the cache: its request goes to
the origin, and the origin's word on it is remembered for some seconds. Several requests for one
object that is not there make one request to the origin; the others get its answer. When
the origin does not answer, what is in the cache goes on being given to known tokens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from harness.lab.edge import cache
from harness.lab.edge.cache import Cache, Cached, Tokens
from harness.lab.edge.connection import Connection, Request
from harness.lab.edge.metrics import Metrics
from harness.lab.services.client import CallFailed, ClientResponse, HttpClient

#: Requests at the origin at a time; more are refused at once rather than queued for ever.
ORIGIN_MAX = 256
#: Request bodies up to this size are held whole, so that a failed call can be repeated.
WHOLE_BYTES = 256 * 1024

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_CONDITIONAL = frozenset({b"if-none-match", b"if-modified-since", b"range", b"if-range"})
_WRITES = frozenset({b"PUT", b"POST", b"PATCH", b"DELETE"})


@dataclass(frozen=True)
class Waits:
    """How long the origin is waited for, in seconds. CloudFront waits 10 s for a connection
    and 30 s for an answer; the lab's clients give up after 5 s."""

    connect_s: float = 1.0
    read_s: float = 4.0
    write_s: float = 4.8


@dataclass(slots=True)
class Fetch:
    """A request to the origin for an object; ``fit``: nobody has changed the object since."""

    done: asyncio.Future[Cached | None]
    fit: bool = True


class Edge:
    """The handler of every connection."""

    def __init__(
        self, client: HttpClient, origin: tuple[str, int], *, waits: Waits | None = None
    ) -> None:
        self.now: Callable[[], float] = time.monotonic
        self.origin_max = ORIGIN_MAX
        self.cache = Cache()
        self.tokens = Tokens()
        self.metrics = Metrics()
        self._waits = waits or Waits()
        self._client = client
        self._host, self._port = origin
        self._fetches: dict[bytes, Fetch] = {}
        self._asking: set[bytes] = set()
        self._at_origin = 0
        self.metrics.gauge("edge_cache_bytes", lambda: self.cache.size_bytes)
        self.metrics.gauge("edge_cache_objects", lambda: len(self.cache))
        self.metrics.gauge("edge_cache_evicted_total", lambda: self.cache.evicted)
        self.metrics.gauge("edge_origin_in_flight", lambda: self._at_origin)

    # ---- from the cache -------------------------------------------------------------------

    def at_once(self, request: Request) -> bytes | None:
        """The answer to a GET of an object that is there and fresh, for a known token."""
        target = request.target
        item = self.cache.get(target)
        if item is None:
            return None
        headers, now_s = request.headers, request.received_s
        token = headers.get(b"authorization", b"")
        if not self.tokens.known(token, now_s):
            return None
        # Of those whose turn it is to ask the origin, one does; the others are served.
        if self.tokens.due(token, now_s) and token not in self._asking:
            return None
        if now_s > item.fresh_until_s and target not in self._fetches:
            return None
        if now_s > item.fresh_until_s + cache.STALE_S:
            return None
        return self._hit(item, request)

    def _hit(self, item: Cached, request: Request) -> bytes:
        answer = cache.from_object(item, request.headers, request.received_s)
        duration_s = self.now() - request.received_s
        self.metrics.answered("hit", int(answer[9:12]), duration_s)
        return answer

    # ---- from the origin ------------------------------------------------------------------

    async def answer(self, request: Request, connection: Connection) -> None:
        """What :meth:`at_once` could not answer."""
        if request.method == b"GET" and request.target.startswith(cache.CACHED_PREFIXES):
            await self._cached(request, connection)
        else:
            await self._pass(request, connection)

    async def _cached(self, request: Request, connection: Connection) -> None:
        target, token = request.target, request.headers.get(b"authorization", b"")
        known = self.tokens.known(token, request.received_s)
        if known:
            under_way = self._fetches.get(target)
            if under_way is not None:
                item = await asyncio.shield(under_way.done)
                if item is not None:
                    await connection.write(self._hit(item, request))
                    return
            at_once = self.at_once(request)
            if at_once is not None:
                await connection.write(at_once)
                return
        item = self.cache.get(target)
        if item is None and b"range" in request.headers:
            # A part is passed on as it is: nothing whole comes back to be kept.
            await self._pass(request, connection)
            return
        leads = target not in self._fetches
        # Who asks beside another one (its token is not known) keeps nothing.
        fetch = Fetch(asyncio.get_running_loop().create_future(), fit=leads)
        if leads:
            self._fetches[target] = fetch
        self._asking.add(token)
        try:
            await self._fetch(request, connection, item, fetch, known=known)
        finally:
            self._asking.discard(token)
            if leads:
                del self._fetches[target]
            if not fetch.done.done():
                fetch.done.set_result(None)

    async def _fetch(
        self,
        request: Request,
        connection: Connection,
        item: Cached | None,
        fetch: Fetch,
        *,
        known: bool,
    ) -> None:
        """Ask the origin for the object, or whether it is still the same."""
        target, token = request.target, request.headers.get(b"authorization", b"")
        headers = {n: v for n, v in request.headers.items() if n not in _CONDITIONAL}
        if item is not None:
            headers[b"if-none-match"] = item.etag
        response = None
        try:
            response = await self._call(request, headers)
        except CallFailed as error:
            failure = self._failed(error)
        if response is None or response.status >= 500:
            now_s = self.now()
            usable = item is not None and now_s <= item.fresh_until_s + cache.STALE_S
            if item is not None and usable and known:
                if response is not None:
                    response.close()
                await connection.write(self._hit(item, request))
            elif response is not None:
                await self._relay(request, connection, response, "miss")
            else:
                await self._own_error(request, connection, *failure)
            return
        now_s = self.now()
        self._learn(token, response.status, now_s)
        served = _served_lines(response.headers)
        if response.status == 304 and item is not None:
            response.close()
            life_s = cache.lifetime_s(response.headers.get(b"cache-control", b""))
            item.fresh_until_s = now_s + (cache.DEFAULT_TTL_S if life_s is None else life_s)
            item.stored_s = now_s
            if fetch.fit:
                fetch.done.set_result(item)
            await self._send(request, connection, item, "refresh", served)
            return
        if response.status == 200 and (response.content_length or 0) <= cache.OBJECT_MAX_BYTES:
            try:
                body = await response.read()
            except CallFailed as error:
                await self._own_error(request, connection, *self._failed(error))
                return
            new = cache.cached(response.headers, body, now_s)
            if new is not None:
                if fetch.fit:
                    self.cache.put(target, new)
                    fetch.done.set_result(new)
                await self._send(request, connection, new, "miss", served)
                return
            await self._relay_whole(request, connection, response, body, "miss")
            return
        if response.status in (404, 410):
            self.cache.drop(target)
        await self._relay(request, connection, response, "miss")

    async def _send(
        self, request: Request, connection: Connection, item: Cached, result: str, served: bytes
    ) -> None:
        """Answer with what the origin just gave or confirmed: it has served this."""
        how = cache.REFRESHED if result == "refresh" else cache.MISS
        answer = cache.from_object(item, request.headers, self.now(), result=how, served=served)
        await connection.write(answer)
        self.metrics.answered(result, int(answer[9:12]), self.now() - request.received_s)

    async def _pass(self, request: Request, connection: Connection) -> None:
        """Everything that is not cached: on to the origin as it is, and the answer back."""
        writes = request.method in _WRITES
        if writes:
            self._invalidate(request.target)
        try:
            response = await self._call(request, request.headers)
        except CallFailed as error:
            await self._own_error(request, connection, *self._failed(error))
            return
        finally:
            if writes:
                # Again: it may have been fetched anew before the origin had changed it.
                self._invalidate(request.target)
        self._learn(request.headers.get(b"authorization", b""), response.status, self.now())
        await self._relay(request, connection, response, "pass")

    def _invalidate(self, target: bytes) -> None:
        self.cache.invalidate(target)
        name = cache.name_of(target)
        for fetched, fetch in self._fetches.items():
            if cache.name_of(fetched) == name:
                fetch.fit = False

    def _learn(self, token: bytes, status: int, now_s: float) -> None:
        """What an answer of the origin says of the token that was sent along."""
        if status in (401, 403):
            self.tokens.forget(token)
        elif status < 400 or status in (404, 416):
            self.tokens.accept(token, now_s)

    async def _call(self, request: Request, headers: Mapping[bytes, bytes]) -> ClientResponse:
        if self._at_origin >= self.origin_max:
            raise Busy
        writes = request.method in _WRITES
        body: bytes | None = b""
        length = None
        if request.body is not None:
            length = request.body.length
            body = None
            if length is not None and length <= WHOLE_BYTES:
                body = await request.body.whole()
        self._at_origin += 1
        try:
            return await self._client.request(
                request.method.decode("latin-1"),
                self._host,
                self._port,
                request.target.decode("latin-1"),
                headers=[(n, v) for n, v in headers.items() if n not in _HOP_BY_HOP],
                body=request.body.pieces() if body is None and request.body else body or b"",
                length=length,
                total_s=self._waits.write_s if writes else self._waits.read_s,
            )
        finally:
            self._at_origin -= 1

    def _failed(self, error: CallFailed) -> tuple[int, str, str]:
        """Status, code and words of the edge's own answer to a call that failed."""
        if isinstance(error, Busy):
            self.metrics.origin_error("busy")
            return 503, "origin_busy", f"{self.origin_max} requests wait for the origin already"
        self.metrics.origin_error("late" if error.late else "unreachable")
        if error.sent or error.late:
            return 504, "origin_timeout", "the origin did not answer in time"
        return 502, "origin_unreachable", "the origin cannot be reached"

    async def _own_error(
        self, request: Request, connection: Connection, status: int, code: str, message: str
    ) -> None:
        await connection.write(cache.own_error(status, code, message))
        self.metrics.answered("error", status, self.now() - request.received_s)

    async def _relay(
        self, request: Request, connection: Connection, response: ClientResponse, result: str
    ) -> None:
        """Pass the origin's answer on as it comes."""
        size = response.content_length
        if request.method == b"HEAD" or response.status in (204, 304):
            response.close()
            await self._relay_whole(request, connection, response, b"", result)
        elif size is not None and size <= WHOLE_BYTES:
            try:
                body = await response.read()
            except CallFailed as error:
                await self._own_error(request, connection, *self._failed(error))
                return
            await self._relay_whole(request, connection, response, body, result)
        else:
            framing = (
                b"transfer-encoding: chunked" if size is None else b"content-length: %d" % size
            )
            try:
                await connection.write(_head(response, framing))
                async for piece in response.chunks():
                    framed = b"%x\r\n%b\r\n" % (len(piece), piece) if size is None else piece
                    await connection.write(framed)
                if size is None:
                    await connection.write(b"0\r\n\r\n")
            except CallFailed:
                # The head is gone: all that is left is to end before the end.
                request.keep_alive = False
            finally:
                response.close()
            self._count_relayed(request, response, result)

    async def _relay_whole(
        self,
        request: Request,
        connection: Connection,
        response: ClientResponse,
        body: bytes,
        result: str,
    ) -> None:
        framing = b"content-length: %d" % len(body)
        if request.method == b"HEAD" and response.content_length is not None:
            framing = b"content-length: %d" % response.content_length
        if response.status in (204, 304):
            framing = b""
        await connection.write(_head(response, framing) + body)
        self._count_relayed(request, response, result)

    def _count_relayed(self, request: Request, response: ClientResponse, result: str) -> None:
        if response.status >= 500:
            self.metrics.origin_error("5xx")
        self.metrics.answered(result, response.status, self.now() - request.received_s)


class Busy(CallFailed):
    """Too much waits for the origin already; nothing was sent."""

    def __init__(self) -> None:
        super().__init__("the origin is busy", sent=False)


def _head(response: ClientResponse, framing: bytes) -> bytes:
    status = response.status
    result = cache.ERROR if status >= 400 else cache.MISS
    lines = [b"HTTP/1.1 %d %b" % (status, cache.REASONS.get(status, b"Unknown"))]
    lines += _end_to_end(response.headers.items())
    if framing:
        lines.append(framing)
    return b"\r\n".join(lines) + b"\r\n" + cache.x_cache(result) + b"\r\n"


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    return [n + b": " + v for n, v in headers if n not in _HOP_BY_HOP]


def _served_lines(headers: Mapping[bytes, bytes]) -> bytes:
    """Who served, as the origin says it."""
    return b"".join(
        b"%b: %b\r\n" % (n, v) for n, v in headers.items() if n.startswith(b"x-served-")
    )
