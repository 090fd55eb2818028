"""A Prometheus that answers whatever a test scripts, also badly; on loopback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

HOST = "127.108.0.90"

#: (path, parameters, connection, "the test is over") → None; writes the whole answer.
Script = Callable[[str, dict[str, str], socket.socket, threading.Event], None]


class Standin:
    """Serves each connection in a thread; ``asked`` lists (path, parameters)."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._over = threading.Event()
        self._listener = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                received = connection.recv(65536)
                if not received:
                    return
                head += received
            target = head.split(b" ", 2)[1].decode()
            parts = urlsplit(target)
            query = {k: v[0] for k, v in parse_qs(parts.query).items()}
            self.asked.append((parts.path, query))
            self.script(parts.path, query, connection, self._over)


def reply(body: bytes, *, status: str = "200 OK", kind: str = "application/json", **head: str):
    """A script that always answers ``body``."""

    def script(path: str, query: dict[str, str], to: socket.socket, over: threading.Event) -> None:
        send(to, body, status=status, kind=kind, **head)

    return script


def send(
    to: socket.socket,
    body: bytes,
    *,
    status: str = "200 OK",
    kind: str = "application/json",
    length: int | None = None,
    **head: str,
) -> None:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close"]
    lines += [f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name}: {value}" for name, value in head.items()]
    to.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def success(result: Any, kind: str = "vector", **more: Any) -> bytes:
    data = {"resultType": kind, "result": result}
    return json.dumps({"status": "success", "data": data, **more}).encode()


def series(t: float, value: str, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [t, value]}
