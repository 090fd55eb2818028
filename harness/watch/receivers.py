"""The receivers that alerts are delivered to during a run: HTTP and SMTP, on loopback.

They stand in the configuration of Alertmanager beside the real ones. What arrives is written to
``history.jsonl`` before it is answered, so a delivery that was answered is on record, and one that
could not be written is sent again. The address holds a token: what does not know it is refused.

Several threads: one per connection, few and short-lived, and none ever waits for another.
"""

from __future__ import annotations

import hmac
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

from harness.clock import Clock
from harness.errors import Refused
from harness.evidence.deliveries import DELIVERY, REFUSED, SOURCE, STARTED, UNREADABLE
from harness.evidence.journal import Journal
from harness.target.model import AlertReceivers
from harness.watch.notifications import read
from harness.watch.observer import Observer
from harness.watch.recorder import Unseen

MESSAGE_MAX_BYTES = 4 * 1024 * 1024
#: Seconds a client may take for a line of a request, or to read the answer.
SILENCE_MAX_S = 10.0
CONNECTIONS_MAX = 64
#: Refused requests that are put on record; more say nothing new.
_REFUSED_MAX = 20
_PROBE_TIMEOUT_S = 2.0


class Receivers:
    """All receivers of a target. ``names`` are the receivers'; call :meth:`close` once."""

    def __init__(self, described: AlertReceivers, run_dir: Path, clock: Clock) -> None:
        """Listen from now on. Raises Refused, with nothing left open, where that cannot be."""
        self.described = described
        self.names = sorted(described.receivers)
        self._run_dir, self._clock = run_dir, clock
        self._inboxes: dict[str, _Inbox] = {}
        self._refused = 0
        self._lock = threading.Lock()
        self._servers: list[_Server] = []
        for key, handler in (("http", _Http), ("smtp", _Smtp)):
            address = getattr(described, key)
            if address is not None:
                self._servers.append(self._listen(key, address, handler))

    def _listen(self, key: str, address: str, handler: type[_Handler]) -> _Server:
        host, _, port = address.rpartition(":")
        try:
            return _Server((host, int(port)), handler, self)
        except OSError as error:
            for server in self._servers:
                server.server_close()
            raise Refused(
                f"receivers of alerts cannot listen on {address}: {error.strerror}",
                hint=f"is another run going on? See alert_receivers.{key} of the target file",
            ) from error

    def start(self) -> None:
        """Put on record that each is listening, and take in what comes from now on."""
        for name in self.names:
            self._inboxes[name] = _Inbox(
                name, self.described.receivers[name], self._run_dir, self._clock
            )
        for server in self._servers:
            server.start()

    def close(self) -> None:
        """Listen no more, and close the records."""
        for server in self._servers:
            server.stop()
        for inbox in self._inboxes.values():
            inbox.close()

    def inbox(self, name: str, token: str) -> _Inbox | None:
        """The inbox of ``name``, for who knows the token."""
        if hmac.compare_digest(token.encode(), self.described.token.encode()):
            return self._inboxes.get(name)
        return None

    def refused(self, why: str) -> None:
        """Somebody who did not know the address came; the first few are put on record."""
        with self._lock:
            self._refused += 1
            if self._refused > _REFUSED_MAX or not self.names:
                return
        self._inboxes[self.names[0]].note_refused(why)


class _Inbox:
    """What arrives for one receiver, and its record."""

    def __init__(self, name: str, kind: str, run_dir: Path, clock: Clock) -> None:
        self.name, self.kind = name, kind
        self._clock = clock
        self._journal = Journal(run_dir / "history.jsonl", SOURCE + name, clock)
        self._lock = threading.Lock()
        self._messages = 0
        self._journal.write(STARTED, receiver=name, receiver_kind=kind)

    def take(self, body: bytes) -> str:
        """Put a message on record; returns why it cannot be read, or nothing.

        Raises OSError when it cannot be written: then it has not been delivered.
        """
        arrived_t = self._clock.wall_s()
        try:
            notification = read(self.kind, body)
        except Exception as error:  # noqa: BLE001 - whatever is sent, it is evidence
            why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            self._write(UNREADABLE, arrived_t, why=why, size_bytes=len(body))
            return why
        with self._lock:
            self._messages += 1
            message = self._messages
        for told in notification.told:
            words = {"words": list(told.words)} if told.words else {}
            self._write(
                DELIVERY,
                arrived_t,
                receiver_kind=self.kind,
                message=message,
                status=told.status,
                fingerprint=told.fingerprint,
                known_by=told.known_by,
                labels=dict(told.labels),
                group=notification.group,
                **words,
            )
        if notification.cut_off:
            self._write(UNREADABLE, arrived_t, why=notification.cut_off, size_bytes=len(body))
        return ""

    def note_refused(self, why: str) -> None:
        self._write(REFUSED, self._clock.wall_s(), why=why)

    def _write(self, kind: str, t: float, **data: Any) -> None:
        self._journal.write(kind, t=t, receiver=self.name, **data)

    def close(self) -> None:
        self._journal.close()


