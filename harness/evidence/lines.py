"""Reads journals the way they may really be found: cut off, torn, with lines missing.

Nothing here raises for what is inside a file. Whatever cannot be used, or should be there
and is not, is returned as a :class:`~harness.evidence.model.Gap`.
"""

from __future__ import annotations

import json
import math
from itertools import islice
from pathlib import Path
from typing import Any

from harness.evidence.journal import END
from harness.evidence.model import Event, Gap

#: Missing numbers named in a gap.
_SHOWN = 5
_IN_ORDER = ("source", "seq", "t", "m", "kind")
_FRAME = frozenset(_IN_ORDER)


def read_lines(path: Path, label: str) -> tuple[list[Event], list[Gap]]:
    """Events of a journal file, ordered by instant, and the gaps in it.

    ``label`` names the file in gaps (its path inside the run folder). ``source.end`` lines
    are checked and left out.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        return [], [Gap(label, "file", None, f"cannot be read: {error.strerror}")]
    events: list[Event] = []
    gaps: list[Gap] = []
    if not raw:
        return [], [Gap(label, "file", None, "is empty")]
    lines = raw.split(b"\n")
    if lines[-1]:
        gaps.append(Gap(label, "line", None, f"line {len(lines)} has no end: cut off"))
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        event = _event(line, number)
        if event is None and number == len(lines):
            continue  # cut off, as said above
        if event is None:
            gaps.append(Gap(label, "line", None, f"line {number} is not a journal line"))
        else:
            events.append(event)
    if not events:
        gaps.append(Gap(label, "file", None, "holds no journal line"))
    gaps.extend(sequence_gaps(events, label))
    events = [event for event in events if event.kind != END]
    events.sort(key=lambda event: (event.t, event.line))
    return events, gaps


def _event(line: bytes, number: int) -> Event | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not record.keys() >= _FRAME:
        return None
    source, seq, t, m, kind = (record.pop(key) for key in _IN_ORDER)
    t, m = instant(t), instant(m)
    if t is None or m is None or not isinstance(seq, int) or isinstance(seq, bool):
        return None
    return Event(str(source), seq, t, m, str(kind), record, number)


def instant(value: Any) -> float | None:
    """A finite number as float, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def sequence_gaps(events: list[Event], label: str) -> list[Gap]:
    """What the numbers and the closing lines of each source say is missing."""
    by_source: dict[str, list[Event]] = {}
    for event in events:
        by_source.setdefault(event.source, []).append(event)
    gaps = []
    for source, mine in by_source.items():
        numbers = [event.seq for event in mine]
        missing = _missing({number for number in numbers if number >= 0})
        if missing:
            gaps.append(Gap(source, "sequence", None, f"{label}: {missing} missing"))
        if len(set(numbers)) < len(numbers) or min(numbers) < 0:
            gaps.append(Gap(source, "sequence", None, f"{label}: numbers used more than once"))
        ends = [event for event in mine if event.kind == END]
        if not ends:
            gaps.append(Gap(source, "end", None, f"{label}: ends without {END}"))
        elif ends[-1].data.get("count") != ends[-1].seq or ends[-1].seq != max(numbers):
            gaps.append(Gap(source, "end", None, f"{label}: {END} does not match the lines"))
    return gaps


def _missing(present: set[int]) -> str:
    """The numbers left out below the highest, in words; empty if there are none."""
    top = max(present, default=-1)
    n = top + 1 - len(present)
    # The first few are found after at most as many steps as there are numbers present.
    first = islice((number for number in range(top + 1) if number not in present), min(n, _SHOWN))
    shown = ", ".join(str(number) for number in first)
    more = f" and {n - _SHOWN} more" if n > _SHOWN else ""
    return "" if n == 0 else f"number {shown}" if n == 1 else f"numbers {shown}{more}"
