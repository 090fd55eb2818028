"""TTL is honoured to the second, and a silent DNS server is survived for a while."""

from __future__ import annotations

import socket
import threading

import dns.message
import dns.rcode
import dns.rrset
import pytest

from harness.clock import ManualClock
from harness.load.resolver import KEEP_LAST_GOOD_S, ResolveError, Resolver

HOST = "api.fileservice.lab"


class DnsServer:
    """Answers A queries over UDP with what ``records`` says; silent when ``silent``."""

    def __init__(self):
        self.records = [(HOST, 5, "CNAME", "east.fileservice.lab")]
        self.records += [("east.fileservice.lab", 60, "A", "127.105.1.1")]
        self.rcode = dns.rcode.NOERROR
        self.silent = False
        self.queries = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            data, peer = self._socket.recvfrom(4096)
            if data == b"end":
                return
            self.queries += 1
            if self.silent:
                continue
            reply = dns.message.make_response(dns.message.from_wire(data))
            reply.set_rcode(self.rcode)
            reply.answer = [
                dns.rrset.from_text(f"{n}.", t, "IN", k, f"{v}." if k == "CNAME" else v)
                for n, t, k, v in self.records
            ]
            self._socket.sendto(reply.to_wire(), peer)

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"end", self._socket.getsockname())
        self._thread.join(2)
        self._socket.close()


@pytest.fixture
def server():
    server = DnsServer()
    yield server
    server.close()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def resolver(server, clock):
    return Resolver(clock, server.address, query_timeout_s=0.1)


def test_an_answer_is_used_until_its_smallest_ttl_is_over(server, clock, resolver):
    assert resolver.addresses(HOST) == ("127.105.1.1",)
    server.records = [(HOST, 5, "A", "127.105.3.1")]
    clock.advance(4.9)
    assert resolver.addresses(HOST) == ("127.105.1.1",)
    assert server.queries == 1
    clock.advance(0.2)
    assert resolver.addresses(HOST) == ("127.105.3.1",)
    assert server.queries == 2


def test_a_silent_dns_server_leaves_the_last_good_answer_for_30_s(server, clock, resolver):
    resolver.addresses(HOST)
    server.silent = True
    clock.advance(6)
    assert resolver.addresses(HOST) == ("127.105.1.1",)
    assert resolver.counts.failures == 1
    assert resolver.counts.served_last_good == 1
    clock.advance(KEEP_LAST_GOOD_S)
    with pytest.raises(ResolveError):
        resolver.addresses(HOST)


def test_a_failed_query_is_not_repeated_for_every_request(server, clock, resolver):
    resolver.addresses(HOST)
    server.silent = True
    clock.advance(6)
    for _ in range(20):
        resolver.addresses(HOST)
    assert server.queries == 2
    clock.advance(1)
    resolver.addresses(HOST)
    assert server.queries == 3


def test_the_dns_server_is_asked_again_once_it_answers(server, clock, resolver):
    resolver.addresses(HOST)
    server.silent = True
    clock.advance(6)
    resolver.addresses(HOST)
    server.silent = False
    server.records = [(HOST, 5, "A", "127.105.3.1")]
    clock.advance(1)
    assert resolver.addresses(HOST) == ("127.105.3.1",)


def test_a_name_that_does_not_exist_says_so(server, resolver):
    server.rcode, server.records = dns.rcode.NXDOMAIN, []
    with pytest.raises(ResolveError, match="NXDOMAIN"):
        resolver.addresses(HOST)


def test_all_addresses_of_an_answer_are_given(server, resolver):
    server.records = [(HOST, 5, "A", "127.105.1.1"), (HOST, 5, "A", "127.105.1.2")]
    assert set(resolver.addresses(HOST)) == {"127.105.1.1", "127.105.1.2"}


def test_an_address_needs_no_dns(server, resolver):
    assert resolver.addresses("127.0.0.1") == ("127.0.0.1",)
    assert server.queries == 0
