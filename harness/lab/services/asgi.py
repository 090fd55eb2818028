"""A thin layer over raw ASGI: requests, responses, errors as JSON, metrics.

No framework, because the whole lab shares two cores with the traffic generator
and the middleware of a framework costs more than the services themselves.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from harness.lab.services import metrics as exposition
from harness.lab.services.joining import Joining
from harness.lab.services.metrics import Metrics

MAX_BODY_BYTES = 32 * 1024 * 1024
FILE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

Header = tuple[bytes, bytes]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

log = logging.getLogger("pod")


class HttpError(Exception):
    """An answer other than success: status, a short code for programs, words for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def response(self) -> Response:
        return json_response(self.status, {"error": self.message, "code": self.code})


class ClientGone(Exception):
    """The caller hung up before its request was whole."""


class Request:
    """One HTTP request. Header names are lower-case bytes."""

    __slots__ = ("_receive", "headers", "method", "path", "raw_query")

    def __init__(self, scope: Mapping[str, Any], receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.raw_query: bytes = scope["query_string"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self._receive = receive

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.raw_query.decode("latin-1"), keep_blank_values=True))

    @property
    def content_length(self) -> int | None:
        """Declared body size in bytes, None when chunked. Raises HttpError 400 if malformed."""
        declared = self.headers.get(b"content-length")
        if declared is None:
            return None
        if not declared.isdigit():
            raise HttpError(400, "bad_request", "Content-Length is not a number")
        return int(declared)

    async def chunks(self, limit_bytes: int = MAX_BODY_BYTES) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises HttpError 413 past the limit, ClientGone on hang-up."""
        declared = self.content_length
        if declared is not None and declared > limit_bytes:
            raise too_large(limit_bytes)
        received = 0
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            received += len(chunk)
            if received > limit_bytes:
                raise too_large(limit_bytes)
            if chunk:
                yield chunk
            more = message.get("more_body", False)

    async def body(self, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
        return b"".join([chunk async for chunk in self.chunks(limit_bytes)])

    async def json(self, limit_bytes: int = 65536) -> dict[str, Any]:
        """The body as a JSON object. Raises HttpError 400 when it is not one."""
        try:
            value = json.loads(await self.body(limit_bytes))
        except ValueError as error:
            raise HttpError(400, "bad_request", "the body is not JSON") from error
        if not isinstance(value, dict):
            raise HttpError(400, "bad_request", "the body is not a JSON object")
        return value


def too_large(limit_bytes: int) -> HttpError:
    return HttpError(413, "too_large", f"the body is larger than {limit_bytes} bytes")


@dataclass(slots=True)
class Response:
    """Status, headers and a body: bytes, or chunks with ``content-length`` among the headers.

    ``op``: the operation it is counted as, when that is seen only in the end.
    """

    status: int
    headers: list[Header] = field(default_factory=list)
    body: bytes | AsyncIterator[bytes] = b""
    op: str = ""


def json_response(status: int, value: Any, headers: list[Header] | None = None) -> Response:
    body = json.dumps(value, separators=(",", ":")).encode()
    return Response(status, [(b"content-type", b"application/json"), *(headers or [])], body)


def file_id(text: str) -> str:
    """``text`` percent-decoded, when it is an id clients may choose. Raises HttpError 400."""
    name = unquote(text)
    if not FILE_ID.fullmatch(name) or name in {".", ".."}:
        raise HttpError(400, "bad_id", "an id is 1 to 128 of the characters A-Z a-z 0-9 . _ -")
    return name


Handler = Callable[[Request], Awaitable[Response]]


class App:
    """Base of the services: routes to handlers, counts and times them, words their errors."""

    name = "app"

    def __init__(
        self, metrics: Metrics, served_by: list[Header], joining: Joining | None = None
    ) -> None:
        self.metrics = metrics
        self.served_by = served_by
        self.draining = False
        self._joining = joining

    async def startup(self) -> None:
        """Open what the service needs; must not wait for other parts of the lab."""

    async def shutdown(self) -> None:
        """Release what ``startup`` opened."""

    def route(self, request: Request) -> tuple[str, Handler]:
        """Name of the operation (for metrics) and its handler. Raises HttpError 404, 405."""
        raise HttpError(404, "no_route", f"nothing is served at {request.path}")

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(Request(scope, receive), send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.startup()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.shutdown()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, request: Request, send: Send) -> None:
        if request.path == "/health":
            await self._send(request, await self._health(), send)
            return
        if request.path == "/metrics":
            body = self.metrics.render()
            headers = [(b"content-type", exposition.CONTENT_TYPE)]
            await self._send(request, Response(200, headers, body), send)
            return
        started_s = time.monotonic()
        op = "other"
        try:
            op, handler = self.route(request)
            response = await handler(request)
            op = response.op or op
        except HttpError as error:
            response = error.response()
        except ClientGone:
            return
        except Exception:
            log.exception("%s %s", request.method, request.path)
            response = HttpError(500, "internal", "the service failed").response()
        try:
            await self._send(request, response, send)
        finally:
            if op != "health":
                duration_s = time.monotonic() - started_s
                self.metrics.observe(self.name, op, response.status, duration_s)

    async def _health(self) -> Response:
        if self.draining:
            return json_response(503, {"status": "draining"})
        if self._joining and not await self._joining.done():
            return json_response(503, {"status": "joining"})
        return json_response(200, {"status": "ok"})

    async def _send(self, request: Request, response: Response, send: Send) -> None:
        headers = response.headers + self.served_by
        if self.draining:
            headers.append((b"connection", b"close"))
        body = response.body
        if isinstance(body, bytes):
            if response.status not in (204, 304) and request.method != "HEAD":
                headers.append((b"content-length", b"%d" % len(body)))
            await send(
                {"type": "http.response.start", "status": response.status, "headers": headers}
            )
            sent = b"" if request.method == "HEAD" else body
            await send({"type": "http.response.body", "body": sent})
            return
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        async for chunk in body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
