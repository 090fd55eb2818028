"""The server that plays the cases: many connections at once, on a thread of its own.

Every client has an address of 127/8 to itself, so one listener knows whose connection it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
import ssl
import struct
import threading
from collections import Counter
from pathlib import Path

from tests.load.fuzz.script import Case, Step

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_GONE = (OSError, ssl.SSLError, EOFError)


class Slot:
    """One client's part of the server. ``current`` is the exchange the client is at."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.current = 0
        self.connections = 0
        #: by exchange: bytes of requests that came, and whole requests
        self.received_bytes: Counter[int] = Counter()
        self.requests: Counter[int] = Counter()
        #: exchanges whose steps are all done
        self.played: set[int] = set()
        self.tasks: set[asyncio.Task[None]] = set()


class Hostile:
    """Use as a context manager. ``port`` is the same on every address."""

    def __init__(self, certificate: Path) -> None:
        self.slots: dict[str, Slot] = {}
        self._addresses = (
            f"127.{a}.{b}.{c}"
            for a, b, c in itertools.product(range(200, 254), range(1, 255), range(1, 255))
        )
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate)
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("0.0.0.0", 0))
        self._listener.listen(4096)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Hostile:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._listener.close()

    def open(self, case: Case) -> tuple[str, Slot]:
        """An address that plays the case."""
        address = next(self._addresses)
        slot = self.slots[address] = Slot(case)
        return address, slot

    def forget(self, address: str) -> None:
        """End whatever goes on there."""
        slot = self.slots.pop(address)

        def end() -> None:
            for task in list(slot.tasks):
                task.cancel()

        self._loop.call_soon_threadsafe(end)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        accepting = self._loop.create_task(self._accept())
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        del accepting
        self._loop.close()

    async def _accept(self) -> None:
        while True:
            sock, _ = await self._loop.sock_accept(self._listener)
            slot = self.slots.get(sock.getsockname()[0])
            if slot is None:
                sock.close()
                continue
            slot.connections += 1
            task = self._loop.create_task(self._serve(sock, slot))
            slot.tasks.add(task)
            task.add_done_callback(slot.tasks.discard)

    async def _serve(self, sock: socket.socket, slot: Slot) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = _Peer(self._loop, sock, slot, self._tls if slot.case.tls else None)
        try:
            peer.index = slot.current
            first = slot.case.exchanges[peer.index].steps[:1]
            if slot.case.tls and (not first or first[0][0] not in ("raw", "handshake")):
                await peer.shake_hands()
            while True:
                steps = slot.case.exchanges[peer.index].steps
                await self._play(peer, steps)
                slot.played.add(peer.index)
                if not {"request", "head"} & {step[0] for step in steps}:
                    await peer.head()
                    await peer.rest()
                await peer.more()
                peer.index = slot.current
        except _GONE:
            slot.played.add(peer.index)
        finally:
            with contextlib.suppress(OSError):
                sock.close()

    async def _play(self, peer: _Peer, steps: list[Step]) -> None:
        for verb, *about in steps:
            if verb == "pause":
                await asyncio.sleep(about[0])
            elif verb == "send":
                await peer.send([about[0].encode("latin-1")])
            elif verb == "batch":
                await peer.send([text.encode("latin-1") for text in about[0]])
            elif verb == "fill":
                await peer.send([about[0].encode("latin-1") * about[1]])
            elif verb == "raw":
                await peer.raw(about[0].encode("latin-1"))
            elif verb == "handshake":
                await peer.shake_hands(about[0])
            elif verb == "request":
                await peer.head()
                await peer.rest()
            elif verb == "head":
                await peer.head()
            elif verb == "rest":
                await peer.rest()
            else:
                peer.end(verb)


class _Peer:
    """One connection as the server has it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        slot: Slot,
        context: ssl.SSLContext | None,
    ) -> None:
        self.index = 0
        self._loop = loop
        self._sock = sock
        self._slot = slot
        self._got = b""
        self._left = 0
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context and context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def shake_hands(self, size: int | None = None) -> None:
        """All of it, or only ``size`` bytes of our part."""
        assert self._tls is not None
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush(size)
                if size is not None and self._sent:
                    return
                self._incoming.write(await self._recv())
        await self._flush(None)

    _sent = 0

    async def _flush(self, size: int | None) -> None:
        data = self._outgoing.read()
        if data:
            self._sent += 1
            await self._loop.sock_sendall(self._sock, data[:size])

    async def _recv(self) -> bytes:
        data = await self._loop.sock_recv(self._sock, 1 << 16)
        if not data:
            raise EOFError
        return data

    async def _read(self) -> bytes:
        if self._tls is None:
            data = await self._recv()
        else:
            while True:
                try:
                    data = self._tls.read(1 << 16)
                    break
                except ssl.SSLWantReadError:
                    self._incoming.write(await self._recv())
            if not data:
                raise EOFError
        return data

    async def more(self) -> None:
        """Wait for the first bytes of the next request."""
        await self.rest()  # of an upload that was answered before its end, if it comes
        if not self._got:
            self._got = await self._read()

    def _count(self, data: bytes) -> None:
        self._slot.received_bytes[self.index] += len(data)

    async def head(self) -> None:
        while b"\r\n\r\n" not in self._got:
            self._got += await self._read()
        head, _, self._got = self._got.partition(b"\r\n\r\n")
        self._count(head)
        stated = _LENGTH.search(head)
        self._left = int(stated[1]) if stated else 0
        if not self._left:
            self._slot.requests[self.index] += 1

    async def rest(self) -> None:
        if not self._left:
            return
        while self._left:
            if not self._got:
                self._got = await self._read()
            self._count(self._got[: self._left])
            taken = min(self._left, len(self._got))
            self._left -= taken
            self._got = self._got[taken:]
        self._slot.requests[self.index] += 1

    async def send(self, parts: list[bytes]) -> None:
        if self._tls is not None:
            for part in filter(None, parts):
                self._tls.write(part)
            parts = [self._outgoing.read()]
        await self.raw(b"".join(parts))

    async def raw(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    def end(self, verb: str) -> None:
        if verb == "half":
            self._sock.shutdown(socket.SHUT_WR)
            return
        if verb == "notify" and self._tls is not None:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            with contextlib.suppress(OSError):
                self._sock.send(self._outgoing.read())
        if verb == "reset":
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()
        raise EOFError
