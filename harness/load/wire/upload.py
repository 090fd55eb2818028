"""Bodies that are sent without copying them: from memory, or from a file by the kernel.

A body that is sent more than once lies in a file: the generator's own processor never sees its
bytes. Its beginning, most often all of it, lies in a pipe as well. ``sendfile`` looks up every
page of a file anew each time; what a pipe holds is lent to one socket after another as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import tempfile
from pathlib import Path

#: Below this, a body is copied behind its head: one call is cheaper than two.
COPY_MAX_BYTES = 16 * 1024
#: What a pipe is made to hold at least, page by page.
HELD_MAX_BYTES = 512 * 1024
#: The largest piece in which the kernel hands on what a socket got.
PIECE_BYTES = 32 * 1024
#: Bodies of one process whose beginning a pipe holds: users may have so many pipes and no more.
HELD_MAX = 64

_tee = getattr(ctypes.PyDLL(None), "tee", None)  # Linux only
#: Empty pipes ``(read end, write end)``: what is lent passes through one.
_spare: list[tuple[int, int]] = []


def _forget_spare() -> None:
    """After a fork: two processes must not send through one pipe."""
    while _spare:
        _close(_spare.pop())


def _pipe() -> tuple[int, int]:
    pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    with contextlib.suppress(OSError):  # a user may have so many large ones
        fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, HELD_MAX_BYTES)
    return pipe


def _close(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    os.close(pipe[1])


os.register_at_fork(after_in_child=_forget_spare)


class Held:
    """The beginning of what is sent, in pages that a pipe holds: sockets are lent them."""

    __slots__ = ("_fd", "size_bytes")

    #: how many there are in this process
    alive = 0

    def __init__(self, content: bytes) -> None:
        """Holds so much of ``content`` as a pipe does. Raises OSError where there is none."""
        if _tee is None or Held.alive >= HELD_MAX:
            raise OSError("no pipe is to hold it")
        self._fd, write_fd = _pipe()
        Held.alive += 1
        self.size_bytes = 0
        try:
            self._fill(write_fd, memoryview(content)[:HELD_MAX_BYTES])
        finally:
            os.close(write_fd)

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)
            Held.alive -= 1

    def _fill(self, write_fd: int, content: memoryview) -> None:
        """Through a socket: what it delivers is in larger pieces than what is written to a pipe."""
        near, far = socket.socketpair()
        with near, far:
            while self.size_bytes < len(content):
                at = self.size_bytes
                left = near.send(content[at : at + PIECE_BYTES])
                while left:
                    try:
                        moved = os.splice(far.fileno(), write_fd, left)
                    except BlockingIOError:
                        return  # the pieces are small, and the pipe is full
                    self.size_bytes += moved
                    left -= moved

    def lend(self, fd: int) -> int:
        """Send of it what the socket ``fd`` takes, from its start on; returns how much.

        0 where this kernel does not do it. Raises OSError.
        """
        pipe = _spare.pop() if _spare else _pipe()
        lent, sent = _tee(self._fd, pipe[1], self.size_bytes, 0), 0  # type: ignore[misc]
        try:
            if lent > 0:
                sent = os.splice(pipe[0], fd, lent)
        finally:
            if sent == lent:
                _spare.append(pipe)
            else:
                _close(pipe)  # what the socket did not take is still in it
        return sent


def hold(content: bytes) -> Held | None:
    """What holds the beginning of ``content``; None where that can't be had."""
    try:
        return Held(content)
    except OSError:
        return None


class Body:
    """The first ``size_bytes`` bytes of a file.

    Closes the descriptor when it goes; one made ``of`` another body uses that one's.
    """

    __slots__ = ("_held", "_is_asked", "_of", "fd", "size_bytes")

    def __init__(self, fd: int, size_bytes: int, *, of: Body | None = None) -> None:
        self.fd = fd
        self.size_bytes = size_bytes
        self._of = of
        self._held: Held | None = None
        #: whether a pipe was asked to hold it
        self._is_asked = of is not None

    def __len__(self) -> int:
        return self.size_bytes

    def __del__(self) -> None:
        if self._of is None:
            os.close(self.fd)

    def send(self, fd: int, at: int) -> int:
        """Send of it what the socket ``fd`` takes, from byte ``at`` on; returns how much.

        0 when the file has become shorter. Raises OSError.
        """
        if at == 0:
            if not self._is_asked:
                self._is_asked = True
                self._held = hold(self._beginning())
            if self._held is not None and (sent := self._held.lend(fd)):
                return sent
        return os.sendfile(fd, self.fd, at, self.size_bytes - at)

    def held_behind(self, head: bytes) -> Held | None:
        """What holds ``head`` and the beginning of this behind it, if that can be had."""
        return hold(head + self._beginning())

    def _beginning(self) -> bytes:
        return os.pread(self.fd, min(self.size_bytes, HELD_MAX_BYTES), 0)


def from_file(path: Path) -> Body:
    """The whole file ``path``. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return Body(fd, os.fstat(fd).st_size)


def from_bytes(content: bytes) -> Body:
    """A body to be sent many times, from a file without a name that goes with it.

    A file on a disk and not of memory: the kernel keeps it in larger pieces, and sends it from
    its cache in half the time. Raises OSError when there is no room for it.
    """
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return Body(os.dup(file.fileno()), len(content))


class Repeats:
    """Bodies that are sent again and again: from the second time on they lie in a file.

    Known by being the same object. What was seen is kept, up to ``MAX_BYTES`` of it, so that an
    id stays its own.
    """

    MIN_BYTES = 64 * 1024
    MAX_BYTES = 32 * 1024 * 1024

    def __init__(self) -> None:
        self._seen: dict[int, tuple[bytes, Body | None]] = {}
        self._size_bytes = 0

    def of(self, content: bytes) -> bytes | Body:
        """``content``, or the file it lies in."""
        size = len(content)
        if size < self.MIN_BYTES:
            return content
        seen = self._seen.get(id(content))
        if seen is None:
            if self._size_bytes + size > self.MAX_BYTES:
                self._seen.clear()
                self._size_bytes = 0
            if size <= self.MAX_BYTES:
                self._seen[id(content)] = (content, None)
                self._size_bytes += size
            return content
        body = seen[1]
        if body is None:
            try:
                body = from_bytes(content)
            except OSError:  # no room: as before, then
                return content
            self._seen[id(content)] = (content, body)
        return body
