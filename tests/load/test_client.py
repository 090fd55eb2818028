"""Every way a request can go wrong has its name, and connections live as long as promised."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from harness.clock import ManualClock, SystemClock
from harness.load.client import HttpClient, Limits
from harness.load.resolver import Resolver

from .server import StandIn


class FixedResolver(Resolver):
    """Gives the addresses it is told."""

    def __init__(self, *addresses):
        super().__init__(SystemClock())
        self.given = addresses

    def addresses(self, host):
        return self.given


@contextlib.contextmanager
def answering(*responses: bytes, close: bool = True):
    """A server that answers the n-th connection's request with the n-th bytes; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        for response in responses:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(response)
                if not close:
                    time.sleep(1)

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def client_for(url, limits=None, clock=None, resolver=None):
    clock = clock or SystemClock()
    return HttpClient(url, resolver or Resolver(clock), clock, limits)


def get(client, timeout_s=0.3, clock=None, **kwargs):
    now_m = (clock or SystemClock()).monotonic_s()
    return client.request("GET", "/x", deadline_m=now_m + timeout_s, **kwargs)


def test_a_response_is_read_whole_with_its_headers():
    with answering(b"HTTP/1.1 200 OK\r\nX-A: b \r\nContent-Length: 5\r\n\r\nhello") as url:
        exchange = get(client_for(url))
    assert (exchange.status, exchange.body, exchange.header("x-a")) == (200, b"hello", "b")
    assert exchange.error == ""


def test_a_chunked_response_is_put_together():
    text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    text += b"4\r\nwiki\r\n5;x=y\r\npedia\r\n0\r\n\r\n"
    with answering(text) as url:
        assert get(client_for(url)).body == b"wikipedia"


def test_an_interim_response_is_passed_over():
    text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    with answering(text) as url:
        assert get(client_for(url)).status == 204


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (b"", "closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", "closed"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "bad-response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "bad-response"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "bad-response"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "bad-response"),
    ],
)
def test_a_broken_response_has_a_name(response, error):
    with answering(response) as url:
        exchange = get(client_for(url))
    assert exchange.error == error
    assert exchange.sent


def test_nobody_listening_is_refused_and_surely_not_sent():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    exchange = get(client_for(f"http://127.0.0.1:{port}"))
    assert (exchange.error, exchange.sent) == ("refused", False)


def test_a_full_backlog_is_a_connect_timeout_and_surely_not_sent():
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # fill the backlog: further connections hang like in a black hole
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        exchange = get(client_for(url, Limits(connect_s=0.1)), timeout_s=1)
    assert (exchange.error, exchange.sent) == ("connect-timeout", False)


def test_the_whole_exchange_ends_at_its_deadline_however_it_drips():
    with StandIn() as server:
        server.faults.drip_s = 0.08
        client = client_for(server.url)
        started = time.monotonic()
        exchange = client.request("GET", "/v1/files/x", deadline_m=started + 0.2)
        assert exchange.error == "timeout"
        assert time.monotonic() - started < 0.4


def test_silence_ends_at_the_first_byte_deadline():
    with answering(b"", close=False) as url:
        exchange = get(client_for(url, Limits(first_byte_s=0.1)), timeout_s=1)
    assert exchange.error == "first-byte-timeout"


def test_a_connection_is_kept_and_used_again():
    with StandIn() as server:
        client = client_for(server.url)
        for _ in range(5):
            assert get(client).status == 401
        assert server.connections == 1
        client.close()


def test_a_connection_is_not_used_beyond_its_age():
    clock = ManualClock()
    with StandIn() as server:
        client = client_for(server.url, Limits(max_age_s=10), clock)
        for _ in range(2):
            get(client, clock=clock)
        clock.advance(10.1)
        get(client, clock=clock)
        assert (server.connections, client.counts.aged_out) == (2, 1)
        client.close()


def test_a_connection_to_an_address_dns_no_longer_gives_is_not_used():
    with StandIn(host="127.105.1.1") as east, StandIn(host="127.105.3.1", port=east.port) as west:
        resolver = FixedResolver("127.105.1.1")
        client = client_for(f"http://api.lab:{east.port}", resolver=resolver)
        get(client)
        resolver.given = ("127.105.3.1",)
        assert get(client).address == "127.105.3.1"
        resolver.given = ("127.105.1.1",)
        get(client)
        assert (east.connections, west.connections) == (2, 1)
        assert client.counts.dropped_by_dns == 2
        client.close()


def test_a_second_address_is_tried_when_the_first_refuses():
    with StandIn(host="127.105.3.1") as west:
        resolver = FixedResolver("127.105.9.9", "127.105.3.1")
        client = client_for(f"http://api.lab:{west.port}", resolver=resolver)
        for _ in range(2):
            assert get(client).status == 401
        client.close()


def test_a_kept_connection_the_server_closed_is_replaced_without_a_failure():
    with StandIn() as server:
        server.faults.close_after = True
        client = client_for(server.url)
        for _ in range(5):
            assert get(client).error == ""
        assert server.connections == 5


def test_a_connection_that_dies_on_the_second_request_is_tried_once_more_on_a_new_one():
    listener = socket.create_server(("127.0.0.1", 0))
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    def serve():
        first, _ = listener.accept()
        first.recv(65536)
        first.sendall(ok)
        first.recv(65536)  # the second request arrives, and is never answered
        first.close()
        second, _ = listener.accept()
        second.recv(65536)
        second.sendall(ok)
        second.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        client = client_for(f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert get(client).status == 200
        assert get(client).status == 200
        assert client.counts.reconnects == 1
        thread.join(2)
    client.close()


def test_a_name_without_address_is_a_dns_failure():
    class Nothing(Resolver):
        def addresses(self, host):
            from harness.load.resolver import ResolveError

            raise ResolveError(host)

    client = client_for("http://api.lab:1", resolver=Nothing(SystemClock()))
    exchange = get(client)
    assert (exchange.error, exchange.sent) == ("dns", False)
