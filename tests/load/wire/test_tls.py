"""TLS through memory: what is left where, and what has gone."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from harness.load.wire.tls import Tls, strict


class Peer:
    """The server's side, by hand; ``tls`` is the client's."""

    def __init__(self, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.sock, self.client = socket.socketpair()
        for end in (self.sock, self.client):
            end.setblocking(False)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self._in, self._out, server_side=True)
        trusting = ssl.create_default_context(cafile=str(certificate))
        # As some builds of Python have it from the start.
        trusting.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
        trusting = strict(trusting)
        self.tls = Tls(self.client, trusting, "localhost")

    def shake_hands(self) -> None:
        done = [False, False]
        for _ in range(10):
            for side, step in enumerate((self.tls.do_handshake, self.step)):
                try:
                    step()
                    done[side] = True
                except BlockingIOError:
                    pass
            if all(done):
                return
        raise AssertionError("no handshake")

    def step(self) -> None:
        self.take()
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        finally:
            self.give()

    def take(self) -> int:
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return 0
        self._in.write(data)
        return len(data)

    def give(self) -> None:
        self.sock.sendall(self._out.read())

    def say(self, *records: bytes) -> None:
        """Each a record of its own, all of them in one piece."""
        for record in records:
            self.object.write(record)
        self.give()

    def heard(self) -> bytes:
        found = b""
        while True:
            self.take()
            try:
                found += self.object.read(1 << 20)
            except ssl.SSLWantReadError:
                return found


@pytest.fixture
def peer(certificate: Path):
    made = Peer(certificate)
    made.shake_hands()
    yield made
    made.sock.close()
    made.client.close()


def read(tls: Tls, most: int = 2048) -> bytes:
    buffer = memoryview(bytearray(most))
    return bytes(buffer[: tls.recv_into(buffer)])


def test_it_tells_of_a_record_that_came_with_another(peer: Peer) -> None:
    peer.say(b"first")
    assert (read(peer.tls), peer.tls.more) == (b"first", False)
    peer.say(b"answer", b"and what nobody asked for")
    assert (read(peer.tls), peer.tls.more) == (b"answer", True)
    assert read(peer.tls) == b"and what nobody asked for"
    with pytest.raises(BlockingIOError):
        read(peer.tls)
    assert not peer.tls.more


def test_it_tells_of_what_is_left_of_a_record(peer: Peer) -> None:
    peer.say(b"0123456789")
    assert (read(peer.tls, 4), peer.tls.more) == (b"0123", True)
    assert (read(peer.tls, 4), peer.tls.more) == (b"4567", True)
    assert read(peer.tls, 4) == b"89"
    with pytest.raises(BlockingIOError):
        read(peer.tls, 4)


def test_half_a_record_is_nothing_yet(peer: Peer) -> None:
    peer.object.write(b"whole")
    data = peer._out.read()
    for part in (data[:3], data[3:9]):
        peer.sock.sendall(part)
        with pytest.raises(BlockingIOError):
            read(peer.tls)
    peer.sock.sendall(data[9:])
    assert read(peer.tls) == b"whole"


def test_what_the_kernel_does_not_take_goes_later_and_once(peer: Peer) -> None:
    peer.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    wanted = bytes(range(256)) * 2048
    heard, at, waits = b"", 0, 0
    while at < len(wanted):
        try:
            at += peer.tls.send(memoryview(wanted)[at:])
        except BlockingIOError:
            waits += 1
            heard += peer.heard()
    heard += peer.heard()
    assert waits > 10
    assert heard == wanted


def test_an_end_is_one_only_when_the_peer_says_so(peer: Peer, certificate: Path) -> None:
    peer.say(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        peer.object.unwrap()
    peer.give()
    assert read(peer.tls) == b"last"
    assert read(peer.tls) == b""

    cut = Peer(certificate)
    cut.shake_hands()
    cut.sock.close()
    with pytest.raises(ssl.SSLEOFError):
        read(cut.tls)
    cut.client.close()
