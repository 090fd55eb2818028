"""Bytes of HTTP/1.1 requests and answers. Pure: no socket, no clock.

Strict where leniency would hide a broken server: a head that is not HTTP, two lengths that
differ, a chunk size that is no number. What is wrong is a :class:`Malformed` with a stable
name, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

#: Every error name an exchange can end with, and what it means.
ERRORS = {
    "dns": "the name has no address that may be used",
    "refused": "the connection was refused",
    "unreachable": "the network said that there is no way",
    "connect-timeout": "no connection within the time to connect",
    "tls": "the TLS handshake failed, or what came after it is not TLS",
    "no-connection": "every connection of the pool was busy until the deadline",
    "timeout": "no whole answer within the deadline",
    "first-byte-timeout": "no byte of an answer within the time allowed for the first",
    "reset": "the connection was reset",
    "closed": "the peer closed the connection before the answer was whole",
    "bad-response": "what came back is not HTTP/1.1",
    "head-too-large": "the head of the answer does not end",
    "body-too-large": "the body is larger than is accepted",
    "wrong-length": "the answer states two lengths that differ",
    "unasked": "bytes came that belong to no request",
}

#: More than any sensible head; Apache and nginx send at most 8 KiB a line.
HEAD_MAX_BYTES = 64 * 1024
#: 1xx answers before the real one; a server that sends more is looping.
INTERIM_MAX = 16

#: What may be in a line; of the control characters those that others take for its end are not.
_TEXT = rb"[^\r\n\0\v\f]*"
_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: " + _TEXT + rb")?"
    rb"(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]+:" + _TEXT + rb"(?:\r\n[ \t]" + _TEXT + rb")*)*\r\n\r\n"
)
#: What says how long the body is, and what asks for more than reading it.
_FRAMING = re.compile(
    rb"\r\n(content-length|transfer-encoding|connection|location|set-cookie|content-encoding)"
    rb":[ \t]*([^\r\n]*)",
    re.IGNORECASE,
)
_FOLD = re.compile(rb"\r\n[ \t]+")
#: A line behind the last chunk.
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:" + _TEXT + rb"\Z")
#: All that is white space in HTTP.
_SPACE = b" \t"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_TARGET = re.compile(r"[^\x00-\x20\x7f]+\Z")
_DIGITS = re.compile(rb"[0-9]{1,18}\Z")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;" + _TEXT + rb")?\Z")
#: Looked at together for the end of a line of a chunked body.
_LINE_BYTES = 128
#: Bodies that end with the connection, and none at all.
TO_THE_END = -1
CHUNKED = -2


#: What follows the data of the last chunk that has any, when there is no trailer.
_LAST_CHUNK = b"\r\n0\r\n\r\n"
LAST_CHUNK_BYTES = len(_LAST_CHUNK)
#: How the sizes of small chunks are written, in the usual ways.
_CHUNK_SIZES = {form % size: size for size in range(1, 4096) for form in (b"%x", b"%X")}


class Malformed(Exception):
    """Not a sound answer; ``name`` is one of :data:`ERRORS`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Head:
    """Head of an answer; the same object for every answer with the same bytes, so do not change it.

    ``length`` is the body's size in bytes, or :data:`CHUNKED`, or :data:`TO_THE_END`.
    ``raw`` is the head as received, status line and empty line included. ``plain``: it names no
    other place, sets no cookie, and the body is not encoded. ``size`` of the head in bytes, and
    ``whole``: with the body; -1 unless it is the head of a final answer of a stated length that
    leaves the connection open. ``begins``: what such an answer begins with. ``note`` is for
    whoever reads heads to remember what they found.
    """

    __slots__ = ("begins", "keep", "length", "note", "plain", "raw", "size", "status", "whole")

    def __init__(self, status: int, length: int, keep: bool, raw: bytes, plain: bool) -> None:
        self.status = status
        self.length = length
        self.keep = keep
        self.raw = raw
        self.plain = plain
        self.begins = raw
        self.size = len(raw)
        self.whole = self.size + length if keep and length >= 0 and status >= 200 else -1
        self.note: Any = None

    def of_this_answer(self, answer: bytes, body_bytes: int) -> Head:
        """The head of just this chunked answer, as if the length of its body was stated."""
        head = Head(self.status, body_bytes, self.keep, self.raw, self.plain)
        head.begins = answer
        if head.whole >= 0:
            head.size = head.whole = len(answer)
        return head

    def header(self, name: str) -> str:
        """Value of the header ``name`` (lower case), the last if several, or ``""``."""
        return headers_of(self.raw).get(name, "")


def parse_head(raw: bytes) -> Head:
    """The head of an answer to a request other than HEAD; ``raw`` ends with the empty line.

    Raises Malformed.
    """
    match = _HEAD.fullmatch(raw)
    if match is None:
        raise Malformed("bad-response")
    status = int(match[2])
    old = match[1] == b"0"
    keep, close = not old, False
    digits: bytes | None = None
    chunked, plain = False, True
    # A value that goes on in the next line must not be taken for its first half.
    folded = b"\r\n " in raw or b"\r\n\t" in raw
    for name, value in _FRAMING.findall(_FOLD.sub(b" ", raw) if folded else raw):
        name = name.lower()
        if name == b"content-length":
            found = _one_length(value)
            if digits is not None and found != digits:
                raise Malformed("wrong-length")
            digits = found
        elif name == b"transfer-encoding":
            if chunked or value.strip(_SPACE).lower() != b"chunked":
                raise Malformed("bad-response")
            chunked = True
        elif name == b"connection":
            options = value.lower()
            close = close or b"close" in options
            keep = keep or b"keep-alive" in options
        else:
            plain = False
    # HTTP/1.0 knows no chunks: whoever sends both may mean another end of the body.
    keep = keep and not close and not (old and chunked)
    if status < 200 or status in (204, 304):
        return Head(status, 0, keep, raw, plain)
    if chunked:
        if digits is not None:
            # Two framings: whoever believes the other one sees another answer.
            raise Malformed("wrong-length")
        return Head(status, CHUNKED, keep, raw, plain)
    if digits is None:
        return Head(status, TO_THE_END, False, raw, plain)
    return Head(status, int(digits), keep, raw, plain)


