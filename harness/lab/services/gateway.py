"""The gateway: the only service clients talk to. Authenticates, limits, and passes on."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from harness.lab.services.asgi import (
    MAX_BODY_BYTES,
    App,
    Handler,
    HttpError,
    Request,
    Response,
    json_response,
    too_large,
)
from harness.lab.services.breaker import CircuitBreaker
from harness.lab.services.builds import build_of
from harness.lab.services.client import Body, CallFailed
from harness.lab.services.degraded import Fallback
from harness.lab.services.dns import Answer, DnsError
from harness.lab.services.image import width_of
from harness.lab.services.pod import Pod

#: Bodies up to this size are held whole, so that a failed call can go to another pod.
WHOLE_BYTES = 256 * 1024
READ_TIMEOUT_S = 3.0
#: Longer than the budget of the database and the store behind it.
WRITE_TIMEOUT_S = 4.5
ATTEMPT_S = 1.5
VERIFIED_S = 30.0
#: While auth is away, a token verified before stays good for this long.
VERIFIED_STALE_S = 300.0
_VERIFIED_ENTRIES = 10_000
DEFAULT_RATE = 5000.0

_TO_SERVICE = (
    b"content-type",
    b"if-none-match",
    b"range",
    b"x-checksum-sha256",
    b"tus-resumable",
    b"upload-length",
    b"upload-metadata",
    b"upload-offset",
)
_TO_CLIENT = (
    b"cache-control",
    b"content-type",
    b"etag",
    b"content-range",
    b"accept-ranges",
    b"x-checksum-sha256",
    b"location",
    b"cache-control",
    b"tus-extension",
    b"tus-max-size",
    b"tus-resumable",
    b"tus-version",
    b"upload-length",
    b"upload-offset",
)
_OPS = {
    ("PUT", "/v1/files/"): "upload",
    ("GET", "/v1/files/"): "download",
    ("HEAD", "/v1/files/"): "head",
    ("DELETE", "/v1/files/"): "delete",
    ("GET", "/v1/images/"): "image",
    ("POST", "/v1/uploads"): "upload-create",
    ("HEAD", "/v1/uploads"): "upload-offset",
    ("PATCH", "/v1/uploads"): "upload-part",
    ("OPTIONS", "/v1/uploads"): "upload-options",
}


class TokenBucket:
    """Allows ``rate`` requests per second on average, and as many at once."""

    __slots__ = ("_at_s", "_left", "_rate")

    def __init__(self, rate: float, now_s: float) -> None:
        self._rate = rate
        self._left = rate
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        self._left = min(self._rate, self._left + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(slots=True)
class _Verified:
    user: str
    verified_s: float
    expires_s: float


class Gateway(App):
    name = "gateway"

    def __init__(self, pod: Pod, rate: float = DEFAULT_RATE) -> None:
        super().__init__(pod.metrics, pod.served_by(), pod.joining("auth", "file", "image"))
        self._pod = pod
        self._rate = rate
        self._buckets: dict[str, TokenBucket] = {}
        self._verified: dict[str, _Verified] = {}
        self._verifying: dict[str, asyncio.Task[_Verified]] = {}
        self._build = build_of(pod.env.version)
        defects = pod.env.defects
        self._image_breaker = breaker = CircuitBreaker(
            opens="breaker-never-opens" not in defects, closes="breaker-never-closes" not in defects
        )
        self._fallback = Fallback(silent="degrades-silently" in defects)
        self.metrics.gauge("image_circuit_breaker_state", lambda: breaker.level)

    def route(self, request: Request) -> tuple[str, Handler]:
        op, handler = self._route(request)
        if request.header(b"x-synthetic") and op != "token":
            op = "synthetic"  # a check of ours, not a user
        return op, self._build(op, handler)

    def _route(self, request: Request) -> tuple[str, Handler]:
        path = request.path
        if path == "/health/region":
            return "health", self._region_health
        if path == "/v1/token" and request.method == "POST":
            return "token", self._token
        if path == "/v1/files" and request.method == "GET":
            return "list", self._files
        for prefix, handler in (
            ("/v1/files/", self._files),
            ("/v1/images/", self._images),
            ("/v1/uploads", self._uploads),
        ):
            if path.startswith(prefix):
                op = _OPS.get((request.method, prefix))
                if op is None:
                    raise HttpError(405, "bad_method", f"{request.method} is not served here")
                return op, handler
        return super().route(request)

    async def shutdown(self) -> None:
        await self._pod.close()

    # health of the region
    async def _region_health(self, request: Request) -> Response:
        """200 when this region has the database writer: then traffic belongs here.

        Says nothing about whether the database answers; a database that is down must
        not move all traffic before its standby has been promoted.
        """
        env = self._pod.env
        try:
            answer = await self._pod.resolver.lookup(env.db_writer)
        except DnsError as error:
            raise HttpError(503, "writer_unknown", str(error)) from error
        region = self._region_of(answer)
        value = {"region": env.region, "writer_region": region}
        return json_response(200 if region == env.region else 503, value)

    def _region_of(self, answer: Answer) -> str:
        layout = self._pod.env.layout
        for zone in layout.zones:
            if layout.db(zone.name) in answer.addresses:
                return zone.region
        return next((r.name for r in layout.regions if f".{r.name}." in answer.canonical), "")

    # authentication and rate
    async def _user(self, request: Request) -> str:
        """The authenticated user, within the rate. Raises HttpError 401, 429, 503."""
        scheme, _, token = request.header(b"authorization").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise HttpError(401, "no_token", "send Authorization: Bearer TOKEN from /v1/token")
        loop = asyncio.get_running_loop()
        known = self._verified.get(token)
        now_s = loop.time()
        if known is None or now_s - known.verified_s > VERIFIED_S or now_s >= known.expires_s:
            known = await self._verify_once(token, known)
        self._limit(known.user, now_s)
        return known.user

    def _limit(self, user: str, now_s: float) -> None:
        bucket = self._buckets.get(user)
        if bucket is None:
            bucket = self._buckets[user] = TokenBucket(self._rate, now_s)
        if not bucket.take(now_s):
            raise HttpError(
                429, "too_many_requests", f"more than {self._rate:.0f} requests a second"
            )

    async def _verify_once(self, token: str, known: _Verified | None) -> _Verified:
        task = self._verifying.get(token)
        if task is None:
            task = asyncio.create_task(self._verify(token))
            self._verifying[token] = task
            task.add_done_callback(lambda _: self._verifying.pop(token, None))
        try:
            return await asyncio.shield(task)
        except CallFailed as error:
            now_s = asyncio.get_running_loop().time()
            if known and now_s < min(known.expires_s, known.verified_s + VERIFIED_STALE_S):
                return known
            raise HttpError(503, "auth_unavailable", "tokens cannot be verified") from error

    async def _verify(self, token: str) -> _Verified:
        body = json.dumps({"token": token}).encode()
        pod = self._pod
        response = await pod.client.request(
            "POST",
            pod.service("auth"),
            pod.env.port,
            "/verify",
            body=body,
            total_s=2.0,
            attempt_s=1.0,
            repeatable=True,
        )
        answer = json.loads(await response.read())
        if response.status == 401:
            self._verified.pop(token, None)
            raise HttpError(401, answer["code"], answer["error"])
        if response.status != 200:
            raise CallFailed(f"auth answered {response.status}", sent=True)
        loop = asyncio.get_running_loop()
        left_s = answer["exp"] - pod.clock.wall_s()
        if len(self._verified) > _VERIFIED_ENTRIES:
            self._verified.clear()
        known = _Verified(answer["user"], loop.time(), loop.time() + left_s)
        self._verified[token] = known
        return known

    # passing on
    async def _token(self, request: Request) -> Response:
        return await self._pass_on(request, "auth", "", READ_TIMEOUT_S)

    async def _files(self, request: Request) -> Response:
        user = await self._user(request)
        writes = request.method in ("PUT", "DELETE")
        total_s = WRITE_TIMEOUT_S if writes else READ_TIMEOUT_S
        return await self._pass_on(request, "file", user, total_s)

    async def _uploads(self, request: Request) -> Response:
        """Uploads in parts. The answer to the last part is that of the upload, and counted so."""
        user = "" if request.method == "OPTIONS" else await self._user(request)
        total_s = READ_TIMEOUT_S if request.method == "HEAD" else WRITE_TIMEOUT_S
        response = await self._pass_on(request, "file", user, total_s)
        if request.method == "PATCH" and any(name == b"etag" for name, _ in response.headers):
            response.op = "upload"
        return response

    async def _images(self, request: Request) -> Response:
        """The picture; where the image service fails, or is left alone because it does, what is
        shown instead."""
        user = await self._user(request)
        breaker, now_s = self._image_breaker, asyncio.get_running_loop().time
        if not breaker.allows(now_s()):
            return self._degraded(request, user, HttpError(503, "circuit_open", "left alone"))
        good = None
        try:
            response = await self._pass_on(request, "image", user, READ_TIMEOUT_S)
            good = response.status < 500
        except HttpError as error:
            good = False
            return self._degraded(request, user, error)
        finally:
            breaker.ended(good, now_s())
        if not good:
            return self._degraded(request, user, HttpError(503, "image_failed", "it failed"))
        if response.status == 200:
            self._fallback.keep(user, _asked(request), response.body)
        return response

    def _degraded(self, request: Request, user: str, error: HttpError) -> Response:
        if "errors-not-degraded" in self._pod.env.defects:
            raise error
        width = width_of(request.query.get("w", ""))
        kind, response = self._fallback.answer(user, _asked(request), width)
        self.metrics.inc("image_degraded_total", kind=kind)
        return response

    async def _pass_on(self, request: Request, service: str, user: str, total_s: float) -> Response:
        sent = [(n, request.headers[n]) for n in _TO_SERVICE if n in request.headers]
        sent.append((b"x-user", user.encode()))
        length = request.content_length
        body = await self._body(request, length)
        pod = self._pod
        try:
            response = await pod.client.request(
                request.method,
                pod.service(service),
                pod.env.port,
                _asked(request),
                headers=sent,
                body=body,
                length=length,
                total_s=total_s,
                attempt_s=ATTEMPT_S if request.method in ("GET", "HEAD") else None,
                # Uploads, deletes and token requests do no more the second time; a part would
                # be refused, and its client would not know why.
                repeatable=request.method != "PATCH",
            )
            kept = [(n, response.headers[n]) for n in _TO_CLIENT if n in response.headers]
            size = response.content_length
            if request.method == "HEAD" or response.status in (204, 304):
                response.close()
                announced = [(b"content-length", b"%d" % size)] if size is not None else []
                return Response(response.status, kept + announced)
            if size is not None and size <= WHOLE_BYTES:
                return Response(response.status, kept, await response.read())
        except CallFailed as error:
            raise _failed(service, error) from error
        if size is not None:
            kept.append((b"content-length", b"%d" % size))
        return Response(response.status, kept, response.chunks())

    @staticmethod
    async def _body(request: Request, length: int | None) -> Body:
        if request.method in ("GET", "HEAD", "DELETE", "OPTIONS"):
            return b""
        if length is not None and length > MAX_BODY_BYTES:
            raise too_large(MAX_BODY_BYTES)
        if length is not None and length <= WHOLE_BYTES:
            return await request.body()
        return request.chunks()


def _asked(request: Request) -> str:
    """Path and query."""
    query = request.raw_query
    return f"{request.path}?{query.decode('latin-1')}" if query else request.path


def _failed(service: str, error: CallFailed) -> HttpError:
    """504 when the request may have been processed or a deadline passed, 503 otherwise."""
    if error.sent or error.late:
        return HttpError(504, "upstream_timeout", f"the {service} service did not answer in time")
    return HttpError(503, "upstream_unavailable", f"the {service} service cannot be reached")
