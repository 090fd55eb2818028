"""Bodies that are sent again and again lie in a file, and are the same bytes."""

from __future__ import annotations

import os

from harness.load.wire.upload import Body, Repeats


def content(body: bytes | Body) -> bytes:
    if isinstance(body, bytes):
        return body
    return os.pread(body.fd, body.size_bytes, body.offset) + body.tail


def test_a_body_lies_in_a_file_from_the_second_time_on():
    repeats, large, small = Repeats(), os.urandom(100_000), b"x" * 1000
    assert repeats.of(large) is large
    again = repeats.of(large)
    assert isinstance(again, Body)
    assert content(again) == large
    assert repeats.of(large) is again
    assert [repeats.of(small) for _ in range(3)] == [small] * 3
    # Equal, but another object: nobody has compared them.
    assert repeats.of(bytes(bytearray(large))) == large


def test_bodies_that_come_but_once_are_not_kept_for_ever():
    repeats = Repeats()
    for n in range(200):
        made = bytes([n]) * 1_000_000
        assert repeats.of(made) is made
    kept = sum(len(seen) for seen, _ in repeats._seen.values())
    assert kept <= Repeats.MAX_BYTES
    huge = bytes(Repeats.MAX_BYTES + 1)
    assert [repeats.of(huge) is huge for _ in range(3)] == [True] * 3
