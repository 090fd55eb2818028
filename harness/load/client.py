"""A small HTTP/1.1 client whose every failure has a stable short name.

Written on plain sockets: it behaves the same under gevent's patching (inside Locust)
and with threads (read-back), costs a fraction of a general client, and keeps three
promises such clients do not: a deadline for the whole exchange, a maximum age for
connections, and no reuse of a connection to an address DNS no longer gives.

Failures are data (:attr:`Exchange.error`), never exceptions: ``dns``,
``connect-timeout``, ``refused``, ``unreachable``, ``tls``, ``timeout``, ``first-byte-timeout``,
``reset``, ``closed`` (the peer closed before the answer was whole), ``bad-response``.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from harness.clock import Clock
from harness.load.resolver import ResolveError, Resolver

_READ_BYTES = 64 * 1024
_MAX_HEADER_BYTES = 64 * 1024
_NO_BODY = (204, 304)


@dataclass(frozen=True)
class Limits:
    """Deadlines and the life of connections, in seconds.

    ``first_byte_s`` None: only the exchange's own deadline counts. A connection is
    closed ``max_age_s`` after it was made, so that clients spread again after a change.
    """

    connect_s: float = 2.0
    first_byte_s: float | None = None
    max_age_s: float = 10.0
    max_idle: int = 512


@dataclass
class Exchange:
    """What became of one request.

    ``error`` is empty when a whole response was read, whatever its status. ``sent``
    says whether any byte of the request may have reached the service: if not, the
    operation surely did not happen. Header names are lower case.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str = ""
    sent: bool = False
    address: str = ""
    received_bytes: int = 0

    def header(self, name: str) -> str:
        return self.headers.get(name, "")


@dataclass
class ClientCounts:
    """What the client did since it was made. ``reconnects``: sent again on a new
    connection because a kept one had been closed before any byte of the answer."""

    connections: int = 0
    reused: int = 0
    reconnects: int = 0
    aged_out: int = 0
    dropped_by_dns: int = 0


