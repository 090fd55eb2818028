"""A small target for tests, where there may be no nginx: it answers, and counts as one does."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.bench.target import Counts
from tests.bench.workloads import SMALL


class Served:
    """Answers every GET; every other answer is ``short_by`` bytes short. A context manager."""

    def __init__(self, short_by: int = 0) -> None:
        self.requests = 0
        self.connections = 0
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                served.connections += 1
                super().setup()

            def do_GET(self) -> None:
                served.requests += 1
                body = b"s" * (SMALL.answer_bytes - served.requests % 2 * short_by)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                self.wfile.write(head.encode() + body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.pids = [os.getpid()]

    def __enter__(self) -> Served:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def counts(self) -> Counts:
        """As :meth:`tests.bench.target.Nginx.counts`."""
        return Counts(self.requests, self.connections, self.connections)
