"""One socket and the exchange it is in the middle of.

Everything here runs in the hub, in response to events, and never waits. The common case, a
small answer that arrives whole, takes one ``recv`` into a buffer all connections share, one
look for the end of the head and one call of :meth:`Owner.finished`.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import socket as _sockets
import ssl
from _socket import socket as _Socket
from collections.abc import Callable
from typing import Protocol

from harness.load.wire.ask import Ask
from harness.load.wire.message import (
    CHUNKED,
    HEAD_MAX_BYTES,
    INTERIM_MAX,
    LAST_CHUNK_BYTES,
    Chunks,
    Head,
    Malformed,
    one_chunk,
    parse_head,
)
from harness.load.wire.poller import ERR, HUP, IN, OUT, RDHUP, Poller
from harness.load.wire.tls import Tls
from harness.load.wire.upload import Body

#: The first read of an answer; its head and a small body fit, and little is copied in vain.
FIRST_BYTES = 2 * 1024
#: Further reads of a body somebody looks at.
READ_BYTES = 256 * 1024
#: Most that is dropped inside the kernel by one call.
DROP_BYTES = 1 << 30
#: Heads remembered: the same server says the same thing, but for the date, for a second.
HEADS_MAX = 512
_NEVER = float("inf")
#: Sizes of answers that do not tell whether all was read: none, and just as much as is asked for.
NOT_KNOWN = (-1, FIRST_BYTES, READ_BYTES)
_END = b"\r\n\r\n"
_HTTP = b"HTTP/1."
#: Events after which nothing more will come.
_ENDED = RDHUP | HUP | ERR
_MSG_TRUNC = _sockets.MSG_TRUNC
_MSG_MORE = 0x8000
_NAMES = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "connect-timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EADDRNOTAVAIL: "unreachable",
}


_buffer = bytearray(READ_BYTES)
_view = memoryview(_buffer)
_first = _view[:FIRST_BYTES]
#: The first so many bytes, ready: a view made anew for each answer costs more than this look-up.
_firsts = tuple(_view[:n] for n in range(FIRST_BYTES + 1))
_starts_with, _find = _buffer.startswith, _buffer.find
#: Never written to: with MSG_TRUNC the kernel takes only its length.
_nowhere = memoryview(mmap.mmap(-1, DROP_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
_heads: dict[bytes, Head] = {}
#: Likewise small chunked answers, whose length is not in their head.
_answers: dict[bytes, Head] = {}

#: Within a machine there is nothing to be paced: where BBR is the system's way, it would set a
#: timer for every piece of an upload, which costs more than the sending.
_WITHIN = re.compile(r"127\.|::1\Z")

# States of a connection.
CONNECTING, HANDSHAKE, IDLE, SENDING, AWAITING, IN_HEAD, READING, CLOSED = range(8)

Sink = Callable[[memoryview], object]


def name_of(error: OSError) -> str:
    """The name in :data:`~harness.load.wire.message.ERRORS` of a failure to connect."""
    return _NAMES.get(error.errno or 0, "unreachable")


class Owner(Protocol):
    """Whoever asked: told once per exchange, in the hub, and must not wait there.

    ``connection`` is set by the keeper: where the exchange is going on, which may change.
    Another exchange may begin on it as soon as :meth:`finished` begins one or returns: what is
    needed of the outcome is taken over first.
    """

    connection: Connection | None

    def finished(self, connection: Connection) -> None: ...


class Keeper(Protocol):
    """Whoever keeps the connections."""

    def idle(self, connection: Connection) -> None:
        """It may be used again."""

    def gone(self, connection: Connection) -> None:
        """It was closed; an unasked answer or an end while it was idle included."""

    def again(self, connection: Connection, error: str) -> bool:
        """Nothing of the current request was answered; True if it was begun elsewhere."""


class Connection:
    """A connection and its current exchange.

    When :meth:`Owner.finished` is called the outcome is in ``error`` (empty, or a name of
    :data:`~harness.load.wire.message.ERRORS`), ``head`` (None if none came),
    ``received_bytes`` and the instants ``sent_m``, ``first_m``, ``done_m`` (monotonic;
    0.0 where it did not come to that). ``sent`` says whether any byte may have reached the
    peer.

    ``pool`` is where it puts itself when it may be used again; None: it asks its keeper.
    """

    __slots__ = (
        "_chunks",
        "_cut",
        "_early",
        "_full",
        "_interims",
        "_keep",
        "_left",
        "_partial",
        "_recv_into",
        "_send",
        "_sent_bytes",
        "_sock",
        "_tls",
        "address",
        "ask",
        "body_max_bytes",
        "connect_s",
        "deadline_m",
        "done_m",
        "error",
        "expires_m",
        "fd",
        "first_byte_s",
        "first_m",
        "head",
        "keeper",
        "kept",
        "looked_at_m",
        "now",
        "owner",
        "poller",
        "pool",
        "received_bytes",
        "sent",
        "sent_elsewhere",
        "sent_m",
        "sink",
        "state",
        "tried",
        "whole_m",
    )

    def __init__(
        self,
        poller: Poller,
        keeper: Keeper,
        address: tuple[str, int],
        *,
        expires_m: float,
        pool: list[Connection] | None = None,
        connect_s: float = _NEVER,
        first_byte_s: float | None = None,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        body_max_bytes: int = DROP_BYTES,
    ) -> None:
        """Begin to connect; raises OSError when that is impossible from the start."""
        self.poller = poller
        self.keeper = keeper
        self.pool = pool
        self.address = address
        self.expires_m = expires_m
        self.connect_s = connect_s
        self.first_byte_s = first_byte_s
        self.body_max_bytes = body_max_bytes
        self.now = poller.now
        #: whether the current request began on it when it was there already
        self.kept = False
        self.owner: Owner | None = None
        #: addresses where the current request could not connect before
        self.tried: frozenset[str] = frozenset()
        #: whether another connection may have carried some of it
        self.sent_elsewhere = False
        self.deadline_m = _NEVER
        self.looked_at_m = _NEVER
        self.state = CONNECTING
        self.error = ""
        self.head: Head | None = None
        #: sending broke off: whatever ends with the connection may have been cut
        self._cut = False
        #: an answer has begun, and not all of the request is sent
        self._early = False
        #: the last read was as large as was asked for: there may be more
        self._full = False
        self._keep = True
        self._interims = 0
        self._tls: Tls | None = None
        family = _sockets.AF_INET6 if ":" in address[0] else _sockets.AF_INET
        # Without gevent's or the standard library's wrapping.
        sock = _Socket(family, _sockets.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(_sockets.IPPROTO_TCP, _sockets.TCP_NODELAY, 1)
            if _WITHIN.match(address[0]):
                with contextlib.suppress(OSError):  # where the system has no choice of it
                    sock.setsockopt(_sockets.IPPROTO_TCP, _sockets.TCP_CONGESTION, b"reno")
            code = sock.connect_ex(address)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            if tls is not None:
                self._tls = Tls(sock, tls, server_name)
        except BaseException:
            sock.close()
            raise
        self._sock = sock
        self.fd = sock.fileno()
        carrier = self._tls or sock
        self._send: Callable[..., int] = carrier.send
        self._recv_into: Callable[..., int] = carrier.recv_into
        poller.add(self.fd, self._on_event)

    # ---- what the keeper and the owner call ----------------------------------------------

    def begin(
        self,
        owner: Owner,
        ask: Ask,
        sink: Sink | None,
        deadline_m: float,
        now_m: float,
    ) -> None:
        """Send ``ask``, now or once connected, and read the answer.

        ``sink`` takes the body's pieces (views that are valid only during the call); None
        drops it unread.
        """
        self.owner = owner
        self.ask = ask
        self.sink = sink
        self.whole_m = deadline_m
        self.head = None
        self.received_bytes = 0
        self.first_m = 0.0
        if self.state != IDLE:
            self.sent = False
            self.sent_m = 0.0
            self.deadline_m = min(deadline_m, now_m + self.connect_s)
            self.poller.watch(self)
            return
        # What _begin_waiting does, written out: this is done once per request.
        self.kept = self.sent = True
        self.sent_m = now_m
        if self.first_byte_s is not None:
            deadline_m = min(deadline_m, now_m + self.first_byte_s)
        self.deadline_m = deadline_m
        if self.looked_at_m > deadline_m:
            self.poller.watch(self)
        # The common case: all of it goes at once.
        head, body, send = ask.head, ask.body, self._send
        try:
            if body is None:
                sent_bytes = send(head)
                if sent_bytes == len(head):
                    self.state = AWAITING
                    return
            else:
                held = ask.held
                sent_bytes = held.lend(self.fd) if held is not None and self._tls is None else 0
                if not sent_bytes:
                    sent_bytes = send(head, _MSG_MORE)
                elif sent_bytes == len(head) + len(body):
                    self.state = AWAITING
                    return
        except BlockingIOError:
            sent_bytes = 0
        except OSError as error:
            self._broken(error)
            return
        self._sent_bytes = sent_bytes
        self.state = SENDING
        if body is not None and sent_bytes:
            self._go_on_sending()

    @property
    def body_bytes(self) -> int:
        """Size of the answer's body: as stated, or as far as it came; -1 where it is not known."""
        head = self.head
        if head is None:
            return 0
        if head.length >= 0:
            return head.length
        return self._chunks.size_bytes if self._chunks is not None else -1 - self._left

    def abandon(self) -> None:
        """Give the current exchange up; its owner is not told."""
        self.owner = None
        self.close()

    def close(self) -> None:
        """Close the socket; nobody is told but the keeper."""
        if self.state != CLOSED:
            self._close()
            self.keeper.gone(self)

    def expired(self) -> None:
        """The poller says that the deadline has passed."""
        if self.owner is None:
            return
        if self.state <= HANDSHAKE:
            self._unanswered("connect-timeout")
        elif self.first_m or self.deadline_m >= self.whole_m:
            self._fail("timeout")
        else:
            self._fail("first-byte-timeout")

    # ---- events --------------------------------------------------------------------------

    def _on_event(self, mask: int) -> None:
        if self.state != AWAITING:
            self._other_event(mask)
            return
        # The common case: an answer begins, and most often it is whole. Where somebody looks at
        # the body, as much as there is of it is read at once.
        sink, recv_into = self.sink, self._recv_into
        try:
            n = recv_into(_first if sink is None else _view)
        except BlockingIOError:
            return
        except OSError as error:
            self._broken(error)
            return
        head = self.ask.known
        if (
            head is not None
            and (n == head.whole or (sink is None and head.size <= n < head.whole))
            and _starts_with(head.begins)
            and not mask & _ENDED
            and (self._tls is None or (n == head.whole and not self._tls.more))
        ):
            # It begins as answers to this did before.
            left = head.whole - n
            if sink is not None and n > head.size:
                if head.length > self.body_max_bytes:
                    self._begun(n, mask)
                    return
                sink(_view[head.size : n])
        else:
            end = _find(_END, 0, n) + 4
            if end < 4:
                self._begun(n, mask)
                return
            raw = (_firsts[end] if end <= FIRST_BYTES else _view[:end]).tobytes()
            head = _heads.get(raw)
            if head is None:
                head = self._parsed(raw)
                if head is None:
                    return
            elif head.whole not in NOT_KNOWN and not self.ask.head_only:
                self.ask.known = head
            start, last, left = end, n, head.length - n + end
            if head.length == CHUNKED and (found := one_chunk(_buffer, end, n)):
                start, last, left = found, n - LAST_CHUNK_BYTES, 0
                self._chunks = None
                self._left = -1 - last + start
                if sink is None and n < FIRST_BYTES and not self.ask.head_only:
                    self.ask.known = self._alike(head, n, last - start)
            if (
                left < 0
                or not head.keep
                or mask & _ENDED
                or head.status < 200
                or self.ask.head_only
                or (self._tls is not None and (left > 0 or self._tls.more))
                or (left > 0 and sink is not None)
                or (left == 0 and n == (FIRST_BYTES if sink is None else READ_BYTES))
            ):
                self._begun(n, mask)
                return
            if left == 0 and sink is not None and last > start:
                if last - start > self.body_max_bytes:
                    self._begun(n, mask)
                    return
                sink(_view[start:last])
        # The second most common case: a body that nobody looks at, all of it there.
        if left and not self._drop_rest(head, n, left):
            return
        self.first_m = self.done_m = self.now()
        self.head = head
        self.received_bytes += n + left
        owner = self.owner
        self.owner = self.sink = None
        self.state = IDLE
        pool = self.pool
        if pool is not None:
            pool.append(self)
        else:
            self.keeper.idle(self)
        owner.finished(self)  # type: ignore[union-attr]

    def _other_event(self, mask: int) -> None:
        state = self.state
        if state >= SENDING and state != CLOSED:
            if mask & IN or state != SENDING:
                self._read(mask)
            # That it takes more is told but once, and what was read may have changed the state.
            if mask & OUT and self._has_to_send():
                self._go_on_sending()
        elif state == IDLE:
            self._look_idle()
        elif state == CONNECTING:
            self._connected(mask)
        elif state == HANDSHAKE:
            self._shake_hands(mask)

    def _has_to_send(self) -> bool:
        """Whether some of the request is left, and wanted: one that is answered with a refusal
        before its end is not."""
        if self.state == SENDING:
            return True
        refused = self.head is not None and self.head.status >= 300
        return self._early and self.state != CLOSED and not refused

    def _connected(self, mask: int) -> None:
        code = self._sock.getsockopt(_sockets.SOL_SOCKET, _sockets.SO_ERROR)
        if code:
            self._unanswered(_NAMES.get(code, "reset"))
        elif mask & OUT:
            self.state = HANDSHAKE if self._tls else IDLE
            if self._tls:
                self._shake_hands(mask)
            else:
                self._ready(mask)

    def _shake_hands(self, mask: int) -> None:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except BlockingIOError:
            return
        except OSError:
            self._fail("tls")
            return
        self.state = IDLE
        self._ready(mask)

    def _ready(self, mask: int) -> None:
        """Connected: send what is waiting, if anything is."""
        if self.owner is None:
            self.keeper.idle(self)
            return
        self.sent_m = now_m = self.now()
        self._begin_waiting(now_m)
        self._start()
        if self._tls is not None or mask & (IN | _ENDED):
            # What is there already (it spoke first, or ended at once) is told by no further event.
            self._read(mask)

    def _begin_waiting(self, now_m: float) -> None:
        """Set the deadline of a request about to be sent, for its first byte if there is one."""
        self.sent = True
        self.deadline_m = self.whole_m
        if self.first_byte_s is not None:
            self.deadline_m = min(self.whole_m, now_m + self.first_byte_s)
        if self.looked_at_m > self.deadline_m:
            self.poller.watch(self)

    def _look_idle(self) -> None:
        """Something happened to a connection nobody is using: an end, or bytes unasked for."""
        try:
            n = self._recv_into(_first)
        except BlockingIOError:
            return
        except OSError:
            n = 0
        self.error = "unasked" if n else "closed"
        self.close()

    # ---- sending -------------------------------------------------------------------------

    def _start(self) -> None:
        self._sent_bytes = 0
        self.state = SENDING
        self._go_on_sending()

    def _go_on_sending(self) -> None:
        """Send until all is gone or the socket takes no more (then an event says when it does)."""
        head, body = self.ask.head, self.ask.body
        size = len(head)
        whole = size + len(body) if body is not None else size
        try:
            if body.__class__ is Body and self._sent_bytes == size and self._tls is None:
                # Most often the kernel takes it in one piece.
                self._sent_bytes += body.send(self.fd, 0)
            while (at := self._sent_bytes) < whole:
                if at < size:
                    more = _MSG_MORE if body else 0
                    self._sent_bytes += self._send(memoryview(head)[at:], more)
                elif body is not None:
                    self._sent_bytes += self._send_body(body, at - size)
        except BlockingIOError:
            return
        except OSError:
            # Perhaps it was answered before the end, and refused the rest. The error is told but
            # once: what is read now seems to end in good order.
            self._cut = True
            self._read(IN | RDHUP)
            return
        self._early = False
        if self.state == SENDING:
            self.state = AWAITING

    def _send_body(self, body: Body | bytes, at: int) -> int:
        """Send some of the body from ``at`` on; returns how much."""
        if isinstance(body, bytes):
            return int(self._send(memoryview(body)[at:], 0))
        if self._tls is None:
            sent = body.send(self.fd, at)
            if sent == 0:
                raise OSError(errno.EIO, "the file became shorter")
            return sent
        piece_bytes = min(body.size_bytes - at, READ_BYTES)
        return int(self._send(os.pread(body.fd, piece_bytes, at), 0))

    # ---- reading -------------------------------------------------------------------------

    def _parsed(self, raw: bytes) -> Head | None:
        """The head in ``raw``, remembered; None (and failed) if it is not sound."""
        try:
            head = parse_head(raw)
        except Malformed as wrong:
            self.received_bytes += len(raw)
            self._fail(wrong.name)
            return None
        if len(_heads) >= HEADS_MAX:
            _heads.clear()
        _heads[raw] = head
        return head

    def _alike(self, head: Head, n: int, body_bytes: int) -> Head | None:
        """What stands for the chunked answer of ``n`` bytes, if there was one like it before."""
        whole = _firsts[n].tobytes()
        found = _answers.get(whole)
        if found is None:
            if len(_answers) >= HEADS_MAX:
                _answers.clear()
            _answers[whole] = head.of_this_answer(whole, body_bytes)
        return found if found is not None and found.whole > 0 else None

    def _begun(self, n: int, mask: int) -> None:
        """``n`` bytes of an answer lie at the start of the buffer, and it is not simply whole."""
        if n == 0:
            self._ended()
            return
        if mask & _ENDED:
            self._keep = False
        # Or it just happens to be as large as the least that was asked for: then one look more.
        self._full = n in (FIRST_BYTES, READ_BYTES) or self._tls is not None
        self._take_first(n)
        # With a short read all was read that there was: an event tells of more.
        if self._full or mask & _ENDED:
            self._read(mask)

    def _take_first(self, n: int) -> None:
        """Take ``n`` bytes at the start of the buffer that have some of the head."""
        if not self.received_bytes:
            self._interims = 0
        if not self.first_m:
            self.first_m = self.now()
            self.deadline_m = self.whole_m
        self.received_bytes += n
        if self.state == SENDING:
            self._early = True
        data = _view[:n]
        if self.state == IN_HEAD:
            data = memoryview(self._partial + data)
        self.state = AWAITING
        self._take_head(data)
        if self.state == AWAITING:
            # So far it only said that there will be an answer.
            self.first_m = 0.0
            if self._early:
                self._early = False
                self.state = SENDING

    def _take_head(self, data: memoryview) -> None:
        """Take the head off ``data``, then what it has of the body."""
        while True:
            raw = data[:FIRST_BYTES].tobytes()
            end = raw.find(_END) + 4
            if end < 4 and len(data) > FIRST_BYTES:
                raw = data[:HEAD_MAX_BYTES].tobytes()
                end = raw.find(_END) + 4
            if end < 4:
                self._partial = raw
                self.state = IN_HEAD
                if len(raw) >= HEAD_MAX_BYTES:
                    self._fail("head-too-large")
                elif not _HTTP.startswith(raw[: len(_HTTP)]):
                    self._fail("bad-response")
                return
            head = _heads.get(raw[:end]) or self._parsed(raw[:end])
            if head is None:
                return
            data = data[end:]
            if head.status < 200:
                self._interims += 1
                if head.status == 101 or self._interims > INTERIM_MAX:
                    self._fail("bad-response")
                    return
                if not data:
                    return
                continue
            self._interims = 0
            self.head = head
            self.state = READING
            head_only = self.ask.head_only
            self._chunks = Chunks() if head.length == CHUNKED and not head_only else None
            self._left = 0 if head_only else max(head.length, -1)
            if self._left > self.body_max_bytes:
                self._fail("body-too-large")
            elif data or self._left == 0:
                self._take_body(data)
            return

    def _take_body(self, data: memoryview) -> None:
        """Account for bytes of the body that were read; finish when it is whole."""
        if self._chunks is not None:
            self._take_chunks(data)
        elif self._left < 0:
            if self.sink is not None:
                self.sink(data)
            self._left -= len(data)
            if -self._left > self.body_max_bytes:
                self._fail("body-too-large")
        elif len(data) > self._left:
            self._fail("unasked")
        else:
            if data and self.sink is not None:
                self.sink(data)
            self._left -= len(data)
            if self._left == 0:
                self._whole()

    def _take_chunks(self, data: memoryview) -> None:
        chunks = self._chunks
        assert chunks is not None
        try:
            used, pieces = chunks.feed(data)
        except Malformed as wrong:
            self._fail(wrong.name)
            return
        if self.sink is not None:
            for piece in pieces:
                self.sink(piece)
        if chunks.size_bytes + chunks.left > self.body_max_bytes:
            self._fail("body-too-large")
        elif chunks.done:
            if used < len(data):
                self._fail("unasked")
            else:
                self._whole()

    def _read(self, mask: int) -> None:
        """Read until the answer is whole, or there is no more for now."""
        if mask & _ENDED:
            self._keep = False
        while self.state in (SENDING, AWAITING, IN_HEAD, READING):
            drop = self._to_drop()
            try:
                if drop:
                    asked = drop
                    n = self._recv_into(_nowhere, drop, _MSG_TRUNC)
                elif self.state == READING:
                    asked = READ_BYTES if self._left < 0 else min(self._left + 1, READ_BYTES)
                    n = self._recv_into(_view[:asked])
                else:
                    asked = FIRST_BYTES
                    n = self._recv_into(_first)
            except BlockingIOError:
                return
            except OSError as error:
                self._broken(error)
                return
            self._full = n == asked or self._tls is not None
            if n == 0:
                self._ended()
            elif drop:
                self._dropped(n)
            elif self.state == READING:
                self.received_bytes += n
                self._take_body(_view[:n])
            else:
                self._take_first(n)
            if n < asked and self._tls is None and not mask & _ENDED:
                return

    def _drop_rest(self, head: Head, n: int, left: int) -> bool:
        """Of a body nobody looks at, ``left`` bytes are to come: drop them; whether that was all.

        ``n`` bytes lie in the buffer, head included. If it was not all, it is read on when the
        socket has more.
        """
        try:
            # One more than is to come: whatever is too much must show.
            dropped = self._recv_into(_nowhere, min(left + 1, DROP_BYTES), _MSG_TRUNC)
        except BlockingIOError:
            dropped = -1
        except OSError as error:
            self.received_bytes += n
            self._broken(error)
            return False
        if dropped == left and head.length <= self.body_max_bytes:
            return True
        self.first_m = self.now()
        self.deadline_m = self.whole_m
        self.received_bytes += n
        self.head = head
        self.state = READING
        self._chunks = None
        self._left = left
        self._full = dropped > left
        if head.length > self.body_max_bytes:
            self._fail("body-too-large")
        elif dropped == 0:
            self._ended()
        elif dropped > 0:
            self._dropped(dropped)
            if self._full:
                self._read(IN)
        return False

    def _to_drop(self) -> int:
        """How many bytes of the body may be dropped inside the kernel now; 0 for none."""
        if self.state != READING or self.sink is not None or self._tls is not None:
            return 0
        if self._chunks is not None:
            return min(self._chunks.left, DROP_BYTES)
        # One more than is to come: whatever is too much must show.
        return DROP_BYTES if self._left < 0 else min(self._left + 1, DROP_BYTES)

    def _dropped(self, n: int) -> None:
        self.received_bytes += n
        if self._chunks is not None:
            self._chunks.skipped(n)
            if self._chunks.size_bytes > self.body_max_bytes:
                self._fail("body-too-large")
        elif self._left < 0:
            self._left -= n
            if -self._left > self.body_max_bytes:
                self._fail("body-too-large")
        elif n > self._left:
            self._fail("unasked")
        else:
            self._left -= n
            if self._left == 0:
                self._whole()

    # ---- the end of an exchange ----------------------------------------------------------

    def _whole(self) -> None:
        assert self.head is not None
        keep = self.head.keep and self._keep and not self._early
        if keep and self._full:
            # The next answer must not begin with what is left over of this one.
            try:
                n = self._recv_into(_first[:1])
            except BlockingIOError:
                n = -1
            except OSError:
                n = 0
            if n > 0:
                self._fail("unasked")
                return
            keep = n < 0
        self.done_m = self.now()
        self._finish(keep)

    def _ended(self) -> None:
        """The peer closed its side."""
        if self.state == READING and self._chunks is None and self._left < 0:
            if self._cut:
                self._fail("reset")
            else:
                self._whole()
        elif self.received_bytes:
            self._fail("closed")
        else:
            self._unanswered("closed")

    def _broken(self, error: OSError) -> None:
        name = "reset"
        if isinstance(error, ssl.SSLError):
            # Without the end that TLS has for it, a body that ends with the connection was cut.
            name = "closed" if isinstance(error, ssl.SSLEOFError) else "tls"
        if self.received_bytes:
            self._fail(name)
        else:
            self._unanswered(name)

    def _unanswered(self, error: str) -> None:
        """It ended before any byte of an answer: the request may be begun elsewhere."""
        may = not self.sent or (self.ask.again and self.kept)
        if self.owner is not None and may:
            self._close()
            if self.keeper.again(self, error):
                self.owner = None
                self.keeper.gone(self)
                return
        self._fail(error)

    def _fail(self, error: str) -> None:
        self.error = error
        self.sent = self.sent or self.sent_elsewhere
        self.done_m = self.now()
        self._finish(False)

    def _finish(self, keep: bool) -> None:
        owner, self.owner = self.owner, None
        self.deadline_m = _NEVER
        self.sink = None
        if keep:
            self.state = IDLE
            self.keeper.idle(self)
        else:
            if self.state != CLOSED:
                self._close()
            self.keeper.gone(self)
        if owner is not None:
            owner.finished(self)

    def _close(self) -> None:
        self.state = CLOSED
        self.poller.close(self.fd, self._sock)
