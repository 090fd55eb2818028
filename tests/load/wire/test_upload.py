"""Bodies that are sent again and again lie in a file or a pipe, and are the same bytes."""

from __future__ import annotations

import gc
import multiprocessing
import os
import socket
import threading
from collections.abc import Callable

import pytest

from harness.load.wire import upload
from harness.load.wire.upload import HELD_MAX, HELD_MAX_BYTES, Body, Held, Repeats, from_bytes, hold

CONTENT = os.urandom(300_001)


def content(body: bytes | Body) -> bytes:
    if isinstance(body, bytes):
        return body
    return os.pread(body.fd, body.size_bytes, 0)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection; the first does not wait."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    far.settimeout(5)
    return near, far


def sent(send: Callable[[int], int]) -> tuple[int, bytes]:
    """How much ``send`` says it sent through a socket, and what comes out of it."""
    near, far = pair()
    got: list[bytes] = []

    def read() -> None:
        while data := far.recv(1 << 16):
            got.append(data)

    with near, far:
        size = send(near.fileno())
        reader = threading.Thread(target=read)
        reader.start()
        near.shutdown(socket.SHUT_WR)
        reader.join()
    return size, b"".join(got)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


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


def test_what_a_pipe_holds_is_lent_again_and_again():
    held = Held(CONTENT)
    assert held.size_bytes == len(CONTENT)
    for _ in range(3):
        assert sent(held.lend) == (len(CONTENT), CONTENT)


def test_what_is_held_is_the_beginning_of_what_is_large():
    large = os.urandom(HELD_MAX_BYTES + 70_000)
    held = Held(large)
    assert held.size_bytes == HELD_MAX_BYTES
    size, got = sent(held.lend)
    assert got == large[:size]
    assert size > 0


def test_what_a_socket_does_not_take_is_not_sent_to_the_next():
    held = Held(CONTENT)
    near, far = pair()
    with near, far:
        with pytest.raises(BlockingIOError):
            while True:
                assert 0 < held.lend(near.fileno()) <= len(CONTENT)
        assert sent(held.lend) == (len(CONTENT), CONTENT)
        near.close()
        assert sent(held.lend) == (len(CONTENT), CONTENT)


def test_a_broken_socket_leaves_nothing_behind():
    held = Held(CONTENT)
    assert sent(held.lend)[0]
    near, far = pair()
    with near, far:
        near.shutdown(socket.SHUT_WR)
        with pytest.raises(BrokenPipeError):
            held.lend(near.fileno())
    assert sent(held.lend) == (len(CONTENT), CONTENT)


def test_two_processes_do_not_send_through_one_pipe():
    held = Held(CONTENT)
    assert sent(held.lend)[1] == CONTENT
    assert upload._spare
    mine = {os.fstat(fd).st_ino for pipe in upload._spare for fd in pipe}

    def look(told: object) -> None:
        inherited = len(upload._spare)
        right = sent(held.lend) == (len(CONTENT), CONTENT)
        its = {os.fstat(fd).st_ino for pipe in upload._spare for fd in pipe}
        told.send((inherited, right, mine.isdisjoint(its)))  # type: ignore[attr-defined]

    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=look, args=(there,))
    child.start()
    assert here.poll(10)
    assert here.recv() == (0, True, True)
    child.join()
    assert {os.fstat(fd).st_ino for pipe in upload._spare for fd in pipe} == mine


def test_a_body_is_sent_from_its_pipe_and_from_any_byte_of_its_file():
    body = from_bytes(CONTENT)
    assert sent(lambda fd: body.send(fd, 0)) == (len(CONTENT), CONTENT)
    assert body._held is not None
    assert sent(lambda fd: body.send(fd, 299_000)) == (1001, CONTENT[299_000:])
    part = Body(body.fd, 1000, of=body)
    assert sent(lambda fd: part.send(fd, 0)) == (1000, CONTENT[:1000])
    held = body.held_behind(b"head ")
    assert held is not None
    assert sent(held.lend)[1] == b"head " + CONTENT


@pytest.mark.parametrize("tee", [None, lambda *_: -1])
def test_without_pipes_that_are_lent_a_body_is_sent_from_its_file(monkeypatch, tee) -> None:
    """A system that has no such call, and a kernel that does not do it."""
    monkeypatch.setattr(upload, "_tee", tee)
    body = from_bytes(CONTENT)
    for _ in range(2):
        assert sent(lambda fd: body.send(fd, 0)) == (len(CONTENT), CONTENT)
    assert (hold(CONTENT) is None) == (tee is None)


def test_so_many_pipes_and_no_more_are_held_and_none_is_left():
    gc.collect()
    before, alive = descriptors(), Held.alive
    many = [hold(b"x" * 20_000) for _ in range(HELD_MAX + 5)]
    assert [held is None for held in many].count(True) == 5 + alive
    assert descriptors() == before + HELD_MAX - alive
    del many
    assert (descriptors(), Held.alive) == (before, alive)
