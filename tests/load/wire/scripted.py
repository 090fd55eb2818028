"""A server that sends exactly the bytes a test scripts, however wrong."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

#: What a connection does once a request has come: bytes to send, seconds to wait, CLOSE or RESET
#: the connection, STOP listening for others.
CLOSE, RESET, STOP = "close", "reset", "stop"
Step = bytes | float | str


class Scripted:
    """The n-th connection plays the n-th script (the last one for all that follow).

    A script is a list of answers; one is played for each request that has come whole (head, and
    as many bytes of body as it states), the last one again for those that follow.
    """

    def __init__(
        self, *scripts: list[Iterable[Step]], host: str = "127.0.0.1", port: int = 0, wrap=None
    ) -> None:
        self.scripts = scripts
        self.requests: list[bytes] = []
        #: which answer of its script each of them was given, once it was
        self.answered: list[int] = []
        self.connections = 0
        #: requests with this in their head are never answered
        self.silent = b""
        self._wrap = wrap
        self._listener = socket.create_server((host, port), family=_family(host))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self._open: list[socket.socket] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        # Each thread closes what it reads from: closed by another, its number would be given to the
        # next connection of the process, and the thread would go on reading from that.
        self._over.set()
        for one in [self._listener, *self._open]:
            with suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10.0)
        assert not any(thread.is_alive() for thread in self._threads)

    def _accept(self) -> None:
        with self._listener:
            while True:
                try:
                    connection, _ = self._listener.accept()
                except OSError:
                    return
                script = self.scripts[min(self.connections, len(self.scripts) - 1)]
                self.connections += 1
                thread = threading.Thread(
                    target=self._serve, args=(connection, script), daemon=True
                )
                self._open.append(connection)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket, script: list[Iterable[Step]]) -> None:
        with suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            if self._wrap is not None:
                connection = self._wrap(connection)
                stack.enter_context(connection)
                self._open.append(connection)
            received = b""
            for number in range(1_000_000):
                answer = script[min(number, len(script) - 1)]
                early = next(iter(answer), b"") == "early"
                received = self._request(connection, received, head_only=early)
                for step in answer:
                    if step == STOP:
                        self._listener.shutdown(socket.SHUT_RDWR)
                    elif isinstance(step, float):
                        self._over.wait(step)
                    elif not _play(connection, step):
                        return
                self.answered.append(number)

    def _request(self, connection: socket.socket, received: bytes, *, head_only: bool) -> bytes:
        """Read one request; returns what came after it."""
        while b"\r\n\r\n" not in received:
            received += _receive(connection)
        head, _, rest = received.partition(b"\r\n\r\n")
        lengths = [
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        wanted = 0 if head_only else (lengths or [0])[0]
        while len(rest) < wanted:
            rest += _receive(connection)
        self.requests.append(head + b"\r\n\r\n" + rest[:wanted])
        if self.silent and self.silent in head:
            self._over.wait(30.0)
        return rest[wanted:]


def _play(connection: socket.socket, step: bytes | str) -> bool:
    """Do one step; False when the connection is over."""
    if isinstance(step, bytes):
        connection.sendall(step)
    elif step == RESET:
        linger = b"\1\0\0\0\0\0\0\0"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()
        return False
    elif step == CLOSE:
        # Not close(): with bytes unread that would be a reset.
        connection.shutdown(socket.SHUT_RDWR)
        return False
    return True


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise OSError("the client went away")
    return data


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def answer(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """A sound answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def dripped(text: bytes, size: int = 1, pause_s: float = 0.001) -> list[Step]:
    """The text in pieces of ``size`` bytes, with pauses."""
    steps: list[Step] = []
    for at in range(0, len(text), size):
        steps += [text[at : at + size], pause_s]
    return steps


def chunked(*pieces: bytes) -> bytes:
    """A chunked answer."""
    text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for piece in pieces:
        text += f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    return text + b"0\r\n\r\n"


Handler = Callable[[bytes], list[Step]]
