"""Names of the lab, asked for at the lab's own DNS server.

A name in use is refreshed in the background as its TTL allows (at most about a
second), so a request never waits for DNS and a moved name is followed within a
second. When the server does not answer, the last good answer serves for 30 s.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import socket
import struct
from dataclasses import dataclass

_TYPE_A, _TYPE_CNAME = 1, 5
_NOERROR, _NXDOMAIN = 0, 3
QUERY_TIMEOUT_S = 0.5
#: A TTL of zero still means at most this many questions a second per name.
MIN_REFRESH_S = 0.25
UNUSED_S = 15.0


class DnsError(Exception):
    """No usable answer: the server is silent, or says that it cannot tell."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``addresses`` may be empty (the name has none). ``canonical`` is the last name reached."""

    addresses: tuple[str, ...]
    canonical: str
    ttl_s: float


def encode_query(number: int, name: str) -> bytes:
    """A DNS question for the A records of ``name``."""
    labels = b"".join(
        bytes([len(part)]) + part.encode("ascii") for part in name.rstrip(".").split(".")
    )
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">xHH", 1, 1)


def _read_name(packet: bytes, at: int) -> tuple[str, int]:
    labels: list[str] = []
    end = -1
    for _ in range(128):
        size = packet[at]
        if size >= 0xC0:
            end = at + 2 if end < 0 else end
            at = struct.unpack_from(">H", packet, at)[0] & 0x3FFF
        elif size == 0:
            return ".".join(labels), (at + 1 if end < 0 else end)
        else:
            labels.append(packet[at + 1 : at + 1 + size].decode("latin-1"))
            at += 1 + size
    raise DnsError("a name in the answer points at itself")


def decode_answer(packet: bytes) -> Answer:
    """Raises DnsError when the server failed or the packet makes no sense."""
    try:
        _, flags, questions, answers = struct.unpack_from(">4H", packet)
        if flags & 0x0F not in (_NOERROR, _NXDOMAIN):
            raise DnsError(f"the DNS server answered with code {flags & 0x0F}")
        at = 12
        canonical = ""
        for _ in range(questions):
            canonical, at = _read_name(packet, at)
            at += 4
        addresses: list[str] = []
        ttl_s = 3600.0
        for _ in range(answers):
            _, at = _read_name(packet, at)
            kind, _, ttl, size = struct.unpack_from(">HHIH", packet, at)
            at += 10
            if kind == _TYPE_A:
                addresses.append(socket.inet_ntoa(packet[at : at + 4]))
            elif kind == _TYPE_CNAME:
                canonical = _read_name(packet, at)[0]
            ttl_s = min(ttl_s, float(ttl))
            at += size
    except (struct.error, IndexError, OSError) as error:
        raise DnsError("the DNS answer is cut short") from error
    if not answers:
        ttl_s = 0.0
    return Answer(tuple(addresses), canonical, ttl_s)


def is_address(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


class _Socket(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.waiting: dict[int, asyncio.Future[bytes]] = {}

    def datagram_received(self, data: bytes, addr: object) -> None:
        if len(data) >= 12:
            future = self.waiting.pop(struct.unpack_from(">H", data)[0], None)
            if future and not future.done():
                future.set_result(data)

    def error_received(self, exc: Exception) -> None:
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(DnsError(f"the DNS server cannot be reached: {exc}"))
        self.waiting.clear()


class _Entry:
    __slots__ = ("answer", "asking", "at_s", "used_s", "watcher")

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.at_s = 0.0
        self.used_s = 0.0
        self.asking: asyncio.Task[Answer] | None = None
        self.watcher: asyncio.Task[None] | None = None


class Resolver:
    """Caching resolver of A records at one server (host, port)."""

    def __init__(
        self, server: tuple[str, int], *, refresh_s: float = 1.0, keep_s: float = 30.0
    ) -> None:
        self._server = server
        self._refresh_s = refresh_s
        self._keep_s = keep_s
        self._entries: dict[str, _Entry] = {}
        self._numbers = itertools.cycle(range(1, 65536))
        self._socket: _Socket | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def lookup(self, name: str, *, fresh: bool = False) -> Answer:
        """The answer for ``name``; ``fresh`` asks the server now. Raises DnsError."""
        now_s = asyncio.get_running_loop().time()
        entry = self._entries.setdefault(name, _Entry())
        entry.used_s = now_s
        watched = entry.watcher is not None and not entry.watcher.done()
        if not watched:
            entry.watcher = asyncio.create_task(self._watch(name, entry))
            # An answer nobody refreshed is only as good as its TTL.
            fresh = fresh or not entry.answer or now_s - entry.at_s > entry.answer.ttl_s
        if entry.answer is None or fresh:
            try:
                await self._ask(name, entry)
            except DnsError:
                if not self._usable(entry):
                    raise
        if entry.answer is None or not self._usable(entry):
            raise DnsError(f"no answer for {name} from the DNS server for {self._keep_s:.0f} s")
        return entry.answer

    async def addresses(self, host: str, *, fresh: bool = False) -> tuple[str, ...]:
        """Addresses of ``host``, which may be an address itself. Raises DnsError."""
        if is_address(host):
            return (host,)
        return (await self.lookup(host, fresh=fresh)).addresses

    async def close(self) -> None:
        for entry in self._entries.values():
            if entry.watcher:
                entry.watcher.cancel()
        if self._transport:
            self._transport.close()

    def _usable(self, entry: _Entry) -> bool:
        age_s = asyncio.get_running_loop().time() - entry.at_s
        return entry.answer is not None and age_s <= self._keep_s

    async def _watch(self, name: str, entry: _Entry) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() - entry.used_s < UNUSED_S:
            ttl_s = entry.answer.ttl_s if entry.answer else 0.0
            await asyncio.sleep(min(max(ttl_s, MIN_REFRESH_S), self._refresh_s))
            try:
                await self._ask(name, entry)
            except DnsError:
                continue

    async def _ask(self, name: str, entry: _Entry) -> None:
        """Ask once for all who wait."""
        if entry.asking is None or entry.asking.done():
            entry.asking = asyncio.create_task(self._query(name))
        entry.answer = await asyncio.shield(entry.asking)
        entry.at_s = asyncio.get_running_loop().time()

    async def _query(self, name: str) -> Answer:
        for attempt in (1, 2):
            if self._transport is None or self._transport.is_closing():
                await self._open()
            assert self._socket and self._transport
            number = next(self._numbers)
            future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._socket.waiting[number] = future
            self._transport.sendto(encode_query(number, name))
            try:
                return decode_answer(await asyncio.wait_for(future, QUERY_TIMEOUT_S))
            except TimeoutError:
                self._socket.waiting.pop(number, None)
                if attempt == 2:
                    raise DnsError("the DNS server does not answer") from None
        raise AssertionError("unreachable")

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport, protocol = await loop.create_datagram_endpoint(
                _Socket, remote_addr=self._server
            )
        except OSError as error:
            raise DnsError(f"the DNS server cannot be reached: {error}") from error
        self._transport, self._socket = transport, protocol
