"""The surface of Locust's ``FastHttpUser`` on the client made for load.

``self.client.get(…)``, ``with … as response``, ``catch_response``, ``rest``: a locustfile moves
over by changing its base class to :class:`HarnessUser`, and costs a fifth of the processor.
What differs: a request as a whole, not each read of it, ends after ``network_timeout``;
a streamed body has been read when the response is there; https through a proxy is refused.
"""

from __future__ import annotations

import base64
import io
import json as json_module
import re
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from http.cookiejar import CookieJar
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import requests
from gevent.lock import BoundedSemaphore
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.header import Headers
from geventhttpclient.response import HTTPConnectionClosed
from geventhttpclient.useragent import ConnectionError as AgentError
from geventhttpclient.useragent import RetriesExceeded
from locust import User, events
from locust.contrib.fasthttp import (
    FAILURE_EXCEPTIONS,
    FastRequest,
    FastResponse,
    LocustBadStatusCode,
    LocustUserAgent,
    ResponseContextManager,
    RestResponseContextManager,
)
from locust.exception import LocustError, StopTest
from locust.user.users import RestMixin

from harness.clock import SystemClock
from harness.load.fold import batch
from harness.load.resolver import Resolver
from harness.load.settings import from_environment
from harness.load.wire.ask import IDEMPOTENT, Ask
from harness.load.wire.client import Exchange, HttpClient
from harness.load.wire.message import all_headers, request_bytes
from harness.load.wire.origin import Limits, Name
from harness.load.wire.poller import Poller
from harness.load.wire.upload import Repeats

_ABSOLUTE = re.compile(r"^https?://", re.IGNORECASE)
#: What a path may hold as it is; the rest is percent-encoded, as FastHttpUser does.
_PLAIN = re.compile(r"[!#$%&'()*+,/:;=?@\[\]~A-Za-z0-9_.\-]*\Z")
_SAFE = "!#$%&'()*+,/:;=?@[]~"
_VALID = LocustUserAgent.valid_response_codes
_REDIRECT = LocustUserAgent.redirect_response_codes
#: Requests whose bytes are remembered, per user class.
_HEADS_MAX = 1024
#: A small answer may be decompressed to any size: this much is taken.
DECODED_MAX_BYTES = 256 * 1024 * 1024
_BYTES = "application/octet-stream"
_ENCODINGS = "gzip, deflate, br"


events.init.add_listener(batch)


class Shared:
    """What all users of a process share: one event set, names asked for once."""

    def __init__(self) -> None:
        import os

        clock = SystemClock()
        self.poller = Poller()
        self._resolver = Resolver(clock, from_environment(os.environ).dns_server)
        self._names: dict[str, Name] = {}

    def client(self, base_url: str, limits: Limits, tls: ssl.SSLContext | None) -> HttpClient:
        """A client with connections of its own."""
        host = urlsplit(base_url).hostname or ""
        if host not in self._names:
            self._names[host] = Name(self._resolver, host, self.poller.now)
        return HttpClient(
            base_url,
            self._resolver,
            poller=self.poller,
            limits=limits,
            tls=tls,
            name=self._names[host],
        )


@cache
def shared() -> Shared:
    """The one of this process; made when the first user is."""
    return Shared()


@cache
def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@cache
def _verified() -> ssl.SSLContext:
    return ssl.create_default_context()


