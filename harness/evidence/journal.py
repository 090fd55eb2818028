"""Append-only JSON lines whose loss can be seen.

Several processes write one file. Each *source* numbers its lines from 0 and
closes with a line that says how many there were; a number missing, or a source
without its end, is a gap, and a gap is never judged as a pass. One line is one
``write(2)`` on a file opened for append, which Linux does not interleave.

A line: ``{"source": str, "seq": int, "t": wall s, "m": monotonic s, "kind": str, ...}``.
``t`` carries the instant the thing was seen; an optional ``uncertainty_s`` says
how much earlier it may have happened.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from harness.clock import Clock
from harness.secrets import redact

END = "source.end"
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def record_of(
    source: str, seq: int, clock: Clock, kind: str, t: float | None, data: dict[str, Any]
) -> dict[str, Any]:
    """The line number ``seq`` of ``source``, as an object. ``t`` None: the clock's wall instant."""
    return {
        "source": source,
        "seq": seq,
        "t": round(clock.wall_s() if t is None else t, 6),
        "m": round(clock.monotonic_s(), 6),
        "kind": kind,
        **data,
    }


def text_of(record: dict[str, Any]) -> str:
    """The line as it is written, without its end."""
    return _ENCODER.encode(record)


class Journal:
    """One source's pen on a JSON-lines file. Safe to share between threads."""

    def __init__(
        self, path: Path, source: str, clock: Clock, *, fsync: bool = False, seq: int = 0
    ) -> None:
        """``seq``: the number of the first line, for a pen that goes on where another ended."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._source = source
        self._clock = clock
        self._fsync = fsync
        self._seq = seq
        self._lock = threading.Lock()

    def write(self, kind: str, /, *, t: float | None = None, **data: Any) -> dict[str, Any]:
        """Append one line and return it. ``t`` overrides the wall instant (seconds).

        Raises OSError if the line could not be written whole; the caller decides
        what that means (a fault whose undo record fails is not made).
        """
        with self._lock:
            record = record_of(self._source, self._seq, self._clock, kind, t, data)
            line = (redact(text_of(record)) + "\n").encode()
            written = os.write(self._fd, line)
            if written != len(line):
                raise OSError(f"short write: {written} of {len(line)} bytes")
            if self._fsync:
                os.fsync(self._fd)
            self._seq += 1
            return record

    def close(self) -> None:
        """Write the closing line, once, and release the file."""
        if self._fd >= 0:
            self.write(END, count=self._seq)
            os.close(self._fd)
            self._fd = -1
