"""Output that outlives whoever reads it, and shows no secret."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, TextIO, cast

from harness.secrets import in_mapping, learn, redact

#: The terminal is gone; the reader of the pipe is gone.
_NOBODY_READS = (errno.EIO, errno.EPIPE)


class Lasting:
    """A text stream that drops what nobody reads any more, and redacts secrets.

    A run must end in order when its terminal is lost: undo, evidence and verdict do not wait for a
    line that cannot be shown. Other errors (a full disk) are raised as ever.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As of a file."""
        try:
            self._stream.write(redact(text))
        except OSError as error:
            _raise_unless_unread(error)
        return len(text)

    def flush(self) -> None:
        """As of a file."""
        try:
            self._stream.flush()
        except OSError as error:
            _raise_unless_unread(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _raise_unless_unread(error: OSError) -> None:
    if error.errno not in _NOBODY_READS:
        raise error


def outlive_readers() -> None:
    """From now on this process's output is :class:`Lasting`."""
    learn(in_mapping(os.environ))
    sys.stdout = cast(TextIO, Lasting(sys.stdout))
    sys.stderr = cast(TextIO, Lasting(sys.stderr))
