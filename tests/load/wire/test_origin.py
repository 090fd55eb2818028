"""Connections are kept, aged, replaced and spread as promised; names are asked for in time."""

from __future__ import annotations

import socket
import time

import gevent
import pytest

from harness.clock import SystemClock
from harness.load.resolver import Answer, ResolveError, Resolver
from harness.load.wire.ask import DROP, Ask
from harness.load.wire.client import Exchange, HttpClient
from harness.load.wire.connection import Connection
from harness.load.wire.origin import Name
from harness.load.wire.poller import Poller, Ticker

from .scripted import CLOSE, RESET, STOP, Scripted, answer

HELLO = [answer(b"hello")]


class FixedResolver(Resolver):
    """Gives the addresses it is told, for as long as it is told."""

    def __init__(self, *addresses: str, ttl_s: float = 60.0) -> None:
        super().__init__(SystemClock())
        self.given = addresses
        self.ttl_s = ttl_s
        self.asked = 0

    def answer(self, host: str) -> Answer:
        self.asked += 1
        if not self.given:
            raise ResolveError(host)
        return Answer(self.given, time.monotonic() + self.ttl_s)


def get(client: HttpClient, timeout_s: float = 5.0) -> Exchange:
    return client.request("GET", "/x", deadline_m=time.monotonic() + timeout_s)


def pair() -> tuple[Scripted, Scripted]:
    """Two servers on one port of two addresses."""
    east = Scripted([HELLO], host="127.105.1.1")
    west = Scripted([HELLO], host="127.105.3.1", port=east.port)
    return east, west


def test_a_connection_is_kept_and_used_again(client) -> None:
    with Scripted([HELLO]) as server:
        one = client(server.url)
        assert [get(one).body for _ in range(5)] == [b"hello"] * 5
        assert (server.connections, one.counts.connections, one.counts.reused) == (1, 1, 4)


def test_within_the_machine_nothing_is_paced(client) -> None:
    with Scripted([HELLO]) as server:
        one = client(server.url)
        get(one)
        (connection,) = one.origin._idle
        way = connection._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
        assert way.rstrip(b"\0") == b"reno"


def test_a_connection_is_not_used_beyond_its_age(client) -> None:
    with Scripted([HELLO]) as server:
        one = client(server.url, max_age_s=0.2)
        get(one)
        get(one)
        gevent.sleep(0.25)
        get(one)
        assert (server.connections, one.counts.aged_out, one.origin.size) == (2, 1, 1)


def test_connections_made_together_do_not_all_end_together(client) -> None:
    with Scripted([[0.05, *HELLO]]) as server:
        one = client(server.url, max_age_s=100.0)
        gevent.joinall([gevent.spawn(get, one) for _ in range(20)])
        ends = sorted(c.expires_m for c in one.origin._idle)
        assert ends[-1] - ends[0] > 5


def test_a_connection_to_an_address_dns_no_longer_gives_is_closed(client) -> None:
    east, west = pair()
    with east, west:
        resolver = FixedResolver("127.105.1.1", ttl_s=0.1)
        one = client(f"http://api.lab:{east.port}", resolver)
        assert get(one).address == "127.105.1.1"
        resolver.given = ("127.105.3.1",)
        gevent.sleep(0.3)
        assert (one.origin.size, one.counts.dropped_by_dns) == (0, 1)
        assert get(one).address == "127.105.3.1"


def test_a_busy_connection_to_such_an_address_is_closed_when_it_is_done(client) -> None:
    with Scripted([[0.3, *HELLO]], host="127.105.1.1") as east:
        resolver = FixedResolver("127.105.1.1", ttl_s=0.05)
        one = client(f"http://api.lab:{east.port}", resolver)
        busy = gevent.spawn(get, one)
        gevent.sleep(0.1)
        resolver.given = ("127.105.3.1",)
        assert busy.get().body == b"hello"
        assert (one.origin.size, one.counts.dropped_by_dns) == (0, 1)


def test_a_name_is_asked_for_again_when_its_time_is_over_and_not_before(client) -> None:
    with Scripted([HELLO], host="127.105.1.1") as server:
        resolver = FixedResolver("127.105.1.1", ttl_s=0.2)
        one = client(f"http://api.lab:{server.port}", resolver)
        for _ in range(10):
            get(one)
        assert resolver.asked == 1
        gevent.sleep(0.5)
        assert resolver.asked == 3


def test_a_second_address_is_tried_when_the_first_refuses(client) -> None:
    with Scripted([HELLO], host="127.105.3.1") as west:
        one = client(f"http://api.lab:{west.port}", FixedResolver("127.105.9.9", "127.105.3.1"))
        for _ in range(4):
            exchange = get(one)
            assert (exchange.body, exchange.address) == (b"hello", "127.105.3.1")