def _one_length(value: bytes) -> bytes:
    """The digits of a Content-Length; several that are the same count as one (RFC 9110, 8.6).

    ``0`` and ``00`` are not the same: others refuse such an answer.
    """
    parts = {part.strip(_SPACE) for part in value.split(b",")}
    if len(parts) != 1:
        raise Malformed("wrong-length")
    (digits,) = parts
    if not _DIGITS.match(digits):
        raise Malformed("bad-response")
    return digits


def headers_of(raw: bytes) -> dict[str, str]:
    """Headers of a sound head, names in lower case; of several the last, cookies apart."""
    found: dict[str, str] = {}
    for line in _lines(raw):
        name, _, value = line.partition(b":")
        found[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
    return found


def all_headers(raw: bytes) -> list[tuple[str, str]]:
    """Every header of a sound head in order, names as sent."""
    pairs = (line.partition(b":") for line in _lines(raw))
    return [(n.decode("latin-1"), v.strip().decode("latin-1")) for n, _, v in pairs]


def _lines(raw: bytes) -> list[bytes]:
    """Header lines, with those that were folded joined again."""
    _, _, rest = raw.partition(b"\r\n")
    unfolded = _FOLD.sub(b" ", rest)
    return [line for line in unfolded.split(b"\r\n") if line]


class Chunks:
    """Takes a chunked body apart, however it is cut into pieces.

    ``left`` is how much of the current chunk's data is still to come: a caller that does not
    want the data may drop as much at once (:meth:`skipped`).
    """

    __slots__ = ("_line", "_state", "_trailer_bytes", "done", "left", "size_bytes")

    def __init__(self) -> None:
        self.left = 0
        self.done = False
        self.size_bytes = 0
        self._line = b""
        self._state = "size"
        self._trailer_bytes = 0

    def feed(self, data: memoryview) -> tuple[int, list[memoryview]]:
        """``(bytes used, pieces of the body)``; stops at the end of the body. Raises Malformed."""
        at, end = 0, len(data)
        pieces: list[memoryview] = []
        while at < end and not self.done:
            if self._state == "data" and self.left:
                piece = data[at : at + self.left]
                pieces.append(piece)
                at += len(piece)
                self.skipped(len(piece))
            else:
                at += self._read_line(data[at:])
        return at, pieces

    def skipped(self, count: int) -> None:
        """``count`` bytes of the current chunk's data are taken care of."""
        self.left -= count
        self.size_bytes += count

    def _read_line(self, data: memoryview) -> int:
        """Collect a line (a size, the end of a chunk, a trailer) and act on it when whole."""
        taken = bytes(data[:_LINE_BYTES])
        taken = taken[: taken.find(b"\n") + 1] or taken
        self._line += taken
        if self._line.endswith(b"\n"):
            line, self._line = self._line, b""
            if not line.endswith(b"\r\n"):
                raise Malformed("bad-response")
            self._act(line[:-2])
        elif len(self._line) > HEAD_MAX_BYTES:
            raise Malformed("head-too-large")
        return len(taken)

    def _act(self, line: bytes) -> None:
        if self._state == "size":
            size = _CHUNK_SIZE.match(line)
            if size is None:
                raise Malformed("bad-response")
            self.left = int(size[1], 16)
            self._state = "data" if self.left else "trailer"
        elif self._state == "data":
            if line:
                raise Malformed("bad-response")
            self._state = "size"
        elif not line:
            self.done = True
        elif not _TRAILER.match(line):
            raise Malformed("bad-response")
        else:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > HEAD_MAX_BYTES:
                raise Malformed("head-too-large")


def one_chunk(buffer: bytearray, at: int, end: int) -> int:
    """Where the data begins, if ``buffer[at:end]`` is a chunked body of one small chunk; else 0.

    The data ends :data:`LAST_CHUNK_BYTES` before ``end``. 0 says nothing against the body: it is
    what :class:`Chunks` makes of it. This is how most small answers come, and one look at them.
    """
    line = buffer.find(b"\r\n", at, at + 5)
    if line < 0:
        return 0
    start = line + 2
    size = _CHUNK_SIZES.get(bytes(buffer[at:line]))
    whole = size == end - LAST_CHUNK_BYTES - start
    return start if whole and buffer.startswith(_LAST_CHUNK, end - LAST_CHUNK_BYTES) else 0


def request_bytes(
    method: str,
    target: str,
    host: str,
    headers: Iterable[tuple[str, str]] = (),
    length: int | None = None,
) -> bytes:
    """Head of a request. ``length`` None: no body, and no Content-Length unless PUT or POST.

    Raises ValueError for what would not be one request: a space or line end in a name, the
    target or a value.
    """
    if not _TOKEN.match(method):
        raise ValueError(f"{method!r} is not a method")
    if not _TARGET.match(target):
        raise ValueError(f"{target!r} has spaces or control characters; quote them")
    lines = [f"{method} {target} HTTP/1.1\r\nHost: {host}"]
    for name, value in headers:
        if not _TOKEN.match(name) or "\n" in value or "\r" in value or "\0" in value:
            raise ValueError(f"{name!r}: {value!r} is not a header")
        lines.append(f"{name}: {value}")
    if length is not None or method in ("PUT", "POST", "PATCH"):
        lines.append(f"Content-Length: {length or 0}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