class Response(FastResponse):
    """An answer, as ``FastHttpUser`` gives it; what nobody looks at is never made."""

    def __init__(
        self, exchange: Exchange, method: str, url: str, head: bytes, body: bytes | None
    ) -> None:
        # Not the base class's: it takes geventhttpclient's response apart.
        self._exchange = exchange
        self._method = method
        self._url = url
        self._head = head
        self._sent_body = body
        self.error: BaseException | None = None

    @property
    def status_code(self) -> int:
        """0 when there was no answer."""
        return self._exchange.status

    @property
    def headers(self) -> Headers | None:  # type: ignore[override]
        if "_headers" not in self.__dict__:
            head = self._exchange.head
            self._headers = Headers(all_headers(head.raw)) if head is not None else None
        return self._headers

    @property
    def content(self) -> bytes | None:  # type: ignore[override]
        if "_body" not in self.__dict__:
            self._body = self._decoded()
        return self._body

    @property
    def _response(self) -> _Body:  # type: ignore[override]
        """For what the base class reads from geventhttpclient's response."""
        if "_raw" not in self.__dict__:
            self._raw = _Body(self._exchange, self.content or b"")
        return self._raw

    @property
    def request(self) -> FastRequest:  # type: ignore[override]
        if "_request_made" not in self.__dict__:
            made = FastRequest(self._url, self._method, headers=Headers(all_headers(self._head)))
            made.payload = (self._sent_body or b"").decode("utf-8", "replace") or None
            self._request_made = made
        return self._request_made

    @property
    def url(self) -> str:
        return self._url

    @property
    def elapsed(self) -> Any:
        """From sending to the first byte of the answer."""
        from datetime import timedelta

        return timedelta(seconds=max(0.0, self._exchange.first_m - self._exchange.sent_m))

    @property
    def history(self) -> list[Any]:
        return self.__dict__.setdefault("_came_from", [])

    def _decoded(self) -> bytes | None:
        exchange = self._exchange
        if exchange.head is None:
            return None
        encoding = exchange.header("content-encoding").lower()
        if not encoding or encoding == "identity" or not exchange.body:
            return exchange.body
        if encoding == "gzip":
            return _inflated(exchange.body, 16 + zlib.MAX_WBITS)
        if encoding == "deflate":
            try:
                return _inflated(exchange.body, -zlib.MAX_WBITS)
            except zlib.error:
                return _inflated(exchange.body, zlib.MAX_WBITS)
        if encoding == "br":
            import brotli

            try:
                return bytes(brotli.decompress(exchange.body))
            except brotli.error as error:
                raise ValueError(f"not brotli: {error}") from error
        raise ValueError(f"Unknown content encoding: {encoding}")


def _inflated(body: bytes, window_bits: int) -> bytes:
    """Raises zlib.error for what is none or ends early, ValueError for what never seems to end."""
    stream = zlib.decompressobj(window_bits)
    content = stream.decompress(body, DECODED_MAX_BYTES)
    if not stream.eof:
        if stream.unconsumed_tail:
            raise ValueError(f"more than {DECODED_MAX_BYTES} bytes when decompressed")
        raise zlib.error("incomplete or truncated stream")
    return content


class _Body(io.BytesIO):
    """A body as geventhttpclient's response offers it."""

    def __init__(self, exchange: Exchange, content: bytes) -> None:
        super().__init__(content)
        self._exchange = exchange
        self.length = len(content)
        self.version = "HTTP/1.1"

    def get_code(self) -> int:
        return self._exchange.status

    def release(self) -> None:
        pass


class Caught(ResponseContextManager, Response):
    """An answer whose success the ``with`` block decides."""


class RestCaught(RestResponseContextManager, Caught):
    """The same, for ``rest``."""


#: Method, URL, size of the body, headers: the bytes of the head depend on nothing else.
_Key = tuple[str, str, int | None, tuple[tuple[str, str], ...]]


class _Known(NamedTuple):
    """A request whose head was made before."""

    client: HttpClient
    url: str
    fields: dict[str, str]
    head: bytes
    #: all of it, where it has no body
    ask: Ask | None


_repeats = Repeats()