def test_when_all_addresses_refuse_it_is_refused_and_surely_not_sent(client) -> None:
    one = client("http://api.lab:9", FixedResolver("127.105.9.8", "127.105.9.9"))
    exchange = get(one)
    assert (exchange.error, exchange.sent, one.counts.connections) == ("refused", False, 2)


def test_connections_are_spread_over_the_addresses(client) -> None:
    east, west = pair()
    with east, west:
        one = client(f"http://api.lab:{east.port}", FixedResolver("127.105.1.1", "127.105.3.1"))
        east.scripts = west.scripts = ([[0.05, *HELLO]],)
        gevent.joinall([gevent.spawn(get, one) for _ in range(10)])
        assert (east.connections, west.connections) == (5, 5)


def test_a_kept_connection_the_server_closed_is_replaced_without_a_failure(client) -> None:
    with Scripted([[*HELLO, CLOSE]]) as server:
        one = client(server.url)
        for _ in range(5):
            assert get(one).error == ""
        assert server.connections == 5


@pytest.mark.parametrize(("method", "error"), [("GET", ""), ("PUT", ""), ("POST", "closed")])
def test_a_kept_connection_that_ends_unanswered_is_replaced_where_twice_is_once(
    client, method: str, error: str
) -> None:
    # The second request arrives, and is never answered.
    with Scripted([HELLO, [CLOSE]], [HELLO]) as server:
        one = client(server.url)
        deadline_m = time.monotonic() + 5
        assert one.request(method, "/", deadline_m=deadline_m).error == ""
        assert one.request(method, "/", deadline_m=deadline_m).error == error
        assert one.counts.reconnects == (0 if error else 1)
        assert len(server.requests) == (2 if error else 3)


def test_a_connection_that_ends_unanswered_at_once_is_a_failure(client) -> None:
    with Scripted([[CLOSE]]) as server:
        assert get(client(server.url)).error == "closed"
        assert server.connections == 1


def test_what_one_connection_carried_is_sent_though_the_next_is_refused(client) -> None:
    with Scripted([HELLO, [STOP, CLOSE]]) as server:
        one = client(server.url)
        get(one)
        exchange = get(one)
    # The server had it, and nobody knows what it did with it.
    assert (exchange.error, exchange.sent) == ("refused", True)


def test_a_full_pool_replaces_a_kept_connection_that_ended(client) -> None:
    with Scripted([HELLO, [CLOSE]], [HELLO]) as server:
        one = client(server.url, max_connections=1)
        assert [get(one).error for _ in range(2)] == ["", ""]
        assert (one.counts.reconnects, one.origin.size) == (1, 1)


def test_who_gives_up_after_its_request_went_on_elsewhere_leaves_nothing(client) -> None:
    with Scripted([[*HELLO, RESET]], [[9.0]]) as server:
        one = client(server.url)
        get(one)
        time.sleep(0.1)  # not gevent's: the reset is met by the next send, before it returns
        with gevent.Timeout(0.1, False):
            get(one)
        assert (server.connections, one.counts.connections) == (2, 2)
        assert (one.origin.size, one.origin.owners()) == (0, [])


class Raises:
    """An owner with a mistake in it."""

    connection = None

    def finished(self, connection: Connection) -> None:
        raise RuntimeError("on purpose")


@pytest.mark.parametrize("wrong", [HELLO, [b"HTTP/1.1 200 OK\r\n\r\n", b"x", CLOSE], [b"no"]])
def test_an_owner_that_raises_harms_nobody_else(client, caplog, wrong) -> None:
    with Scripted([wrong], [HELLO]) as server:
        one = client(server.url)
        now_m = time.monotonic()
        one.origin.begin(Raises(), Ask("GET", one.head("GET", "/x")), None, now_m + 5, now_m)
        gevent.sleep(0.1)
        assert one.origin.owners() == []
        assert one.origin.size == (1 if wrong is HELLO else 0)
        assert get(one).body == b"hello"
    assert "on purpose" in caplog.text


class Noted:
    """An owner that keeps the error."""

    connection: Connection | None = None
    error: str | None = None

    def finished(self, connection: Connection) -> None:
        self.error = connection.error


