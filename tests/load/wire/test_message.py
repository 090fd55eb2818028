"""Heads and chunks: what is sound is read, however it is cut; what is not has a name."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.load.wire.client import degraded_to, served_by
from harness.load.wire.message import (
    CHUNKED,
    LAST_CHUNK_BYTES,
    TO_THE_END,
    Chunks,
    Malformed,
    all_headers,
    one_chunk,
    parse_head,
    request_bytes,
)


def head(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([status, *lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    ("raw", "status", "length", "keep"),
    [
        (head("Content-Length: 5"), 200, 5, True),
        (head("content-length:5"), 200, 5, True),
        (head("CONTENT-LENGTH: \t5 "), 200, 5, True),
        (head("Content-Length: 5, 5"), 200, 5, True),
        (head("Content-Length: 5", "Content-Length: 5"), 200, 5, True),
        (head("Transfer-Encoding: Chunked"), 200, CHUNKED, True),
        (head(), 200, TO_THE_END, False),
        (head("Content-Length: 5", "Connection: close"), 200, 5, False),
        (head("Content-Length: 5", "Connection: x, Close"), 200, 5, False),
        (head("Content-Length: 0", status="HTTP/1.0 200 OK"), 200, 0, False),
        (head("Content-Length: 0", "Connection: Keep-Alive", status="HTTP/1.0 200"), 200, 0, True),
        (head("Content-Length: 9", status="HTTP/1.1 304 Not Modified"), 304, 0, True),
        (head(status="HTTP/1.1 204 No Content"), 204, 0, True),
        (head(status="HTTP/1.1 100 Continue"), 100, 0, True),
        (head("Content-Length: 1", status="HTTP/1.1 503 "), 503, 1, True),
        (head("X: a", " folded", "Content-Length: 1"), 200, 1, True),
        (head("Content-Length:", "\t7"), 200, 7, True),
        (head("Content-Length: 5", "Connection: close", "Connection: keep-alive"), 200, 5, False),
        (head("Content-Length: 5", "Connection: x,", " close"), 200, 5, False),
        (head("Transfer-Encoding: chunked", status="HTTP/1.0 200 OK"), 200, CHUNKED, False),
        (head("X-Content-Length: 7", "Content-Length: 1"), 200, 1, True),
    ],
)
def test_a_sound_head_says_how_its_body_ends(
    raw: bytes, status: int, length: int, keep: bool
) -> None:
    found = parse_head(raw)
    assert (found.status, found.length, found.keep) == (status, length, keep)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "bad-response"),
        (head(status="HTTP/2 200 OK"), "bad-response"),
        (head(status="HTTP/1.1 20 OK"), "bad-response"),
        (head(status="HTTP/1.1 2000 OK"), "bad-response"),
        (head(status="HTTP/1.1 099 OK"), "bad-response"),
        (head(status="HTTP/1.1  200 OK"), "bad-response"),
        (head("no colon"), "bad-response"),
        (head("na me: x"), "bad-response"),
        (head(": x"), "bad-response"),
        (head("X: a\0b"), "bad-response"),
        (head("X: a\nContent-Length: 5"), "bad-response"),
        (head("Content-Length: -5"), "bad-response"),
        (head("Content-Length: +5"), "bad-response"),
        (head("Content-Length: 0x5"), "bad-response"),
        (head("Content-Length: 5.0"), "bad-response"),
        (head("Content-Length:"), "bad-response"),
        (head("Content-Length: 5", " 6"), "bad-response"),
        (head("Content-Length: \v5"), "bad-response"),
        (head("Transfer-Encoding: chunked", "\t, gzip"), "bad-response"),
        (head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), "bad-response"),
        (head("Content-Length: " + "9" * 30), "bad-response"),
        (head("Transfer-Encoding: gzip"), "bad-response"),
        (head("Transfer-Encoding: gzip, chunked"), "bad-response"),
        (head("Content-Length: 5", "Content-Length: 6"), "wrong-length"),
        (head("Content-Length: 5, 6"), "wrong-length"),
        (head("Content-Length: 5", "Content-Length: 05"), "wrong-length"),
        (head("Content-Length: 5", "Transfer-Encoding: chunked"), "wrong-length"),
    ],
)
def test_an_unsound_head_has_a_name(raw: bytes, name: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_head(raw)
    assert caught.value.name == name


@pytest.mark.parametrize("status", ["HTTP/1.1 200 OK", "HTTP/1.1 204 No", "HTTP/1.1 302 Found"])
@pytest.mark.parametrize("framing", [(), ("Content-Length: 0",), ("Transfer-Encoding: chunked",)])
def test_a_head_that_asks_for_more_than_reading_it_is_not_plain(
    status: str, framing: tuple[str, ...]
) -> None:
    assert parse_head(head("Connection: keep-alive", *framing, status=status)).plain
    for more in ("Location: /", "SET-COOKIE: a=b", "content-encoding:", "Set-Cookie", "X: a"):
        lines = (*framing, more if ":" in more else f"{more}:", " folded")
        assert parse_head(head(*lines, status=status)).plain is (more == "X: a")


def test_headers_are_found_by_lower_case_name_and_kept_in_order_with_their_own() -> None:
    found = parse_head(head("X-A: b ", "Set-Cookie: c=1", "Set-Cookie: d=2", "Content-Length: 0"))
    assert (found.header("x-a"), found.header("set-cookie"), found.header("nope")) == (
        "b",
        "d=2",
        "",
    )
    assert all_headers(found.raw)[1:3] == [("Set-Cookie", "c=1"), ("Set-Cookie", "d=2")]


def read_chunks(text: bytes, cuts: list[int]) -> tuple[bytes, int, bool]:
    """Body, bytes used, and whether the end was reached, of a text cut at some places."""
    chunks = Chunks()
    body = b""
    used = 0
    places = [0, *sorted({c % (len(text) + 1) for c in cuts}), len(text)]
    for first, last in itertools.pairwise(places):
        n, pieces = chunks.feed(memoryview(text)[first:last])
        body += b"".join(pieces)
        used += n
        assert n == last - first or chunks.done
        if chunks.done:
            break
    return body, used, chunks.done


CHUNKED_TEXT = b"4\r\nwiki\r\n005;x=y\r\npedia\r\n0\r\nTrailer: x\r\n\r\n"


@given(st.lists(st.integers(0, len(CHUNKED_TEXT)), max_size=20))
def test_chunks_are_put_together_however_they_are_cut(cuts: list[int]) -> None:
    whole = len(CHUNKED_TEXT)
    assert read_chunks(CHUNKED_TEXT, cuts) == (b"wikipedia", whole, True)


def test_what_follows_the_last_chunk_is_left() -> None:
    body, used, done = read_chunks(CHUNKED_TEXT + b"HTTP/1.1 200", [])
    assert (body, used, done) == (b"wikipedia", len(CHUNKED_TEXT), True)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"zz\r\n", "bad-response"),
        (b"\r\n", "bad-response"),
        (b"-4\r\n", "bad-response"),
        (b"0x4\r\n", "bad-response"),
        (b"4\nwiki\r\n", "bad-response"),
        (b"4\r\nwikiX\r\n", "bad-response"),
        (b"4\r\nwiki\n", "bad-response"),
        (b"f" * 16 + b"\r\n", "bad-response"),
        (b" 4\r\n", "bad-response"),
        (b"\v4\r\n", "bad-response"),
        (b"4 4\r\n", "bad-response"),
        (b"4;a\rb\r\n", "bad-response"),
        (b"0\r\nno colon\r\n\r\n", "bad-response"),
        (b"0\r\n: x\r\n\r\n", "bad-response"),
        (b"0\r\n x: y\r\n\r\n", "bad-response"),
        (b"0\r\n" + b"x: y\r\n" * 20_000, "head-too-large"),
        (b"1;" + b"x" * 70_000 + b"\r\n", "head-too-large"),
    ],
)
def test_a_broken_chunk_has_a_name(text: bytes, name: str) -> None:
    for cuts in ([], list(range(min(len(text), 200)))):
        with pytest.raises(Malformed) as caught:
            read_chunks(text, cuts)
        assert caught.value.name == name


def test_data_dropped_elsewhere_counts_as_read() -> None:
    chunks = Chunks()
    used, pieces = chunks.feed(memoryview(b"a\r\n123"))
    assert (used, b"".join(pieces), chunks.left) == (6, b"123", 7)
    chunks.skipped(7)
    chunks.feed(memoryview(b"\r\n0\r\n\r\n"))
    assert (chunks.done, chunks.size_bytes) == (True, 10)


def test_a_request_is_its_bytes() -> None:
    assert request_bytes("GET", "/a?b=c", "h:1", [("X", "y")]) == (
        b"GET /a?b=c HTTP/1.1\r\nHost: h:1\r\nX: y\r\n\r\n"
    )
    assert b"Content-Length: 0\r\n" in request_bytes("PUT", "/", "h")
    assert b"Content-Length: 7\r\n" in request_bytes("GET", "/", "h", length=7)


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET\r\n", "/", []),
        ("G T", "/", []),
        ("GET", "", []),
        ("GET", "/a b", []),
        ("GET", "/a\r\nX: y", []),
        ("GET", "/", [("X\r\nY", "z")]),
        ("GET", "/", [("X", "a\r\nY: z")]),
        ("GET", "/", [("X", "a\nb")]),
    ],
)
def test_what_would_not_be_one_request_is_refused(
    method: str, target: str, headers: list[tuple[str, str]]
) -> None:
    with pytest.raises(ValueError):
        request_bytes(method, target, "h", headers)


@pytest.mark.parametrize(
    ("lines", "served"),
    [
        (["X-Served-Region: east", "X-Served-Zone: a "], ("east", "a")),
        (["x-served-region: east", "x-cache: Miss from cloudfront"], ("east", "")),
        (["x-served-region: east", "X-Cache: RefreshHit from edge"], ("east", "")),
        # What is in a cache was served by a region once, and not now.
        (["x-served-region: east", "x-served-zone: a", "X-Cache: Hit from edge"], ("edge", "")),
        (["content-length: 0"], ("", "")),
    ],
)
def test_who_served_is_told_by_headers(lines: list[str], served: tuple[str, str]) -> None:
    assert served_by(parse_head(head("Content-Length: 0", *lines))) == served


@pytest.mark.parametrize(
    ("lines", "degraded"),
    [
        (["X-Degraded: stale"], "stale"),
        (["x-degraded: Placeholder; of=image", "x-served-zone: a"], "placeholder"),
        (["X-Degraded: 1"], "degraded"),
        (["X-Degraded: " + "a" * 99], "a" * 32),
        (["X-Degraded:"], ""),
        (["X-Not-Degraded: stale"], ""),
    ],
)
def test_what_an_answer_is_instead_is_told_by_a_header(lines: list[str], degraded: str) -> None:
    found = parse_head(head("Content-Length: 0", *lines))
    assert degraded_to(found) == degraded
    assert served_by(found) == ("", "a" if "x-served-zone: a" in lines else "")


# ---- one small chunk ------------------------------------------------------------------------

_CHUNKED = [
    b"2\r\nok\r\n0\r\n\r\n",
    b"A\r\n0123456789\r\n0\r\n\r\n",
    b"ff\r\n" + b"x" * 255 + b"\r\n0\r\n\r\n",
    b"7fb\r\n" + b"y" * 2043 + b"\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("body", _CHUNKED)
def test_a_body_of_one_small_chunk_is_seen_at_one_look(body: bytes) -> None:
    buffer = bytearray(b"head\r\n\r\n" + body + b"left over from before")
    start = one_chunk(buffer, 8, 8 + len(body))
    assert buffer[start : 8 + len(body) - LAST_CHUNK_BYTES] == body.split(b"\r\n")[1]


@pytest.mark.parametrize("body", [*_CHUNKED, b"0\r\n\r\n", b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"])
def test_one_look_never_sees_what_the_parser_does_not(body: bytes) -> None:
    """Every body cut short, made longer, or with any byte of its framing changed."""
    odd = b"\r\n0 ;+-_xXgG\0"
    places = [*range(min(len(body), 8)), *range(max(0, len(body) - 8), len(body))]
    changed = [body[:i] + odd[k : k + 1] + body[i + 1 :] for i in places for k in range(len(odd))]
    inserted = [body[:i] + odd[k : k + 1] + body[i:] for i in places for k in range(len(odd))]
    seen = 0
    for said in [body, *(body[:n] for n in places), body + b"x", *changed, *inserted]:
        start = one_chunk(bytearray(said), 0, len(said))
        if not start:
            continue
        seen += 1
        chunks = Chunks()
        used, pieces = chunks.feed(memoryview(said))
        assert chunks.done
        assert used == len(said)
        assert b"".join(pieces) == said[start:-LAST_CHUNK_BYTES]
    assert seen or body not in _CHUNKED
