"""What a right answer looks like; a status of 200 alone says little.

Each check returns an :class:`~harness.load.outcome.Outcome`. Of a body that was dropped unread
(:attr:`Exchange.dropped`) the status, length and headers are checked. Names of what was wrong:
``error-body`` (a success whose body is an error), ``wrong-length``, ``checksum``,
``content-type``, ``content-range``, ``not-a-picture``, ``wrong-width``, ``not-json``; and
``wrong-picture``, by :meth:`harness.load.workload.Call.check_picture`.
"""

from __future__ import annotations

import json

from harness.load import content, jpeg, outcome
from harness.load.outcome import FAILED, OK, UNSURE, Outcome
from harness.load.wire.client import Exchange

#: Of a picture that was served for another picture before.
ANOTHERS = Outcome(FAILED, "wrong-picture")


def whole_file(exchange: Exchange, *, sha256: str, size_bytes: int) -> Outcome:
    """A 200 with exactly the bytes that were uploaded."""
    result = outcome.of_read(exchange, (200,))
    if result.outcome != OK:
        return result
    if exchange.dropped:
        return _by_its_head(exchange, size_bytes=size_bytes, sha256=sha256)
    if exchange.sha256 == sha256:
        stated = exchange.header("x-checksum-sha256")
        return Outcome(FAILED, "checksum") if stated and stated != sha256 else Outcome(OK)
    if outcome.is_error_body(exchange):
        return Outcome(FAILED, "error-body")
    return Outcome(FAILED, "checksum" if exchange.size_bytes == size_bytes else "wrong-length")


def unchanged_or_whole(exchange: Exchange, *, sha256: str, size_bytes: int) -> Outcome:
    """A 304 without body, or the whole file (the service may have lost the tag)."""
    if not exchange.error and exchange.status == 304:
        return Outcome(FAILED, "wrong-length") if exchange.size_bytes else Outcome(OK)
    return whole_file(exchange, sha256=sha256, size_bytes=size_bytes)


def part(
    exchange: Exchange,
    *,
    first: int,
    last: int,
    size_bytes: int,
    sha256: str,
    expected: bytes = b"",
) -> Outcome:
    """A 206 with the bytes from ``first`` to ``last``, or the whole file in a 200.

    ``expected`` are those bytes; not needed for a body that was dropped.
    """
    if not exchange.error and exchange.status == 200:
        return whole_file(exchange, sha256=sha256, size_bytes=size_bytes)
    result = outcome.of_read(exchange, (206,))
    if result.outcome != OK:
        return result
    stated = f"bytes {first}-{last}/{size_bytes}"
    if exchange.header("content-range") != stated:
        return Outcome(FAILED, "content-range")
    if exchange.dropped:
        return _by_its_head(exchange, size_bytes=last - first + 1, sha256=sha256)
    if len(exchange.body) != len(expected):
        return Outcome(FAILED, "wrong-length")
    return Outcome(OK) if exchange.body == expected else Outcome(FAILED, "checksum")


def picture(exchange: Exchange, *, width: int) -> Outcome:
    """A 200 with a whole JPEG of this width, in pixels; what is declared to be degraded may have
    another."""
    result = outcome.of_read(exchange, (200,))
    if result.outcome != OK:
        return result
    if outcome.is_error_body(exchange):
        return Outcome(FAILED, "error-body")
    if exchange.header("content-type").partition(";")[0] != content.IMAGE_TYPE:
        return Outcome(FAILED, "content-type")
    if exchange.dropped:
        return Outcome(OK) if exchange.size_bytes else Outcome(FAILED, "wrong-length")
    frame = jpeg.frame(exchange.body)
    if frame is None:
        return Outcome(FAILED, "not-a-picture")
    right = frame.width == width or exchange.degraded
    return Outcome(OK) if right else Outcome(FAILED, "wrong-width")


def listing(exchange: Exchange) -> Outcome:
    """A 200 with JSON that is not an error: a list, or an object that holds one."""
    result = outcome.of_read(exchange, (200,))
    if result.outcome != OK:
        return result
    if outcome.is_error_body(exchange):
        return Outcome(FAILED, "error-body")
    try:
        document = json.loads(exchange.body)
    except ValueError:
        return Outcome(FAILED, "not-json")
    values = document.values() if isinstance(document, dict) else [document]
    return Outcome(OK) if any(isinstance(v, list) for v in values) else Outcome(FAILED, "not-json")


def listed(exchange: Exchange) -> list[str]:
    """Ids in the answer to a listing: objects with an ``id``, or names; none if it is neither."""
    try:
        document = json.loads(exchange.body)
    except ValueError:
        return []
    values = document.values() if isinstance(document, dict) else [document]
    entries = next((v for v in values if isinstance(v, list)), [])
    ids = (entry.get("id") if isinstance(entry, dict) else entry for entry in entries)
    return [found for found in ids if isinstance(found, str)]


def upload(exchange: Exchange, *, sha256: str) -> Outcome:
    """A 201 (or 200) that acknowledges these very bytes; see :func:`outcome.of_write`."""
    result = outcome.of_write(exchange, (200, 201))
    stated = exchange.header("x-checksum-sha256")
    if result.outcome == OK and stated and stated != sha256:
        return Outcome(UNSURE, "checksum")
    return result


def _by_its_head(exchange: Exchange, *, size_bytes: int, sha256: str) -> Outcome:
    """What can be said of a body nobody saw: its length (-1: not said), whose it claims to be."""
    if exchange.size_bytes not in (size_bytes, -1):
        return Outcome(FAILED, "wrong-length")
    stated = exchange.header("x-checksum-sha256")
    return Outcome(FAILED, "checksum") if stated and stated != sha256 else Outcome(OK)