def test_what_ends_with_a_connection_that_broke_off_may_have_been_cut(client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = client(f"http://127.0.0.1:{listener.getsockname()[1]}")
        body, owner, now_m = bytes(10_000_000), Noted(), time.monotonic()
        ask = Ask("POST", one.head("POST", "/x", {}, len(body)), body, take=DROP)
        one.origin.begin(owner, ask, None, now_m + 5, now_m)
        peer, _ = listener.accept()
        gevent.sleep(0.1)  # it sends until the socket takes no more
        peer.sendall(b"HTTP/1.0 200 OK\r\n\r\na")
        peer.shutdown(socket.SHUT_WR)

        def broken(*_: object) -> int:
            raise ConnectionResetError

        assert owner.connection is not None
        owner.connection._send = broken
        owner.connection._go_on_sending()
        peer.close()
    assert owner.error == "reset"


def test_bytes_nobody_asked_for_end_an_idle_connection(client) -> None:
    with Scripted([[*HELLO, 0.1, b"HTTP/1.1 408 Timeout\r\n\r\n"]], [HELLO]) as server:
        one = client(server.url)
        get(one)
        gevent.sleep(0.3)
        assert (one.origin.size, one.counts.unasked) == (0, 1)
        assert get(one).body == b"hello"


def test_there_are_never_more_connections_than_allowed(client) -> None:
    with Scripted([[0.2, *HELLO]]) as server:
        one = client(server.url, max_connections=3)
        found = [gevent.spawn(get, one) for _ in range(5)]
        gevent.joinall(found)
        assert sorted(g.value.error for g in found) == [
            "",
            "",
            "",
            "no-connection",
            "no-connection",
        ]
        assert server.connections == 3


def test_a_name_without_address_is_a_dns_failure(client) -> None:
    exchange = get(client("http://api.lab:1", FixedResolver()))
    assert (exchange.error, exchange.sent) == ("dns", False)


def test_a_name_that_gets_an_address_later_is_found(client) -> None:
    with Scripted([HELLO], host="127.105.1.1") as server:
        resolver = FixedResolver()
        one = client(f"http://api.lab:{server.port}", resolver)
        assert get(one).error == "dns"
        resolver.given = ("127.105.1.1",)
        gevent.sleep(0.8)
        assert get(one).body == b"hello"


def test_an_address_needs_no_resolver() -> None:
    name = Name(FixedResolver(), "127.0.0.1", time.monotonic)
    assert name.wait(0.0)
    assert Name(FixedResolver(), "::1", time.monotonic).addresses == ("::1",)


class Timed:
    """Something with a deadline."""

    def __init__(self, deadline_m: float) -> None:
        self.deadline_m = deadline_m
        self.looked_at_m = float("inf")
        self.ended: list[float] = []

    def expired(self) -> None:
        self.ended.append(time.monotonic())


def test_deadlines_pass_once_each_moved_or_not(poller: Poller) -> None:
    now_m = time.monotonic()
    kept, later, never, sooner = (
        Timed(now_m + 0.1),
        Timed(now_m + 0.05),
        Timed(now_m + 0.05),
        Timed(now_m + 9),
    )
    for timed in (kept, later, never, sooner):
        poller.watch(timed)
    later.deadline_m = now_m + 0.2
    never.deadline_m = float("inf")
    sooner.deadline_m = now_m + 0.1
    poller.watch(sooner)
    gevent.sleep(0.4)
    assert [len(t.ended) for t in (kept, later, never, sooner)] == [1, 1, 0, 1]
    assert kept.ended[0] >= now_m + 0.1
    assert later.ended[0] >= now_m + 0.2


def test_a_deadline_that_raises_harms_no_other(poller: Poller, caplog) -> None:
    class Wrong(Timed):
        def expired(self) -> None:
            raise RuntimeError("on purpose")

    deadline_m = time.monotonic() + 0.02
    wrong, right = Wrong(deadline_m), Timed(deadline_m)
    poller.watch(wrong)
    poller.watch(right)
    gevent.sleep(0.1)
    assert len(right.ended) == 1
    assert "on purpose" in caplog.text


def test_a_ticker_goes_off_when_told_and_no_more_when_closed(poller: Poller) -> None:
    times: list[float] = []
    ticker = Ticker(poller, lambda: times.append(time.monotonic()))
    begun_m = time.monotonic()
    ticker.at(begun_m + 0.05)
    gevent.sleep(0.15)
    assert len(times) == 1 and times[0] >= begun_m + 0.05
    ticker.at(begun_m)  # long past: at once
    gevent.sleep(0.05)
    assert len(times) == 2
    ticker.every(0.01)
    gevent.sleep(0.3)
    assert len(times) >= 12
    ticker.close()
    gevent.sleep(0.02)
    seen = len(times)
    gevent.sleep(0.05)
    assert len(times) == seen


def test_a_query_that_got_lost_is_made_again_where_there_is_time() -> None:
    resolver = FixedResolver()
    name = Name(resolver, "files.lab", time.monotonic)
    # Who sends is told at once; who only begins may wait for the next answer.
    assert not name.wait(5.0)
    assert not name.wait_known(0.01)
    resolver.given = ("127.105.1.1",)
    assert name.wait_known(5.0)
    assert (name.addresses, resolver.asked) == (("127.105.1.1",), 2)
    name.close()