class _Failure(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _Connection:
    """One socket, the address it goes to, when it was made, and bytes read too many."""

    def __init__(self, sock: socket.socket, address: str, made_m: float) -> None:
        self.sock = sock
        self.address = address
        self.made_m = made_m
        self.exchanges = 0
        self.buffer = b""

    def is_quiet(self) -> bool:
        """Whether an idle connection is open with nothing to read.

        Asked by reading, not by select(2), which cannot see descriptors above 1023.
        """
        try:
            self.sock.settimeout(0.0)
            self.sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        self.sock.close()


class HttpClient:
    """Requests to one base URL (``http://host:port`` or https), on kept connections.

    Safe to share between threads or greenlets.
    """

    def __init__(
        self, base_url: str, resolver: Resolver, clock: Clock, limits: Limits | None = None
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{base_url!r} is not an http:// or https:// address")
        self.counts = ClientCounts()
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        self._host_header = parts.netloc.rpartition("@")[2]
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._resolver = resolver
        self._clock = clock
        self._limits = limits or Limits()
        self._idle: dict[str, list[_Connection]] = {}
        self._lock = threading.Lock()
        self._turn = itertools.count()

    def request(
        self,
        method: str,
        path: str,
        *,
        deadline_m: float,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Exchange:
        """Send one request and read the whole answer, all before ``deadline_m`` (monotonic).

        A request on a kept connection that turns out to be closed, before any byte of
        an answer, is sent once more on a new one, as HTTP allows for the methods used
        here (all idempotent).
        """
        exchange = Exchange()
        head = self._head(method, path, headers or {}, len(body))
        try:
            try:
                self._attempt(exchange, method, head, body, deadline_m, fresh=False)
            except _StaleConnection:
                self.counts.reconnects += 1
                self._attempt(exchange, method, head, body, deadline_m, fresh=True)
        except _Failure as failure:
            exchange.error = failure.name
        return exchange

    def close(self) -> None:
        """Close every idle connection."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _head(self, method: str, path: str, headers: Mapping[str, str], length: int) -> bytes:
        lines = [f"{method} {self._prefix}{path} HTTP/1.1", f"Host: {self._host_header}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if length or method in ("PUT", "POST"):
            lines.append(f"Content-Length: {length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _attempt(
        self,
        exchange: Exchange,
        method: str,
        head: bytes,
        body: bytes,
        deadline_m: float,
        *,
        fresh: bool,
    ) -> None:
        connection = self._connection(deadline_m, fresh=fresh)
        exchange.address = connection.address
        reused = connection.exchanges > 0
        connection.exchanges += 1
        keep = False
        try:
            exchange.sent = True
            self._send(connection, head, body, deadline_m)
            keep = self._read_response(connection, exchange, method, deadline_m)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError) as error:
            if reused and not exchange.received_bytes:
                raise _StaleConnection from error
            raise _Failure("reset") from error
        except TimeoutError as error:
            raise _Failure("timeout") from error
        except OSError as error:
            raise _Failure("reset") from error
        except _Closed as error:
            if reused and not exchange.received_bytes:
                raise _StaleConnection from error
            raise _Failure("closed") from error
        finally:
            if keep:
                self._keep(connection)
            else:
                connection.close()

    # -- connections ---------------------------------------------------------------

    def _connection(self, deadline_m: float, *, fresh: bool) -> _Connection:
        try:
            addresses = self._resolver.addresses(self._host)
        except ResolveError as error:
            raise _Failure("dns") from error
        self._drop_unlisted(addresses)
        if not fresh:
            kept = self._take_idle(addresses)
            if kept is not None:
                return kept
        return self._connect(addresses, deadline_m)

    def _drop_unlisted(self, addresses: tuple[str, ...]) -> None:
        with self._lock:
            gone = [address for address in self._idle if address not in addresses]
            dropped = [connection for a in gone for connection in self._idle.pop(a)]
        self.counts.dropped_by_dns += len(dropped)
        for connection in dropped:
            connection.close()

    def _take_idle(self, addresses: tuple[str, ...]) -> _Connection | None:
        oldest_m = self._clock.monotonic_s() - self._limits.max_age_s
        first = next(self._turn)
        for i in range(len(addresses)):
            address = addresses[(first + i) % len(addresses)]
            while True:
                with self._lock:
                    kept = self._idle.get(address)
                    if not kept:
                        break
                    connection = kept.pop()
                if connection.made_m <= oldest_m:
                    self.counts.aged_out += 1
                elif connection.is_quiet():
                    self.counts.reused += 1
                    return connection
                connection.close()
        return None

    def _keep(self, connection: _Connection) -> None:
        with self._lock:
            kept = self._idle.setdefault(connection.address, [])
            if len(kept) < self._limits.max_idle and not connection.buffer:
                kept.append(connection)
                return
        connection.close()

    def _connect(self, addresses: tuple[str, ...], deadline_m: float) -> _Connection:
        first = next(self._turn)
        failure = _Failure("connect-timeout")
        for i in range(len(addresses)):
            address = addresses[(first + i) % len(addresses)]
            left_s = min(self._limits.connect_s, deadline_m - self._clock.monotonic_s())
            if left_s <= 0:
                break
            try:
                return self._open(address, left_s)
            except ssl.SSLError:
                failure = _Failure("tls")
            except ConnectionRefusedError:
                failure = _Failure("refused")
            except TimeoutError:
                failure = _Failure("connect-timeout")
            except ConnectionError:
                failure = _Failure("reset")
            except OSError:
                failure = _Failure("unreachable")
        raise failure

    def _open(self, address: str, timeout_s: float) -> _Connection:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout_s)
            sock.connect((address, self._port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_hostname=self._host)
        except BaseException:
            sock.close()
            raise
        self.counts.connections += 1
        return _Connection(sock, address, self._clock.monotonic_s())

    # -- one exchange --------------------------------------------------------------

    def _send(self, connection: _Connection, head: bytes, body: bytes, deadline_m: float) -> None:
        connection.sock.settimeout(self._left_s(deadline_m))
        connection.sock.sendall(head + body if body else head)

    def _left_s(self, deadline_m: float) -> float:
        left_s = deadline_m - self._clock.monotonic_s()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def _read_response(
        self, connection: _Connection, exchange: Exchange, method: str, deadline_m: float
    ) -> bool:
        """Read one whole response into ``exchange``; whether the connection may be kept."""
        reader = _Reader(connection, exchange, self._left_s, deadline_m)
        self._wait_first_byte(reader, deadline_m)
        version = ""
        while not exchange.status or 100 <= exchange.status < 200:
            version, exchange.status = _status_line(reader.until(b"\r\n"))
            exchange.headers = _headers(reader)
        encoding = exchange.header("transfer-encoding").lower()
        length = exchange.header("content-length")
        close = exchange.header("connection").lower() == "close" or version != "HTTP/1.1"
        if method == "HEAD" or exchange.status in _NO_BODY:
            pass
        elif encoding:
            if encoding != "chunked":
                raise _Failure("bad-response")
            exchange.body = _chunked(reader)
        elif length:
            exchange.body = reader.exactly(_number(length, 10))
        else:
            exchange.body = reader.to_the_end()
            close = True
        connection.buffer = reader.rest()
        return not close

    def _wait_first_byte(self, reader: _Reader, deadline_m: float) -> None:
        wait_s = self._limits.first_byte_s
        first_m = deadline_m if wait_s is None else self._clock.monotonic_s() + wait_s
        try:
            reader.more(min(first_m, deadline_m))
        except TimeoutError as error:
            if first_m < deadline_m:
                raise _Failure("first-byte-timeout") from error
            raise


class _StaleConnection(Exception):
    """A kept connection had been closed by the peer before it answered anything."""


class _Closed(Exception):
    """The peer closed the connection before the response was whole."""


class _Reader:
    """Reads a response piece by piece, each read under the exchange's deadline."""

    def __init__(
        self,
        connection: _Connection,
        exchange: Exchange,
        left_s: Callable[[float], float],
        deadline_m: float,
    ) -> None:
        self._sock = connection.sock
        self._exchange = exchange
        self._left_s = left_s
        self._deadline_m = deadline_m
        self._buffer = bytearray(connection.buffer)
        connection.buffer = b""

    def more(self, deadline_m: float | None = None) -> None:
        self._sock.settimeout(self._left_s(deadline_m or self._deadline_m))
        data = self._sock.recv(_READ_BYTES)
        if not data:
            raise _Closed
        self._exchange.received_bytes += len(data)
        self._buffer += data

    def until(self, mark: bytes) -> bytes:
        start = 0
        while (at := self._buffer.find(mark, start)) < 0:
            if len(self._buffer) > _MAX_HEADER_BYTES:
                raise _Failure("bad-response")
            start = max(0, len(self._buffer) - len(mark))
            self.more()
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        return found

    def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self.more()
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def to_the_end(self) -> bytes:
        try:
            while True:
                self.more()
        except _Closed:
            return self.rest()

    def rest(self) -> bytes:
        found = bytes(self._buffer)
        self._buffer.clear()
        return found


def _status_line(line: bytes) -> tuple[str, int]:
    version, _, rest = line.partition(b" ")
    code = rest[:3]
    if not version.startswith(b"HTTP/1.") or len(code) != 3 or not code.isdigit():
        raise _Failure("bad-response")
    return version.decode("ascii", "replace"), int(code)


def _headers(reader: _Reader) -> dict[str, str]:
    found: dict[str, str] = {}
    while line := reader.until(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon:
            raise _Failure("bad-response")
        found[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
    return found


def _chunked(reader: _Reader) -> bytes:
    body = bytearray()
    while size := _number(reader.until(b"\r\n").partition(b";")[0].decode("latin-1"), 16):
        body += reader.exactly(size)
        if reader.exactly(2) != b"\r\n":
            raise _Failure("bad-response")
    _headers(reader)  # trailers
    return bytes(body)


def _number(text: str, base: int) -> int:
    try:
        value = int(text.strip(), base)
    except ValueError as error:
        raise _Failure("bad-response") from error
    if value < 0:
        raise _Failure("bad-response")
    return value
