"""One exchange, whatever the server does: it ends in time, with its name and its count."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest

from harness.clock import SystemClock
from harness.load.declare import put
from harness.load.resolver import Resolver
from harness.load.wire.ask import DROP, HASH, KEEP, Ask
from harness.load.wire.client import Exchange, HttpClient
from harness.load.wire.connection import FIRST_BYTES, READ_BYTES, _nowhere
from harness.load.wire.message import ERRORS, HEAD_MAX_BYTES
from harness.load.wire.poller import Poller
from harness.load.wire.upload import Held, from_bytes, from_file

from .scripted import CLOSE, RESET, Scripted, Step, answer, chunked, dripped

BIG = os.urandom(3_000_000)


def get(client: HttpClient, timeout_s: float = 5.0, method: str = "GET", **options) -> Exchange:
    return client.request(method, "/x", deadline_m=time.monotonic() + timeout_s, **options)


def asking(client: HttpClient, take: int = KEEP, method: str = "GET") -> Callable[..., Exchange]:
    """Sends the same request each time it is called, as one that was declared is."""
    ask = Ask(method, client.head(method, "/x"), take=take)

    def again(timeout_s: float = 5.0) -> Exchange:
        return client.perform(ask, time.monotonic() + timeout_s)

    again.ask = ask  # type: ignore[attr-defined]
    return again


SOUND = {
    "whole": [answer(b"hello")],
    "empty": [answer()],
    "in single bytes": dripped(answer(b"hello")),
    "head in two": [answer(b"hello")[:20], 0.02, answer(b"hello")[20:]],
    "body apart": [answer(b"hello")[:-5], 0.02, b"hello"],
    "chunked": [chunked(b"wiki", b"pedia")],
    "chunked in single bytes": dripped(chunked(b"wiki", b"pedia")),
    "interim": [b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"hello")],
    "interim apart": [b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", 0.02, answer(b"hello")],
    "to the end": [b"HTTP/1.1 200 OK\r\n\r\nhello", 0.01, b" you", CLOSE],
    "large": [answer(BIG)],
    "large, chunked": [chunked(BIG[:1000], BIG, BIG[:70000])],
    "large, to the end": [b"HTTP/1.1 200 OK\r\n\r\n" + BIG, CLOSE],
    "last words": [answer(b"hello"), CLOSE],
}
BODIES = {
    "empty": b"",
    "chunked": b"wikipedia",
    "chunked in single bytes": b"wikipedia",
    "to the end": b"hello you",
    "large": BIG,
    "large, chunked": BIG[:1000] + BIG + BIG[:70000],
    "large, to the end": BIG,
}


@pytest.mark.parametrize("take", [KEEP, HASH, DROP])
@pytest.mark.parametrize("case", SOUND)
def test_a_sound_answer_is_read_whole_however_it_comes(client, case: str, take: int) -> None:
    with Scripted([SOUND[case]]) as server:
        ask = asking(client(server.url), take)
        for _ in range(4):
            exchange = ask()
            assert (exchange.error, exchange.status, exchange.sent) == ("", 200, True)
            body = BODIES.get(case, b"hello")
            assert exchange.body == {KEEP: body, HASH: body[:1024], DROP: b""}[take]
            assert take == DROP or exchange.sha256 == hashlib.sha256(body).hexdigest()
            assert exchange.size_bytes == len(body)
            assert 0 < exchange.sent_m <= exchange.first_m <= exchange.done_m
        sent = sum(len(step) for step in SOUND[case] if isinstance(step, bytes))
        assert exchange.received_bytes == sent
        kept_open = CLOSE not in SOUND[case]
        assert server.connections == (1 if kept_open else 4)


WRONG: dict[str, tuple[list[Step], str]] = {
    "nothing, closed": ([CLOSE], "closed"),
    "nothing, reset": ([RESET], "reset"),
    "half a head, closed": ([b"HTTP/1.1 200 OK\r\nContent-", CLOSE], "closed"),
    "half a head, reset": ([b"HTTP/1.1 200 OK\r\nContent-", 0.05, RESET], "reset"),
    "half a head, silence": ([b"HTTP/1.1 200 OK\r\nContent-", 9.0], "timeout"),
    "half a body, closed": ([answer(b"hello")[:-2], CLOSE], "closed"),
    "half a body, silence": ([answer(b"hello")[:-2], 9.0], "timeout"),
    "half a large body, closed": ([answer(BIG)[:-2], CLOSE], "closed"),
    "half a chunk, closed": ([chunked(b"wikipedia")[:-9], CLOSE], "closed"),
    "no last chunk, closed": ([chunked(b"wikipedia")[:-5], CLOSE], "closed"),
    "silence": ([9.0], "timeout"),
    "drip": (dripped(answer(b"x" * 1000), 1, 0.02), "timeout"),
    "drip of a head": (dripped(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 999, 1, 0.02), "timeout"),
    "another protocol": ([b"SSH-2.0-OpenSSH_9.2\r\n"], "bad-response"),
    "garbage": ([os.urandom(500)], "bad-response"),
    "zeros": ([b"\0" * 10], "bad-response"),
    "a head that is none": ([b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"], "bad-response"),
    "an endless head": ([b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000], "head-too-large"),
    "an endless line": ([b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000], "head-too-large"),
    "endless interims": ([b"HTTP/1.1 100 Continue\r\n\r\n" * 50], "bad-response"),
    "switching protocols": ([b"HTTP/1.1 101 Switching\r\n\r\n"], "bad-response"),
    "two lengths": ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"],
                    "wrong-length"),
    "a longer body than stated": ([answer(b"hello") + b"!"], "unasked"),
    "a longer body, apart": ([answer(b"hello")[:-3], 0.02, b"llo!"], "unasked"),
    "a body with 204": ([b"HTTP/1.1 204 No Content\r\n\r\nhello"], "unasked"),
    "a longer large body": ([answer(BIG) + b"!"], "unasked"),
    "more after the last chunk": ([chunked(b"wiki") + b"HTTP"], "unasked"),
    "a broken chunk": ([chunked(b"wiki").replace(b"wiki", b"wikix")], "bad-response"),
    "a huge length": ([b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n"],
                      "body-too-large"),
    "a huge chunk": ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffff\r\n"],
                     "body-too-large"),
    "an endless body": ([b"HTTP/1.1 200 OK\r\n\r\n", BIG, BIG, BIG, BIG], "body-too-large"),
    "endless chunks": ([chunked(BIG, BIG, BIG, BIG)], "body-too-large"),
}  # fmt: skip


@pytest.mark.parametrize("take", [KEEP, HASH, DROP])
@pytest.mark.parametrize("case", WRONG)
def test_every_wrong_answer_ends_in_time_with_its_name(client, case: str, take: int) -> None:
    steps, error = WRONG[case]
    with Scripted([steps]) as server:
        one = client(server.url, body_max_bytes=10_000_000)
        began = time.monotonic()
        exchange = get(one, 0.4 if error == "timeout" else 5.0, take=take)
        assert exchange.error == error
        assert exchange.error in ERRORS
        assert exchange.sent
        assert error != "timeout" or 0.4 <= time.monotonic() - began < 2.0
        # Nothing of it is taken for the next exchange.
        server.scripts = ([[answer(b"next")]],)
        assert get(one).body == b"next"
        assert one.origin.size == 1


HELLO, LARGE, NONE = answer(b"hello"), answer(BIG), answer(b"", "304 Not Modified")
WIKI = chunked(b"wiki")


def as_large_as(most: int) -> bytes:
    """An answer that fills one look."""
    return answer(BIG[: most - len(answer(BIG[:most])) + most])


#: What an answer like those before it may turn out to be, and how that must end.
TURNS: dict[str, tuple[bytes, list[Step], str]] = {
    "just so again": (HELLO, [HELLO], ""),
    "the last one": (HELLO, [HELLO, CLOSE], ""),
    "nothing": (HELLO, [CLOSE], "closed"),
    "silence": (HELLO, [9.0], "timeout"),
    "half a head, silence": (HELLO, [HELLO[:20], 9.0], "timeout"),
    "a head, silence": (HELLO, [HELLO[:-5], 9.0], "timeout"),
    "half a body, silence": (HELLO, [HELLO[:-2], 9.0], "timeout"),
    "half a body, closed": (HELLO, [HELLO[:-2], CLOSE], "closed"),
    "half a body, then the rest": (HELLO, [HELLO[:-2], 0.02, HELLO[-2:]], ""),
    "a longer body": (HELLO, [HELLO + b"!"], "unasked"),
    "another body": (HELLO, [HELLO[:-5] + b"jello"], ""),
    "another answer as long": (HELLO, [b"SSH-" + HELLO[4:]], "bad-response"),
    "another status as long": (HELLO, [HELLO.replace(b"200 OK", b"500 No")], ""),
    "a shorter one": (HELLO, [answer(b"jell")], ""),
    "a chunked one": (HELLO, [chunked(b"hello")], ""),
    "an interim one first": (HELLO, [b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO], ""),
    "two": (HELLO, [HELLO + HELLO], "unasked"),
    "no body, and one": (NONE, [NONE + b"hello"], "unasked"),
    "large again": (LARGE, [LARGE], ""),
    "large, in two": (LARGE, [LARGE[:FIRST_BYTES], 0.02, LARGE[FIRST_BYTES:]], ""),
    "half of a large one, closed": (LARGE, [LARGE[:-2], CLOSE], "closed"),
    "half of a large one, silence": (LARGE, [LARGE[:-2], 9.0], "timeout"),
    "half a head of a large one, silence": (LARGE, [LARGE[:20], 9.0], "timeout"),
    "a larger one": (LARGE, [LARGE + b"!"], "unasked"),
    "chunked again": (WIKI, [WIKI], ""),
    "chunked, the last one": (WIKI, [WIKI, CLOSE], ""),
    "another chunk as long": (WIKI, [chunked(b"woko")], ""),
    "a shorter chunk": (WIKI, [chunked(b"wi")], ""),
    "half a chunk, silence": (WIKI, [WIKI[:-9], 9.0], "timeout"),
    "no last chunk, silence": (WIKI, [WIKI[:-2], 9.0], "timeout"),
    "no last chunk, closed": (WIKI, [WIKI[:-5], CLOSE], "closed"),
    "more after the last chunk": (WIKI, [WIKI + b"!"], "unasked"),
    "no chunks": (WIKI, [HELLO], ""),
    "as much as one look": (as_large_as(FIRST_BYTES), [as_large_as(FIRST_BYTES) + b"!"], "unasked"),
    "as much as a look": (as_large_as(READ_BYTES), [as_large_as(READ_BYTES) + b"!"], "unasked"),
}


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("take", [KEEP, HASH, DROP])
@pytest.mark.parametrize("case", TURNS)
def test_an_answer_that_begins_like_those_before_is_read_for_what_it_is(
    poller: Poller, certificate: Path, case: str, take: int, tls: bool
) -> None:
    usual, steps, error = TURNS[case]
    script = [[usual]] * 3 + [steps, [answer(b"next")]]
    wrap = wrapper(certificate) if tls else None
    with Scripted(script, [[answer(b"next")]], wrap=wrap) as server:
        url = server.url.replace("http:", "https:") if tls else server.url
        one = HttpClient(url, Resolver(SystemClock()), poller=poller, tls=trusting(certificate))
        ask = asking(one, take)
        for _ in range(3):
            assert ask().error == ""
            gevent.sleep(0)  # else the next would begin within the event that ended this
        if case.startswith("as much"):
            assert ask.ask.known is None
        elif usual is WIKI:
            assert take != DROP or ask.ask.known.begins == WIKI
        else:
            assert usual.startswith(ask.ask.known.raw)
        exchange = ask(0.15 if error == "timeout" else 5.0)
        if case == "nothing":  # it is asked once more
            assert (exchange.error, server.connections) == ("", 2)
        else:
            assert (exchange.error, server.connections) == (error, 1)
        said = b"".join(step for step in steps if isinstance(step, bytes))
        if not error and case != "nothing":
            raw, _, body = said.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(
                b"\r\n\r\n"
            )
            body = body.split(b"\r\n")[1] if b"chunked" in raw else body
            assert exchange.status == int(raw.split()[1])
            assert (exchange.size_bytes, exchange.received_bytes) == (len(body), len(said))
            assert take == DROP or exchange.sha256 == hashlib.sha256(body).hexdigest()
            assert take != KEEP or exchange.body == body
        # Nothing of it is taken for the next answer.
        exchange = ask()
        assert (exchange.error, exchange.size_bytes) == ("", 4)
        one.close()
    assert not any(_nowhere[:FIRST_BYTES])  # what is dropped goes nowhere


def test_a_connection_that_ended_with_an_answer_like_those_before_is_not_used_again(client) -> None:
    with Scripted([[HELLO], [HELLO], [HELLO], [HELLO, CLOSE]], [[answer(b"next")]]) as server:
        one = client(server.url)
        ask = asking(one)
        for _ in range(3):
            ask()
        asked = gevent.spawn(ask)
        gevent.sleep(0)
        gevent.sleep(0)  # it is on its way
        while len(server.requests) < 4:
            time.sleep(0.001)
        time.sleep(0.1)  # the hub stands still: answer and end are told by one event
        assert asked.get(timeout=5).body == b"hello"
        assert one.origin.size == 0
        assert ask().body == b"next"
        assert one.counts.reconnects == 0


@pytest.mark.parametrize("take", [KEEP, HASH])
@pytest.mark.parametrize("written", [answer, chunked])
def test_a_body_larger_than_is_accepted_is_refused_though_it_came_at_one_look(
    client, written: Callable[[bytes], bytes], take: int
) -> None:
    with Scripted([[written(b"x" * 3000)]]) as server:
        assert get(client(server.url, body_max_bytes=2999), take=take).error == "body-too-large"
        assert get(client(server.url, body_max_bytes=3000), take=take).error == ""


@pytest.mark.parametrize("take", [KEEP, HASH, DROP])
@pytest.mark.parametrize("most", [FIRST_BYTES, READ_BYTES])
def test_an_answer_about_as_large_as_one_look_is_read_whole(client, most: int, take: int) -> None:
    head = len(answer(BIG[:most])) - most
    for size in range(most - head - 2, most - head + 3):
        with Scripted([[answer(BIG[:size])]]) as server:
            ask = asking(client(server.url), take)
            for _ in range(5):
                exchange = ask()
                assert (exchange.error, exchange.size_bytes) == ("", size)
                assert take == DROP or exchange.sha256 == hashlib.sha256(BIG[:size]).hexdigest()
            assert server.connections == 1


def test_a_head_of_the_largest_size_is_read(client) -> None:
    line = b"X: " + b"y" * 8000 + b"\r\n"
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + line * (HEAD_MAX_BYTES // len(line) - 1)
    with Scripted([[raw + b"\r\nok"]]) as server:
        exchange = get(client(server.url))
    assert (exchange.error, exchange.body, len(exchange.header("x"))) == ("", b"ok", 8000)


@pytest.mark.parametrize(
    "length_line", ["Content-Length: 500", "Transfer-Encoding: chunked", "X: y"]
)
def test_the_answer_to_head_has_no_body(client, length_line: str) -> None:
    raw = f"HTTP/1.1 200 OK\r\n{length_line}\r\n\r\n".encode()
    with Scripted([[raw]]) as server:
        ask = asking(client(server.url), method="HEAD")
        for _ in range(4):
            exchange = ask()
            assert (exchange.error, exchange.status, exchange.body) == ("", 200, b"")


def test_an_answer_to_head_with_a_body_is_wrong_however_often_it_comes(client) -> None:
    with Scripted([[WIKI]]) as server:
        ask = asking(client(server.url), DROP, "HEAD")
        assert [ask().error for _ in range(4)] == ["unasked"] * 4


def test_a_304_has_no_body_whatever_length_it_states(client) -> None:
    with Scripted([[b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"]]) as server:
        one = client(server.url)
        assert [get(one).error for _ in range(3)] == ["", "", ""]
        assert server.connections == 1


def bodies(tmp_path: Path) -> dict[str, object]:
    file = tmp_path / "body"
    file.write_bytes(BIG)
    return {
        "small": b"hello",
        "large": BIG,
        "memory": from_bytes(BIG),
        "file": from_file(file),
        "some of it": from_bytes(BIG[:200_000]),
    }


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("kind", ["small", "large", "memory", "file", "some of it"])
def test_an_upload_arrives_whole(
    poller: Poller, tmp_path: Path, kind: str, tls: bool, certificate: Path
) -> None:
    body = bodies(tmp_path)[kind]
    wanted = {"small": b"hello", "some of it": BIG[:200_000]}.get(kind, BIG)
    with Scripted([[answer(b"thanks")]], wrap=wrapper(certificate) if tls else None) as server:
        url = server.url.replace("http:", "https:") if tls else server.url
        one = HttpClient(url, Resolver(SystemClock()), poller=poller, tls=trusting(certificate))
        for _ in range(2):
            exchange = get(one, method="PUT", body=body)
            assert (exchange.error, exchange.body) == ("", b"thanks")
        one.close()
    assert [request.partition(b"\r\n\r\n")[2] == wanted for request in server.requests] == [
        True
    ] * 2


@pytest.mark.parametrize("size", [20_000, 262_144, 520_000, 3_000_000])
@pytest.mark.parametrize("tls", [False, True])
def test_a_declared_upload_arrives_whole_however_often_it_is_sent(
    poller: Poller, size: int, tls: bool, certificate: Path
) -> None:
    """Its head and the beginning of its body are one, but where they must be encrypted."""
    with Scripted([[answer(b"thanks")]], wrap=wrapper(certificate) if tls else None) as server:
        url = server.url.replace("http:", "https:") if tls else server.url
        one = HttpClient(url, Resolver(SystemClock()), poller=poller, tls=trusting(certificate))
        bound = put("/x", body=from_bytes(BIG[:size])).bound_to(one)
        assert (bound.held is None) == tls
        for _ in range(4):
            exchange = one.perform(bound, time.monotonic() + 5)
            assert (exchange.error, exchange.status) == ("", 200)
        one.close()
    wanted = bound.head + BIG[:size]
    assert [request == wanted for request in server.requests] == [True] * 4


@pytest.mark.parametrize("off", [-1, 0, 1])
@pytest.mark.parametrize("of", ["nothing", "head", "half", "all"])
def test_a_declared_upload_arrives_whole_however_much_the_socket_takes_at_first(
    client, monkeypatch, of: str, off: int
) -> None:
    with Scripted([[answer(b"thanks")]]) as server:
        one = client(server.url)
        bound = put("/x", body=from_bytes(BIG[:200_000])).bound_to(one)
        whole = bound.head + BIG[:200_000]
        near = {"nothing": 0, "head": len(bound.head), "half": 100_000, "all": len(whole)}[of]
        taken = min(max(0, near + off), len(whole))
        lent: list[int] = []

        def lend(self: Held, fd: int) -> int:
            if self is not bound.held:
                return 0
            lent.append(os.write(fd, whole[:taken]))
            return lent[-1]

        monkeypatch.setattr(Held, "lend", lend)
        for _ in range(3):
            exchange = one.perform(bound, time.monotonic() + 5)
            assert (exchange.error, exchange.status) == ("", 200)
    assert [request == whole for request in server.requests] == [True] * 3
    assert lent == [taken] * 2, "of the requests on a kept connection"


def test_a_declared_upload_is_never_sent_in_the_clear_where_it_must_be_encrypted(
    poller: Poller, certificate: Path
) -> None:
    with (
        Scripted([[answer(b"thanks")]]) as plain,
        Scripted([[answer(b"thanks")]], wrap=wrapper(certificate)) as secret,
    ):
        one = HttpClient(plain.url, Resolver(SystemClock()), poller=poller)
        url = secret.url.replace("http:", "https:")
        two = HttpClient(url, Resolver(SystemClock()), poller=poller, tls=trusting(certificate))
        bound = put("/x", body=from_bytes(BIG[:200_000])).bound_to(one)
        assert bound.held is not None
        for _ in range(2):
            assert two.perform(bound, time.monotonic() + 5).status == 200
        one.close()
        two.close()


def _read(peer: socket.socket, size: int) -> int:
    """Read so much, or to the end; returns how much it was."""
    found = 0
    while found < size and (data := peer.recv(65536)):
        found += len(data)
    return found


@pytest.mark.parametrize(("first", "then"), [(b"HTTP/1.1 1", b"00 Continue\r\n\r\n"), (b"H", b"")])
def test_an_upload_goes_on_when_half_a_head_came_with_the_room_for_it(
    client, first: bytes, then: bytes
) -> None:
    """Both are told by one event, and the room by no other."""
    whole = answer(b"thanks")
    if not then:
        then = whole[len(first) :]
        whole = b""
    body = BIG * 2
    at_a_standstill, told, done = threading.Event(), threading.Event(), []

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(3)
            at_a_standstill.wait(5)
            # So much is there, as the client could send no more.
            size = _read(peer, 2_000_000)
            peer.sendall(first)
            told.set()
            with contextlib.suppress(TimeoutError):
                done.append(size + _read(peer, len(body) - size))
                peer.sendall(then + whole)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        one = client(f"http://127.0.0.1:{listener.getsockname()[1]}")
        asking = gevent.spawn(get, one, 2.0, method="PUT", body=body)
        gevent.sleep(0.1)
        at_a_standstill.set()
        told.wait(5)  # the hub stands still meanwhile
        time.sleep(0.1)
        exchange = asking.get(timeout=5)
        thread.join()
    assert done[0] >= len(body)
    assert (exchange.error, exchange.body) == ("", b"thanks")


def test_an_answer_before_the_end_of_an_upload_is_the_answer(client) -> None:
    refusal = answer(b"too large", "413 Content Too Large", Connection="close")
    with Scripted([["early", refusal, 0.2, CLOSE]], [[answer(b"next")]]) as server:
        one = client(server.url)
        exchange = get(one, method="PUT", body=BIG * 4)
        assert (exchange.error, exchange.status, exchange.body) == ("", 413, b"too large")
        assert get(one).body == b"next"
        assert server.connections == 2


def test_an_upload_nobody_reads_ends_at_its_deadline(client) -> None:
    with Scripted([["early", 9.0]]) as server:
        assert get(client(server.url), 0.3, method="PUT", body=BIG * 4).error == "timeout"


def test_silence_ends_at_the_deadline_for_the_first_byte_and_not_once_it_came(client) -> None:
    with Scripted([[9.0]]) as server:
        assert get(client(server.url, first_byte_s=0.1)).error == "first-byte-timeout"
    with Scripted([[answer(b"hello")[:10], 0.4, answer(b"hello")[10:]]]) as server:
        one = client(server.url, first_byte_s=0.2)
        assert [get(one).error for _ in range(2)] == ["", ""]


def test_nobody_listening_is_refused_and_surely_not_sent(client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    exchange = get(client(f"http://127.0.0.1:{port}"))
    assert (exchange.error, exchange.sent) == ("refused", False)


def test_a_full_backlog_is_a_connect_timeout_and_surely_not_sent(client) -> None:
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # fill the backlog: further connections hang like in a black hole
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        exchange = get(client(url, connect_s=0.1))
    assert (exchange.error, exchange.sent) == ("connect-timeout", False)


def test_a_waiting_greenlet_that_is_killed_takes_its_connection_with_it(client) -> None:
    with Scripted([[9.0]], [[answer(b"next")]]) as server:
        one = client(server.url)
        waiting = gevent.spawn(get, one)
        gevent.sleep(0.1)
        waiting.kill()
        assert one.origin.size == 0
        assert get(one).body == b"next"


def test_many_greenlets_wait_at_once(client) -> None:
    with Scripted([[0.1, answer(b"hello")]]) as server:
        one = client(server.url)
        found = [gevent.spawn(get, one) for _ in range(50)]
        gevent.joinall(found)
        assert {g.value.body for g in found} == {b"hello"}
        assert server.connections == 50
        assert get(one).body == b"hello"
        assert server.connections == 50


def test_ipv6_is_spoken(client) -> None:
    with Scripted([[answer(b"hello")]], host="::1") as server:
        assert get(client(server.url)).body == b"hello"
        assert f"Host: [::1]:{server.port}".encode() in server.requests[0]


# ---- TLS ------------------------------------------------------------------------------


def wrapper(certificate: Path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return lambda connection: context.wrap_socket(connection, server_side=True)


def trusting(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False  # asked by address here; checked below
    return context


@pytest.mark.parametrize("take", [KEEP, HASH, DROP])
@pytest.mark.parametrize("case", ["whole", "in single bytes", "large", "large, chunked"])
def test_tls_carries_the_same(poller: Poller, certificate: Path, case: str, take: int) -> None:
    with Scripted([SOUND[case]], wrap=wrapper(certificate)) as server:
        url = server.url.replace("http:", "https:")
        one = HttpClient(url, Resolver(SystemClock()), poller=poller, tls=trusting(certificate))
        for _ in range(3):
            exchange = get(one, take=take)
            assert exchange.error == ""
            assert take == DROP or exchange.size_bytes == len(BODIES.get(case, b"hello"))
            assert take != KEEP or exchange.body == BODIES.get(case, b"hello")
        assert server.connections == 1
        one.close()


def test_a_certificate_nobody_vouches_for_is_a_tls_failure(poller: Poller, certificate) -> None:
    with Scripted([[answer(b"hello")]], wrap=wrapper(certificate)) as server:
        url = server.url.replace("http:", "https:")
        one = HttpClient(url, Resolver(SystemClock()), poller=poller)
        exchange = get(one)
        assert (exchange.error, exchange.sent) == ("tls", False)
        one.close()


def test_a_certificate_for_another_name_is_a_tls_failure(poller: Poller, certificate) -> None:
    with Scripted([[answer(b"hello")]], wrap=wrapper(certificate)) as server:
        url = server.url.replace("http:", "https:")
        context = ssl.create_default_context(cafile=str(certificate))
        one = HttpClient(url, Resolver(SystemClock()), poller=poller, tls=context)
        assert get(one).error == "tls"
        named = HttpClient(
            f"https://localhost:{server.port}", Resolver(SystemClock()), poller=poller, tls=context
        )
        assert get(named).body == b"hello"
        one.close()
        named.close()
