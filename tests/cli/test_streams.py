"""A run outlives its terminal."""

from __future__ import annotations

import errno
import io
import os

import pytest

from harness.cli.streams import Lasting


class Broken(io.StringIO):
    """Raises ``number`` on every write and flush."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))

    def flush(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE])
def test_what_nobody_reads_is_dropped(number: int) -> None:
    stream = Lasting(Broken(number))
    assert stream.write("still there?") == 12
    stream.flush()


def test_a_full_disk_is_told() -> None:
    stream = Lasting(Broken(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        stream.write("x")
    with pytest.raises(OSError, match="No space"):
        stream.flush()


def test_it_is_the_stream_otherwise() -> None:
    under = io.StringIO()
    stream = Lasting(under)
    stream.write("a")
    assert under.getvalue() == "a" and stream.isatty() is False
