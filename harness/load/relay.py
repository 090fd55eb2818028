"""Evidence on its way from a worker to the run folder of its master.

A worker on another host has no run folder. Its lines are made there, numbered as always,
and sent along with its reports; the master appends them unread to the files they are for.
A line that never arrives leaves its number missing, which the reader of the folder sees.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.clock import Clock
from harness.errors import EvidenceError
from harness.evidence.journal import END, Journal, record_of, text_of
from harness.load.outcome import NOT_SENT

#: file inside the run folder, number of the line, the line
Line = tuple[str, int, str]


def tally_file(worker: str) -> str:
    return f"tallies/{worker}.jsonl"


def ledger_file(worker: str) -> str:
    return f"ledger/{worker}.jsonl"


HISTORY = "history.jsonl"


class Outbox:
    """Lines of this process that have not been sent yet, in order."""

    def __init__(self) -> None:
        self._lines: list[Line] = []

    def add(self, line: Line) -> None:
        self._lines.append(line)

    def take(self) -> list[Line]:
        """All of them; they are no longer here."""
        lines, self._lines = self._lines, []
        return lines

    def put_back(self, lines: list[Line]) -> None:
        """They could not be sent after all."""
        self._lines[:0] = lines


class RelayPen:
    """Writes one source's lines into an outbox."""

    def __init__(self, outbox: Outbox, file: str, source: str, clock: Clock) -> None:
        self._outbox = outbox
        self._file = file
        self._source = source
        self._clock = clock
        self._seq = 0
        self._closed = False

    def write(self, kind: str, /, *, t: float | None = None, **data: Any) -> object:
        record = record_of(self._source, self._seq, self._clock, kind, t, data)
        self._outbox.add((self._file, self._seq, text_of(record)))
        self._seq += 1
        return record

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.write(END, count=self._seq)


class Inbox:
    """Writes what one worker sends into the run folder, and adds up what it counted."""

    def __init__(self, run_dir: Path, worker: str) -> None:
        self.worker = worker
        #: Of all its tally lines so far. ``done`` are those whose outcome is known.
        self.planned = self.done = self.not_sent = 0
        self.thresholds_s: tuple[float, ...] = ()
        self.ended = False
        self._run_dir = run_dir
        self._next = dict.fromkeys((tally_file(worker), ledger_file(worker), HISTORY), 0)
        self._descriptors: dict[str, int] = {}

    def take(self, lines: Iterable[Sequence[Any]]) -> None:
        """Append lines that are not there yet.

        Raises EvidenceError for a file that is not this worker's, OSError when it cannot
        be written.
        """
        for file, seq, text in lines:
            if file not in self._next or not isinstance(seq, int) or "\n" in text:
                raise EvidenceError(f"worker {self.worker} sent a line for {file!r}")
            if seq < self._next[file]:
                continue
            self._append(file, text)
            self._next[file] = seq + 1
            if file == tally_file(self.worker):
                self._add_up(json.loads(text))

    def tally_pen(self, clock: Clock) -> Journal:
        """Goes on with the worker's tally where it ended."""
        file = tally_file(self.worker)
        source = f"tally/{self.worker}"
        return Journal(self._run_dir / file, source, clock, seq=self._next[file])

    def close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def _append(self, file: str, text: str) -> None:
        if file not in self._descriptors:
            path = self._run_dir / file
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._descriptors[file] = os.open(path, flags, 0o600)
        line = (text + "\n").encode()
        if os.write(self._descriptors[file], line) != len(line):
            raise OSError(f"{file}: short write")

    def _add_up(self, line: dict[str, Any]) -> None:
        self.ended |= line["kind"] == "tally.end"
        if line["kind"] == "tally.start":
            self.thresholds_s = tuple(line["thresholds_s"])
        elif line["kind"] == "tally":
            for second in line["seconds"].values():
                self.planned += second["planned"]
                for cell in second["cells"]:
                    if cell["outcome"] == NOT_SENT:
                        self.not_sent += cell["n"]
                    else:
                        self.done += cell["n"]
