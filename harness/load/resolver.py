"""Name resolution that honours TTL, from the target's own DNS server.

Failover by DNS reaches only clients that ask again. A generator that resolved once
would go on sending to the lost region for ever, so here an answer is used for as long
as its TTL allows and no longer; when the DNS server does not answer, the last good
answer is used for a while, and that is counted.
"""

from __future__ import annotations

import ipaddress
import random
import socket
import threading
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from harness.clock import Clock

#: How long an answer outlives its TTL when the DNS server cannot be reached.
KEEP_LAST_GOOD_S = 30.0
#: TTL of what the system's resolver says (it does not tell).
SYSTEM_TTL_S = 5.0
#: After a failed query the next is made this much later, not at every request.
RETRY_AFTER_S = 0.5


class ResolveError(Exception):
    """The name has no address that may be used."""


@dataclass(frozen=True)
class Answer:
    """Addresses of a name, good until ``expires_m`` (monotonic seconds)."""

    addresses: tuple[str, ...]
    expires_m: float


@dataclass
class ResolverCounts:
    """What the resolver did since it was made."""

    queries: int = 0
    failures: int = 0
    served_last_good: int = 0


class Resolver:
    """Addresses of host names. Safe to share between threads or greenlets.

    ``server`` is ``host:port`` of a DNS server, or None for the system's resolver.
    """

    def __init__(
        self, clock: Clock, server: str | None = None, *, query_timeout_s: float = 1.0
    ) -> None:
        self.counts = ResolverCounts()
        self._clock = clock
        self._server = _host_port(server) if server else None
        self._query_timeout_s = query_timeout_s
        self._answers: dict[str, Answer] = {}
        self._retry_m: dict[str, float] = {}
        self._refreshing = threading.Lock()

    def answer(self, host: str) -> Answer:
        """Addresses of ``host`` and until when they are good; past already if DNS does not answer.

        Raises ResolveError as :meth:`addresses` does.
        """
        addresses = self.addresses(host)
        kept = self._answers.get(host)
        return Answer(addresses, kept.expires_m if kept else float("inf"))

    def addresses(self, host: str) -> tuple[str, ...]:
        """Addresses of ``host`` that may be used now, in the order DNS gave them.

        Raises ResolveError when there are none: no such name, or the DNS server has
        not answered for longer than the last good answer may be kept.
        """
        if is_address(host):
            return (host,)
        answer = self._answers.get(host)
        if answer and self._clock.monotonic_s() < answer.expires_m:
            return answer.addresses
        # One asks; the others wait only if there is no answer to go on with meanwhile.
        usable = self._last_good(host) is not None
        if not self._refreshing.acquire(blocking=not usable):
            return self._kept(host)
        try:
            return self._refresh(host)
        finally:
            self._refreshing.release()

    def _refresh(self, host: str) -> tuple[str, ...]:
        now_m = self._clock.monotonic_s()
        answer = self._answers.get(host)
        if answer and now_m < answer.expires_m:
            return answer.addresses  # another one asked while we waited
        if now_m < self._retry_m.get(host, 0.0):
            return self._kept(host)
        self.counts.queries += 1
        try:
            addresses, ttl_s = self._query(host)
        except (OSError, ResolveError, dns.exception.DNSException) as error:
            self.counts.failures += 1
            self._retry_m[host] = self._clock.monotonic_s() + RETRY_AFTER_S
            return self._kept(host, because=str(error))
        self._answers[host] = Answer(addresses, now_m + ttl_s)
        return addresses

    def _last_good(self, host: str) -> Answer | None:
        answer = self._answers.get(host)
        if answer and self._clock.monotonic_s() < answer.expires_m + KEEP_LAST_GOOD_S:
            return answer
        return None

    def _kept(self, host: str, because: str = "asked a moment ago in vain") -> tuple[str, ...]:
        answer = self._last_good(host)
        if answer is None:
            raise ResolveError(f"{host}: {because}")
        self.counts.served_last_good += 1
        return answer.addresses

    def _query(self, host: str) -> tuple[tuple[str, ...], float]:
        if self._server is None:
            found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
            return tuple(dict.fromkeys(str(entry[4][0]) for entry in found)), SYSTEM_TTL_S
        return query(host, self._server, self._query_timeout_s)


def query(host: str, server: tuple[str, int], timeout_s: float) -> tuple[tuple[str, ...], float]:
    """Ask ``server`` for the IPv4 addresses of ``host``: (addresses, TTL in seconds).

    The TTL is the smallest on the way (a CNAME's included). Raises OSError when nothing
    comes back in time, ResolveError when there is no address.
    """
    # An id nobody else can guess is not a matter of reproducibility: let the OS draw it.
    request = dns.message.make_query(
        host, dns.rdatatype.A, id=random.SystemRandom().getrandbits(16)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.settimeout(timeout_s)
        channel.connect(server)
        channel.send(request.to_wire())
        reply = dns.message.from_wire(channel.recv(4096))
    if not request.is_response(reply):
        raise ResolveError(f"{host}: the DNS server answered another question")
    if reply.rcode() != dns.rcode.NOERROR:
        raise ResolveError(f"{host}: {dns.rcode.to_text(reply.rcode())}")
    chain = reply.resolve_chaining()
    if chain.answer is None or not len(chain.answer):
        raise ResolveError(f"{host}: no address")
    return tuple(record.address for record in chain.answer), float(chain.minimum_ttl)


def _host_port(server: str) -> tuple[str, int]:
    host, colon, port = server.rpartition(":")
    return (host, int(port)) if colon else (server, 53)


def is_address(host: str) -> bool:
    """Whether ``host`` is an address already."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
