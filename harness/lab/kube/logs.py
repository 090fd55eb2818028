"""Pod logs: plain files, with a record of when each part was written.

The process writes its log file itself, so no line carries a time. The kubelet
notes the size of the file at each probe; a line's time is that of the
first note behind it, right to about a probe period.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.clock import Clock
from harness.lab.kube.objects import micro_timestamp

_MARKS = 4096


@dataclass(frozen=True)
class LogOptions:
    """As in the query of ``pods/log``; ``since_s`` seconds before now."""

    tail_lines: int | None = None
    since_s: float | None = None
    timestamps: bool = False
    limit_bytes: int | None = None


class LogBook:
    """One container's log file and the times of its growth."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._marks: deque[tuple[int, float]] = deque(maxlen=_MARKS)
        self.path: Path | None = None

    def open(self, path: Path) -> None:
        self.path = path
        self._marks.clear()

    def mark(self) -> None:
        """Note how far the file has come by now."""
        if self.path is None:
            return
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        if size and (not self._marks or self._marks[-1][0] < size):
            self._marks.append((size, self._clock.wall_s()))

    def _time_of(self, offset: int) -> float:
        for size, wall_s in self._marks:
            if offset < size:
                return wall_s
        return self._clock.wall_s()

    def read(self, options: LogOptions, offset: int = 0) -> tuple[bytes, int]:
        """The asked part of the log from ``offset``, and the offset up to which it was read.

        Reading stops at the last whole line unless the file does not end in one.
        """
        if self.path is None or not self.path.exists():
            return b"", offset
        self.mark()
        with self.path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        lines = list(self._lines(data, offset, options))
        if options.tail_lines is not None:
            lines = lines[len(lines) - options.tail_lines :] if options.tail_lines else []
        text = b"".join(lines)
        return text[: options.limit_bytes], offset + len(data)

    def _lines(self, data: bytes, offset: int, options: LogOptions) -> Iterator[bytes]:
        oldest = None if options.since_s is None else self._clock.wall_s() - options.since_s
        timed = options.timestamps or oldest is not None
        for line in data.splitlines(keepends=True):
            written = self._time_of(offset) if timed else 0.0
            offset += len(line)
            if oldest is not None and written < oldest:
                continue
            yield f"{micro_timestamp(written)} ".encode() + line if options.timestamps else line