class _Server(socketserver.ThreadingTCPServer):
    """A listening socket and its thread; refuses more than so many connections at once."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(
        self, address: tuple[str, int], handler: type[_Handler], receivers: Receivers
    ) -> None:
        self.receivers = receivers
        self._room = threading.Semaphore(CONNECTIONS_MAX)
        self._thread: threading.Thread | None = None
        super().__init__(address, handler)

    def start(self) -> None:
        run = lambda: self.serve_forever(0.1)  # noqa: E731
        self._thread = threading.Thread(target=run, name="alert-receiver", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke off is the client's affair; it says so and sends again."""


class _Handler(socketserver.StreamRequestHandler):
    timeout = SILENCE_MAX_S
    server: _Server


class _Http(BaseHTTPRequestHandler, _Handler):
    """``POST /TOKEN/NAME`` takes a message in; ``GET`` there says that somebody listens."""

    protocol_version = "HTTP/1.1"
    #: What each kind of receiver answers: status, content type, body.
    _ANSWERS: ClassVar[Mapping[str, tuple[int, str, str]]] = {
        "slack": (200, "text/plain", "ok"),
        "pagerduty": (
            202,
            "application/json",
            '{"status":"success","message":"Event processed","dedup_key":""}',
        ),
    }

    def do_GET(self) -> None:
        if self._inbox() is not None:
            self._answer(200, "text/plain", "listening")

    def do_POST(self) -> None:
        inbox = self._inbox()
        length = self.headers.get("Content-Length", "")
        if inbox is None:
            return
        if not re.fullmatch(r"\d{1,10}", length) or int(length) > MESSAGE_MAX_BYTES:
            self._refuse(413, "a message has a Content-Length, of 4 MiB at most")
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return
        try:
            why = inbox.take(body)
        except OSError as error:
            self._refuse(500, f"not on record: {error.strerror}")
            return
        if why:
            self._answer(400, "text/plain", why)
        else:
            self._answer(*self._ANSWERS.get(inbox.kind, (200, "text/plain", "ok")))

    def _inbox(self) -> _Inbox | None:
        _, token, name = (*self.path.partition("?")[0].split("/"), "", "")[:3]
        inbox = self.server.receivers.inbox(name, token)
        if inbox is None or inbox.kind == "email":
            self.server.receivers.refused(f"HTTP {self.command}: no such receiver, or wrong token")
            self._refuse(404, "no such receiver")
            return None
        return inbox

    def _refuse(self, status: int, why: str) -> None:
        self.close_connection = True  # what follows of the request is not read
        self._answer(status, "text/plain", why)

    def _answer(self, status: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what matters is in the history, and the address holds a token."""


class _Smtp(_Handler):
    """Enough of SMTP (RFC 5321, 4.5.1) to take mail in for ``NAME+TOKEN@…``."""

    _LINE_MAX = 1002

    def setup(self) -> None:
        super().setup()
        self._sender: str | None = None
        self._inboxes: list[_Inbox] = []

    def handle(self) -> None:
        self._say("220 harness ESMTP")
        for _ in range(1000):
            line = self.rfile.readline(self._LINE_MAX)
            if not line.endswith(b"\n"):
                return
            verb, _, rest = line.decode("ascii", "replace").strip().partition(" ")
            if verb.upper() == "QUIT":
                self._say("221 bye")
                return
            self._VERBS.get(verb.upper(), _Smtp._unknown)(self, rest)

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def _unknown(self, _: str) -> None:
        self._say("500 unknown command")

    def _helo(self, _: str) -> None:
        self._sender, self._inboxes = None, []
        self._say("250 harness")

    def _mail(self, rest: str) -> None:
        match = re.match(r"FROM:\s*<([^>]*)>", rest, re.IGNORECASE)
        self._sender, self._inboxes = (match[1] if match else None), []
        self._say("250 ok" if match else "501 MAIL FROM:<address>")

    def _rcpt(self, rest: str) -> None:
        match = re.match(r"TO:\s*<([^>+]*)\+([^>@]*)@[^>]*>", rest, re.IGNORECASE)
        if self._sender is None:
            self._say("503 MAIL comes first")
            return
        inbox = self.server.receivers.inbox(match[1], match[2]) if match else None
        if inbox is None or inbox.kind != "email":
            self.server.receivers.refused("SMTP: no such mailbox, or wrong token")
            self._say("550 no such mailbox")
            return
        self._inboxes.append(inbox)
        self._say("250 ok")

    def _data(self, _: str) -> None:
        if not self._inboxes:
            self._say("503 RCPT comes first")
            return
        self._say("354 end with a dot on a line by itself")
        body = self._body()
        if body is None:
            self._say("552 too long")
            return
        try:
            why = [why for inbox in self._inboxes if (why := inbox.take(body))]
        except OSError as error:
            self._say(f"451 not on record: {error.strerror}")
            return
        finally:
            self._sender, self._inboxes = None, []
        self._say(f"554 {why[0]}".encode("ascii", "replace").decode() if why else "250 ok")

    def _body(self) -> bytes | None:
        """The lines up to the dot, first dots taken off again; None when there are too many.

        Raises ConnectionError when the client goes away before the end.
        """
        lines, size = [], 0
        while True:
            line = self.rfile.readline(MESSAGE_MAX_BYTES)
            if not line.endswith(b"\n"):
                raise ConnectionError("cut off")
            if line in (b".\r\n", b".\n"):
                return b"".join(lines) if size <= MESSAGE_MAX_BYTES else None
            size += len(line)
            if size <= MESSAGE_MAX_BYTES:
                lines.append(line[1:] if line.startswith(b".") else line)

    def _reset(self, _: str) -> None:
        self._sender, self._inboxes = None, []
        self._say("250 ok")

    def _noop(self, _: str) -> None:
        self._say("250 ok")

    _VERBS: ClassVar[Mapping[str, Callable[[_Smtp, str], None]]] = {
        "HELO": _helo,
        "EHLO": _helo,
        "MAIL": _mail,
        "RCPT": _rcpt,
        "DATA": _data,
        "RSET": _reset,
        "NOOP": _noop,
    }


class ReceiversListen(Observer):
    """``receiver:<name>`` → ``listening``, as a client of it finds.

    What an alert did not reach counts as not delivered only while somebody was there.
    """

    name = "receivers"
    timeout_s = 2 * _PROBE_TIMEOUT_S

    def __init__(self, described: AlertReceivers, period_s: float) -> None:
        self.period_s = period_s
        self._described = described
        self.subjects = tuple(f"receiver:{name}" for name in sorted(described.receivers))

    def poll(self) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        for name, kind in self._described.receivers.items():
            try:
                self._greet(name, kind)
                found[f"receiver:{name}"] = "listening"
            except (OSError, ValueError) as error:
                found[f"receiver:{name}"] = Unseen(f"{name} does not answer: {error}")
        return found

    def _greet(self, name: str, kind: str) -> None:
        address = self._described.smtp if kind == "email" else self._described.http
        host, _, port = str(address).rpartition(":")
        with socket.create_connection((host, int(port)), timeout=_PROBE_TIMEOUT_S) as connection:
            if kind == "email":
                expected = b"220 "
            else:
                path = f"/{self._described.token}/{name}"
                head = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
                connection.sendall(head.encode())
                expected = b"HTTP/1.1 200 "
            with connection.makefile("rb") as answer:
                line = answer.readline(200)
            if not line.startswith(expected):
                raise ValueError(f"it said {line[:60]!r}")
            if kind == "email":
                connection.sendall(b"QUIT\r\n")

    def renew(self) -> ReceiversListen:
        return ReceiversListen(self._described, self.period_s)
