"""TLS over a socket that never waits.

What goes over the wire passes through memory: OpenSSL reading from the socket itself would ask
the kernel twice for every answer (the length of a record, then the record), and could not tell
without a further call whether it left something there.
"""

from __future__ import annotations

import contextlib
import ssl
from _socket import socket as _Socket
from _ssl import MemoryBIO as _MemoryBIO
from typing import Any

#: Most that is read from the socket at once.
_READ_BYTES = 64 * 1024
#: Most that is encrypted ahead of what the socket takes.
_WRITE_BYTES = 64 * 1024

_buffer = bytearray(_READ_BYTES)
_view = memoryview(_buffer)
#: The first so many bytes, ready, for answers as small as most: a view made anew costs more.
_firsts = {n: _view[:n] for n in range(1, 2 * 1024)}


def strict(context: ssl.SSLContext) -> ssl.SSLContext:
    """``context``, by which a connection cut off is an error and not an end.

    Not all builds of Python have it so: what was cut would pass for whole.
    """
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


class Tls:
    """The client's side of TLS on ``sock``, which must not block.

    Raises as a socket does: BlockingIOError where the kernel has nothing or takes no more, OSError
    (ssl.SSLError among them) where the connection is broken.
    """

    __slots__ = ("_held", "_in", "_object", "_out", "_sock", "_unsent", "more")

    def __init__(self, sock: _Socket, context: ssl.SSLContext, server_name: str | None) -> None:
        self._sock = sock
        self._in = _MemoryBIO()
        self._out = _MemoryBIO()
        # The object itself, without the standard library's class around it.
        self._object: Any = context._wrap_bio(  # type: ignore[attr-defined]
            self._in, self._out, False, server_hostname=server_name
        )
        #: whether there may be more to be read than the last read gave; no event tells of it
        self.more = False
        #: encrypted and not yet taken by the kernel; ``_held`` bytes of what was to be sent
        self._unsent: bytes | memoryview = b""
        self._held = 0

    def do_handshake(self) -> None:
        """Go on with the handshake; after BlockingIOError, once the socket has or takes more."""
        while True:
            self._flush()
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush()  # tells the peer why
                raise
            else:
                break
        self.more = True
        self._flush()

    def send(self, data: bytes | memoryview, _flags: int = 0) -> int:
        """How much of ``data`` has gone; after BlockingIOError, the same is to be given again."""
        if not self._held:
            if len(data) > _WRITE_BYTES:
                data = memoryview(data)[:_WRITE_BYTES]
            size: int = self._object.write(data)
            unsent = self._out.read()
            try:
                sent = self._sock.send(unsent)
            except BlockingIOError:
                sent = 0
            if sent == len(unsent):
                return size
            self._held = size
            self._unsent = memoryview(unsent)[sent:]
        self._flush()
        held, self._held = self._held, 0
        return held

    def recv_into(self, view: memoryview, _size: int = 0, _flags: int = 0) -> int:
        """How much was read into ``view``, at most one record; 0 when the peer has ended."""
        if not self.more:
            # What _receive does, written out: this is done once per answer.
            received = self._sock.recv_into(_buffer)
            try:
                self._in.write(_firsts[received])
            except KeyError:
                self._take(received)
        room = len(view)
        while True:
            try:
                size: int = self._object.read(room, view)
            except ssl.SSLWantReadError:
                self._receive()
            except ssl.SSLZeroReturnError:
                return 0
            except ssl.SSLError as error:
                # Some versions of Python do not have their class for it here.
                if error.reason == "UNEXPECTED_EOF_WHILE_READING":
                    raise ssl.SSLEOFError(*error.args) from error
                raise
            else:
                # A read that was not filled took all there was of the record.
                if size == room or self._in.pending:
                    self.more = True
                return size

    def _receive(self) -> None:
        self.more = False
        self._take(self._sock.recv_into(_buffer))

    def _take(self, received: int) -> None:
        if received:
            self._in.write(_view[:received])
        else:
            self._in.write_eof()
        self.more = received == _READ_BYTES

    def _flush(self) -> None:
        while unsent := self._unsent or self._out.read():
            self._unsent = unsent
            self._unsent = memoryview(unsent)[self._sock.send(unsent) :]
