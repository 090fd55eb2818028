"""Bodies that are sent without copying them: from memory, or from a file by the kernel.

A body that is sent more than once lies in a file and goes out by ``sendfile``: the
generator's own processor never sees its bytes. Many uploads share one file: what makes
each of them unique is a short tail of its own.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

#: Below this, a body is copied behind its head: one call is cheaper than two.
COPY_MAX_BYTES = 16 * 1024


class Body:
    """``size_bytes`` bytes of a file from ``offset`` on, then ``tail``.

    Closes the descriptor when it goes; one made ``of`` another body uses that one's.
    """

    __slots__ = ("_of", "fd", "offset", "size_bytes", "tail")

    def __init__(
        self,
        fd: int,
        size_bytes: int,
        *,
        offset: int = 0,
        tail: bytes = b"",
        of: Body | None = None,
    ) -> None:
        self.fd = fd
        self.offset = offset
        self.size_bytes = size_bytes
        self.tail = tail
        self._of = of

    def __len__(self) -> int:
        return self.size_bytes + len(self.tail)

    def __del__(self) -> None:
        if self._of is None:
            os.close(self.fd)


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


class Stock:
    """One block of bytes from which uploads of any size up to its own are made.

    Each upload is a stretch of the block and a tail of 16 bytes that no other has, so that no
    two are the same and each has its own checksum, yet none is made or copied.
    """

    TAIL_BYTES = 16

    def __init__(self, content: bytes) -> None:
        self._body = from_bytes(content)
        self._content = content
        self._hashes: dict[int, object] = {}

    def upload(self, size_bytes: int, mark: bytes) -> tuple[Body, str]:
        """``(body, SHA-256 in hex)`` of ``size_bytes`` bytes that end with ``mark`` (16 bytes).

        Raises ValueError for a size below the mark's or above the block's.
        """
        stem = size_bytes - self.TAIL_BYTES
        if len(mark) != self.TAIL_BYTES or not 0 <= stem <= len(self._content):
            raise ValueError(f"no upload of {size_bytes} bytes with a mark of {len(mark)}")
        known = self._hashes.get(stem)
        if known is None:
            known = self._hashes[stem] = hashlib.sha256(memoryview(self._content)[:stem])
        digest = known.copy()  # type: ignore[attr-defined]
        digest.update(mark)
        return Body(self._body.fd, stem, tail=mark, of=self._body), digest.hexdigest()
