"""A small authoritative DNS server (UDP and TCP) that asks a function for each answer.

What the names mean is decided elsewhere (``harness.lab.route53`` for hosted zones);
here is only the protocol. A packet that cannot be read is dropped, or answered with
FORMERR where its id can be told, and never ends the server.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from dnslib import AAAA, CNAME, NS, QTYPE, RCODE, RR, SOA, TXT, A, DNSError, DNSHeader, DNSRecord
from dnslib.bimap import BimapError

_log = logging.getLogger(__name__)

_SOA_TIMES = (1, 7200, 900, 1209600, 1)
_UDP_SIZE_BYTES = 1232
_TCP_IDLE_S = 10.0


@dataclass(frozen=True)
class Record:
    """One resource record. ``value`` is an address, a name or a text."""

    name: str
    type: str
    ttl_s: int
    value: str


@dataclass(frozen=True)
class Answer:
    """What is known about a name.

    No records with ``NOERROR`` is NODATA (the name exists, the type does not). ``zone``
    is named in the authority section of negative answers.
    """

    records: tuple[Record, ...] = ()
    rcode: str = "NOERROR"
    zone: str = ""
    additional: tuple[Record, ...] = field(default=())


#: (name without final dot and in lower case, type) → answer; None: not our zone (REFUSED)
AnswerFunction = Callable[[str, str], Answer | None]


class DnsServer:
    """Serves ``answer`` on UDP and TCP of one address.

    ``async with DnsServer(...)`` or :meth:`start` and :meth:`close`. Raises OSError from
    ``start`` when the address is taken. ``queries`` counts what was answered.
    """

    def __init__(self, host: str, port: int, answer: AnswerFunction) -> None:
        self.host = host
        self.port = port
        self.queries = 0
        self._answer = answer
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None

    async def start(self) -> None:
        self._tcp = await asyncio.start_server(self._serve_stream, self.host, self.port)
        self.port = self._tcp.sockets[0].getsockname()[1]
        try:
            self._udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Datagrams(self), local_addr=(self.host, self.port)
            )
        except OSError:
            self._tcp.close()
            raise

    async def close(self) -> None:
        if self._udp:
            self._udp.close()
        if self._tcp:
            self._tcp.close()

    async def __aenter__(self) -> DnsServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def reply(self, packet: bytes, *, udp: bool) -> bytes | None:
        """The reply to one packet, or None where none is due."""
        try:
            request = DNSRecord.parse(packet)
            if request.header.qr or len(request.questions) != 1:
                return None if request.header.qr else _format_error(packet)
            name = str(request.q.qname).rstrip(".").lower()
            kind = QTYPE.get(request.q.qtype)
        except (DNSError, BimapError, struct.error, ValueError, IndexError, UnicodeError):
            return _format_error(packet)
        self.queries += 1
        reply = request.reply(ra=0, aa=1)
        try:
            _fill(reply, self._answer(name, str(kind)))
        except Exception:  # noqa: BLE001 - a defect in the zone data must not end DNS
            _log.exception("no answer for %s %s", name, kind)
            reply = request.reply(ra=0, aa=1)
            reply.header.rcode = RCODE.SERVFAIL
        packed = bytes(reply.pack())
        if udp and len(packed) > _UDP_SIZE_BYTES:
            reply = request.reply(ra=0, aa=1)
            reply.header.tc = 1
            return bytes(reply.pack())
        return packed

    async def _serve_stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while True:
                async with asyncio.timeout(_TCP_IDLE_S):
                    (size,) = struct.unpack("!H", await reader.readexactly(2))
                    packet = await reader.readexactly(size)
                reply = self.reply(packet, udp=False)
                if reply is None:
                    return
                writer.write(struct.pack("!H", len(reply)) + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, TimeoutError, OSError):
            return
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        reply = self._server.reply(data, udp=True)
        if reply is not None and self._transport:
            self._transport.sendto(reply, addr)


def _fill(reply: DNSRecord, answer: Answer | None) -> None:
    if answer is None:
        reply.header.aa = 0
        reply.header.rcode = RCODE.REFUSED
        return
    reply.header.rcode = getattr(RCODE, answer.rcode)
    for record in answer.records:
        reply.add_answer(_rr(record))
    for record in answer.additional:
        reply.add_ar(_rr(record))
    if not answer.records and answer.zone:
        soa = SOA(f"ns.{answer.zone}", f"hostmaster.{answer.zone}", _SOA_TIMES)
        reply.add_auth(RR(answer.zone, QTYPE.SOA, rdata=soa, ttl=_SOA_TIMES[-1]))


def _rr(record: Record) -> RR:
    data = _RDATA[record.type](record.value)
    return RR(record.name, getattr(QTYPE, record.type), rdata=data, ttl=record.ttl_s)


def _soa(value: str) -> SOA:
    mname, rname, *times = value.split()
    return SOA(mname, rname, tuple(int(t) for t in times))


_RDATA: dict[str, Callable[[str], Any]] = {
    "A": A,
    "AAAA": AAAA,
    "CNAME": CNAME,
    "NS": NS,
    "SOA": _soa,
    "TXT": lambda value: TXT(value.strip('"')),
}


def _format_error(packet: bytes) -> bytes | None:
    """FORMERR for a packet whose id can be read; never for a response (no reply loops)."""
    if len(packet) < 12 or packet[2] & 0x80:
        return None
    header = DNSHeader(id=struct.unpack("!H", packet[:2])[0], qr=1, rcode=RCODE.FORMERR)
    return bytes(DNSRecord(header).pack())