class Session:
    """Requests of one user, with cookies and connections of its own."""

    auth_header: str | None = None

    def __init__(
        self,
        base_url: str,
        request_event: Any,
        user: User | None,
        *,
        limits: Limits,
        network_timeout_s: float,
        max_redirects: int,
        max_retries: int,
        tls: ssl.SSLContext,
        default_headers: dict[str, str],
        gate: BoundedSemaphore | None,
        clients: dict[tuple[str, str], HttpClient],
        proxy: str | None,
    ) -> None:
        self.request_event = request_event
        self.user = user
        self.cookiejar = CookieJar()
        self.request_name: str | None = None
        self._limits = limits
        self._timeout_s = network_timeout_s
        self._max_redirects = max_redirects
        self._max_retries = max_retries
        self._tls = tls
        self._headers = {"User-Agent": "harness", **default_headers}
        self._gate = gate
        self._clients = clients
        self._proxy = proxy
        self._heads: dict[_Key, _Known] = {}
        parts = urlsplit(base_url)
        if parts.username and parts.password:
            self.auth_header = _basic(unquote(parts.username), unquote(parts.password))
            parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        self.base_url = urlunsplit(parts)

    # ---- the verbs ------------------------------------------------------------------------

    def get(self, url: str, **kwargs: Any) -> Any:
        """Sends a GET request."""
        return self.request("GET", url, **kwargs)

    def head(self, url: str, **kwargs: Any) -> Any:
        """Sends a HEAD request."""
        return self.request("HEAD", url, **kwargs)

    def options(self, url: str, **kwargs: Any) -> Any:
        """Sends an OPTIONS request."""
        return self.request("OPTIONS", url, **kwargs)

    def delete(self, url: str, **kwargs: Any) -> Any:
        """Sends a DELETE request."""
        return self.request("DELETE", url, **kwargs)

    def post(self, url: str, data: Any = None, json: Any = None, **kwargs: Any) -> Any:
        """Sends a POST request."""
        return self.request("POST", url, data=data, json=json, **kwargs)

    def put(self, url: str, data: Any = None, **kwargs: Any) -> Any:
        """Sends a PUT request."""
        return self.request("PUT", url, data=data, **kwargs)

    def patch(self, url: str, data: Any = None, **kwargs: Any) -> Any:
        """Sends a PATCH request."""
        return self.request("PATCH", url, data=data, **kwargs)

    def iter_lines(self, url: str, method: str = "GET", **kwargs: Any) -> Generator[str]:
        """The lines of an answer, one by one."""
        response = self.request(method, url, stream=True, **kwargs)
        response.raise_for_status()
        text = (response.content or b"").decode("utf-8", "replace")
        lines = text.split("\n")
        yield from lines if lines[-1] else lines[:-1]

    @contextmanager
    def rename_request(self, name: str) -> Generator[None]:
        """Group requests under one name."""
        self.request_name = name
        try:
            yield
        finally:
            self.request_name = None

    def request(
        self,
        method: str,
        url: str,
        name: str | None = None,
        data: Any = None,
        catch_response: bool = False,
        stream: bool = False,
        headers: dict[str, str] | None = None,
        auth: tuple[str | bytes, str | bytes] | None = None,
        json: Any = None,
        allow_redirects: bool = True,
        context: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Send a request and tell Locust; the parameters are those of ``FastHttpSession``.

        ``kwargs``: ``params`` (a query string), ``files`` (a multipart form).
        """
        start_time = time.time()
        begun_m = time.perf_counter()
        key = None
        if auth is None and json is None and not kwargs and (data is None or type(data) is bytes):
            size = None if data is None else len(data)
            key = (method, url, size, tuple(headers.items()) if headers else ())
        known = self._heads.get(key) if key is not None and not self._has_cookies() else None
        if known is not None:
            built = known.url
            ask = known.ask or _asked(method, known.head, data)
            response = self._exchange(known.client, method, built, ask, known.head, data)
            if response.error is None and _needs_more(response):
                response = self._follow(response, method, data, known.fields, allow_redirects)
        else:
            built = self._built(url)
            response = self._whole(
                method, url, data, headers, auth, json, allow_redirects, key, kwargs
            )
        exchange = response._exchange
        if stream and exchange.first_m:
            response_time = (exchange.first_m - exchange.sent_m) * 1000
        else:
            response_time = (time.perf_counter() - begun_m) * 1000
        if response.error is None and exchange.status not in _VALID:
            response.error = LocustBadStatusCode(response.url, code=exchange.status)
        own = self.user.context() if self.user is not None else {}
        length = _length(response, stream)
        meta = {
            "request_type": method,
            "name": name or self.request_name or url,
            "context": {**own, **context} if context else own,
            "response": response,
            "exception": response.error,
            "start_time": start_time,
            "url": built,
            "response_length": length,
            "response_time": response_time,
        }
        if catch_response:
            return Caught(response, self.request_event, meta, catch_response)
        self.request_event.fire(**meta)
        return response

    # ---- one request ------------------------------------------------------------------------

    def _has_cookies(self) -> bool:
        # Counting them costs more than all else here; most often the jar was never used.
        jar = self.cookiejar
        return bool(jar._cookies) and len(jar) > 0  # type: ignore[attr-defined]

    def _built(self, url: str) -> str:
        return url if _ABSOLUTE.match(url) else f"{self.base_url}{url}"

    def _whole(
        self,
        method: str,
        url: str,
        data: Any,
        headers: dict[str, str] | None,
        auth: tuple[str | bytes, str | bytes] | None,
        json: Any,
        allow_redirects: bool,
        key: _Key | None,
        kwargs: dict[str, Any],
    ) -> Response:
        """Prepare a request in full, send it, and follow where it leads.

        ``key``: how its bytes are remembered, if it is of a kind that may be.
        """
        fields = {**self._headers, **(headers or {})}
        lower = {name.lower() for name in fields}
        if auth:
            fields["Authorization"] = _basic(*auth)
        elif self.auth_header:
            fields["Authorization"] = self.auth_header
        if "accept-encoding" not in lower:
            fields["Accept-Encoding"] = _ENCODINGS
        if not data and json is not None:
            data = json_module.dumps(json)
            if "content-type" not in lower:
                fields["Content-Type"] = "application/json"
            if not any(name.lower() == "accept" for name in headers or ()):
                fields["Accept"] = "application/json"
        built = self._built(url)
        built, body = _prepared(method, built, data, fields, kwargs)
        response = self._once(method, built, fields, body)
        if key is not None and not self._has_cookies() and response.error is None:
            if len(self._heads) >= _HEADS_MAX:
                self._heads.clear()
            ask = _asked(method, response._head, None) if data is None else None
            self._heads[key] = _Known(self._client(built), built, fields, response._head, ask)
        if response.error is None and _needs_more(response):
            return self._follow(response, method, body, fields, allow_redirects)
        return response

    def _once(self, method: str, url: str, fields: dict[str, str], body: bytes | None) -> Response:
        """Send with the cookies that belong to ``url``."""
        if self._has_cookies():
            carrier = FastRequest(url, method, headers=Headers(fields))
            self.cookiejar.add_cookie_header(carrier)
            fields = {**fields, **dict(carrier.headers.items())}
        parts = urlsplit(url)
        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
        if not _PLAIN.match(target):
            target = quote(target, _SAFE)
        if self._proxy is not None:
            target = f"{parts.scheme}://{parts.netloc}{target}"
        length = len(body) if body is not None else None
        request = request_bytes(
            method, target, parts.netloc.rpartition("@")[2], fields.items(), length
        )
        ask = _asked(method, request, body)
        return self._exchange(self._client(url), method, url, ask, request, body)

    def _exchange(
        self,
        client: HttpClient,
        method: str,
        url: str,
        ask: Ask,
        head: bytes,
        body: bytes | None,
    ) -> Response:
        """Send; again when asked to, and it may be."""
        left = self._max_retries if method in IDEMPOTENT else 0
        while True:
            if self._gate is not None:
                self._gate.acquire()
            try:
                exchange = client.perform(ask, client.now() + self._timeout_s)
            finally:
                if self._gate is not None:
                    self._gate.release()
            if not exchange.error or left <= 0:
                break
            left -= 1
        response = Response(exchange, method, url, head, body)
        if exchange.error:
            response.error = _exception(exchange.error, url)
        return response

    def _follow(
        self,
        response: Response,
        method: str,
        body: bytes | None,
        fields: dict[str, str],
        allow_redirects: bool,
    ) -> Response:
        """Keep the cookies of an answer, and go where it redirects to."""
        origin = urlsplit(response.url)[:2]
        came_from: list[Response] = []
        while response.error is None:
            head = response._exchange.head
            assert head is not None
            carrier = FastRequest(response.url, method, headers=Headers())
            if b"set-cookie" in head.raw.lower():
                self.cookiejar.extract_cookies(_Info(response.headers), carrier)  # type: ignore[arg-type]
            location = response._exchange.header("location")
            if not (allow_redirects and response.status_code in _REDIRECT and location):
                break
            if len(came_from) >= self._max_redirects:
                why = f"Redirection limit reached ({self._max_redirects})"
                # As FastHttpUser: not an answer, but a failure.
                lost = Response(
                    Exchange(), method, response.url, response._head, response._sent_body
                )
                lost.error = RetriesExceeded(response.url, why)
                return lost
            came_from.append(response)
            try:
                carrier.redirect(response.status_code, location)
                self._client(carrier.url)
            except AgentError as error:
                response.error = error
                break
            except ValueError as error:
                # No address at all; counted, not raised into the task.
                response.error = AgentError(location, str(error))
                break
            if response.status_code in (301, 302, 303):
                method, body = ("HEAD" if method == "HEAD" else "GET"), None
                dropped = ("content-length", "content-type", "content-encoding")
                fields = {k: v for k, v in fields.items() if k.lower() not in dropped}
            if urlsplit(carrier.url)[:2] != origin:
                fields = {k: v for k, v in fields.items() if k.lower() != "authorization"}
            response = self._once(method, carrier.url, fields or dict(self._headers), body)
        response._came_from = came_from
        return response

    def _client(self, url: str) -> HttpClient:
        parts = urlsplit(self._proxy or url)
        if self._proxy is not None and urlsplit(url).scheme == "https":
            raise LocustError("https through a proxy is not supported; use http, or no proxy")
        key = (parts.scheme, parts.netloc.rpartition("@")[2])
        client = self._clients.get(key)
        if client is None:
            base = f"{key[0]}://{key[1]}"
            client = self._clients[key] = shared().client(base, self._limits, self._tls)
        return client


class _Info:
    """What a cookie jar wants of a response."""

    def __init__(self, headers: Headers | None) -> None:
        import http.client

        self._message = http.client.HTTPMessage()
        for name, value in (headers or Headers()).items():
            self._message.add_header(name, value)

    def info(self) -> Any:
        return self._message


def _asked(method: str, head: bytes, body: bytes | None) -> Ask:
    return Ask(method, head, _repeats.of(body) if body else body)


def _needs_more(response: Response) -> bool:
    """Whether it redirects somewhere, or sets a cookie."""
    head = response._exchange.head
    if head is None or head.plain:
        return False
    return head.status in _REDIRECT or b"set-cookie" in head.raw.lower()


def _length(response: Response, stream: bool) -> int:
    exchange = response._exchange
    if stream:
        stated = exchange.header("content-length")
        return int(stated) if stated.isdigit() else 0
    head = exchange.head
    if head is None or head.plain:
        return len(exchange.body)
    try:
        return len(response.content or b"")
    except (zlib.error, ValueError) as error:
        response.error = response.error or error
        return 0


def _basic(user: str | bytes, password: str | bytes) -> str:
    pair = [x.encode("latin-1") if isinstance(x, str) else x for x in (user, password)]
    return "Basic " + base64.b64encode(b":".join(pair)).decode("ascii")


def _prepared(
    method: str, url: str, data: Any, fields: dict[str, str], kwargs: dict[str, Any]
) -> tuple[str, bytes | None]:
    """URL and body; the headers that belong to them are put into ``fields``."""
    typed = any(name.lower() == "content-type" for name in fields)
    if isinstance(data, (str, bytes, bytearray)) and "files" not in kwargs:
        if not typed:
            text = isinstance(data, str)
            fields["Content-Type"] = "text/plain; charset=utf-8" if text else _BYTES
        data = data.encode("utf-8") if isinstance(data, str) else bytes(data)
    if not kwargs and (data is None or isinstance(data, bytes)):
        return url, data
    unknown = set(kwargs) - {"params", "files"}
    if unknown:
        raise LocustError(f"request() got unexpected arguments: {', '.join(sorted(unknown))}")
    made = requests.Request(
        method,
        url,
        params=kwargs.get("params"),
        data=data if data is not None else {},
        files=kwargs.get("files"),
    ).prepare()
    kind = made.headers.get("Content-Type")
    if kind == "application/x-www-form-urlencoded":
        kind += "; charset=utf-8"
    if kind and not typed:
        fields["Content-Type"] = kind
    body = made.body
    if body is not None and not isinstance(body, (str, bytes)):
        body = b"".join(x if isinstance(x, bytes) else x.encode() for x in body)
    return str(made.url), body.encode("utf-8") if isinstance(body, str) else body


_EXCEPTIONS: dict[str, Callable[[str], BaseException]] = {
    "refused": lambda url: ConnectionRefusedError(111, "Connection refused"),
    "reset": lambda url: ConnectionResetError(104, "Connection reset by peer"),
    "closed": lambda url: HTTPConnectionClosed("connection closed."),
    "dns": lambda url: socket.gaierror(-2, "Name or service not known"),
    "timeout": lambda url: TimeoutError("timed out"),
    "first-byte-timeout": lambda url: TimeoutError("timed out"),
    "connect-timeout": lambda url: TimeoutError("timed out"),
    "tls": lambda url: ssl.SSLError("TLS handshake failed"),
}


def _exception(name: str, url: str) -> BaseException:
    """What ``FastHttpUser`` would have raised; always one of its failure exceptions."""
    made = _EXCEPTIONS.get(name)
    if made is not None:
        return made(url)
    if name in ("bad-response", "wrong-length", "head-too-large", "unasked"):
        return HTTPParseError(name)
    return AgentError(url, name)


class HarnessUser(User, RestMixin[Any]):
    """A user with the attributes and the ``client`` of Locust's ``FastHttpUser``."""

    abstract = True

    network_timeout: float = 60.0
    connection_timeout: float = 60.0
    max_redirects: int = 30
    max_retries: int = 0
    insecure: bool = True
    default_headers: dict[str, str] | None = None
    concurrency: int = 10
    proxy_host: str | None = None
    proxy_port: int | None = None
    #: anything shared by users of a class makes them share their connections
    client_pool: Any = None
    ssl_context_factory: Callable[[], ssl.SSLContext] | None = None
    #: seconds after which a connection is closed, so that clients spread again after a change
    connection_age: float = 3600.0

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        if self.host is None:
            raise StopTest(
                "You must specify the base host. Either in the host attribute in the User class, "
                "or on the command line using the --host option."
            )
        self.client = Session(
            self.host,
            environment.events.request,
            self,
            limits=Limits(
                connect_s=self.connection_timeout,
                max_age_s=self.connection_age,
                max_connections=1_000_000,
            ),
            network_timeout_s=self.network_timeout,
            max_redirects=self.max_redirects,
            max_retries=self.max_retries,
            tls=self._tls_context(),
            default_headers=dict(self.default_headers or {}),
            gate=self._gate(),
            clients=_pooled(self.client_pool) if self.client_pool is not None else {},
            proxy=f"http://{self.proxy_host}:{self.proxy_port}" if self.proxy_host else None,
        )

    def _tls_context(self) -> ssl.SSLContext:
        # Staticmethod or plain function of the class: called without the user.
        factory = type(self).__dict__.get("ssl_context_factory", self.ssl_context_factory)
        if factory is not None:
            return getattr(factory, "__func__", factory)()
        return _unverified() if self.insecure else _verified()

    def _gate(self) -> BoundedSemaphore | None:
        """Admits as many requests at once as the pool allows; a lone user has one greenlet."""
        if self.client_pool is None:
            return None
        return _gates(self.client_pool)


_pools: dict[int, tuple[Any, dict[tuple[str, str], HttpClient], BoundedSemaphore]] = {}


def _pool(pool: Any) -> tuple[Any, dict[tuple[str, str], HttpClient], BoundedSemaphore]:
    if id(pool) not in _pools:
        size = int(getattr(pool, "concurrency", 0) or HarnessUser.concurrency)
        _pools[id(pool)] = (pool, {}, BoundedSemaphore(size))
    return _pools[id(pool)]


def _pooled(pool: Any) -> dict[tuple[str, str], HttpClient]:
    return _pool(pool)[1]


def _gates(pool: Any) -> BoundedSemaphore:
    return _pool(pool)[2]


#: Exceptions that :meth:`Response.raise_for_status` may raise.
FAILURES = FAILURE_EXCEPTIONS
