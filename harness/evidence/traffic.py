"""Tallies and ledgers as values: what the load generators counted and wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.evidence.lines import instant, read_lines
from harness.evidence.model import (
    Event,
    Gap,
    Lateness,
    LedgerEntry,
    Listing,
    Readback,
    ReadbackPass,
    TallyCell,
    TallySecond,
    WorkerTally,
)

_SECOND = re.compile(r"[0-9]{1,12}")
_INDEX = re.compile(r"[0-9]{1,5}")
_OUTCOMES = ("ok", "degraded", "failed", "unsure", "not_sent")


class _Bad(ValueError):
    """A line whose content cannot be used."""


def read_tally(path: Path, label: str) -> tuple[WorkerTally, list[Gap]]:
    """One worker's tallies and the gaps in them."""
    events, gaps = read_lines(path, label)
    start: Mapping[str, Any] = {}
    end: Mapping[str, Any] | None = None
    seconds: list[TallySecond] = []
    lateness: list[Lateness] = []
    for event in sorted(events, key=lambda e: e.line):
        try:
            if event.kind == "tally.start":
                start = event.data
            elif event.kind == "tally.end":
                end = event.data
            elif event.kind == "tally":
                seconds.extend(_seconds(event.data))
                late = _histogram(event.data.get("lateness", {}))
                if late:
                    lateness.append(Lateness(event.t, late))
        except _Bad as error:
            gaps.append(Gap(event.source, "line", None, f"{label}:{event.line}: {error}"))
    if not start:
        gaps.append(Gap(label, "start", None, "no tally.start"))
    if end is None:
        gaps.append(Gap(label, "end", None, "no tally.end: the worker did not finish"))
    worker = str(start.get("worker", path.stem))
    return WorkerTally(worker, start, tuple(seconds), tuple(lateness), end), gaps


def _seconds(data: Mapping[str, Any]) -> list[TallySecond]:
    found = []
    seconds = data.get("seconds")
    if not isinstance(seconds, Mapping):
        raise _Bad("a tally has no seconds")
    for key, body in seconds.items():
        if not isinstance(body, Mapping) or not _SECOND.fullmatch(str(key)):
            raise _Bad(f"second {key!r} is not usable")
        cells = body.get("cells", [])
        if not isinstance(cells, list):
            raise _Bad(f"cells of second {key} are not a list")
        planned = _count(body.get("planned", 0), "planned")
        found.append(TallySecond(int(key), planned, tuple(_cell(cell) for cell in cells)))
    return found


def _cell(cell: Any) -> TallyCell:
    if not isinstance(cell, Mapping) or cell.get("outcome") not in _OUTCOMES:
        raise _Bad("a cell has no known outcome")
    below = cell.get("below", {})
    if not isinstance(below, Mapping):
        raise _Bad("below is not a mapping")
    return TallyCell(
        op=str(cell.get("op", "")),
        region=str(cell.get("region") or ""),
        zone=str(cell.get("zone") or ""),
        outcome=str(cell["outcome"]),
        error=str(cell.get("error") or ""),
        n=_count(cell.get("n"), "n"),
        bytes=_count(cell.get("bytes", 0), "bytes"),
        latency=_histogram(cell.get("latency", {})),
        service=_histogram(cell.get("service", {})),
        below={str(key): _count(value, "below") for key, value in below.items()},
    )


def _count(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _Bad(f"{what} is not a count: {value!r}")
    return value


def _histogram(value: Any) -> dict[int, int]:
    if not isinstance(value, Mapping):
        raise _Bad("a histogram is not a mapping")
    found = {}
    for key, n in value.items():
        if not _INDEX.fullmatch(key):
            raise _Bad("a histogram has a key that is no index")
        # A plain number is looked at here: of each cell there are many.
        found[int(key)] = n if type(n) is int and n >= 0 else _count(n, "bucket")
    return found


@dataclass(frozen=True)
class LedgerFile:
    """What one worker wrote and deleted, and the share of the objects it followed at the end."""

    entries: tuple[LedgerEntry, ...]
    followed: float


def read_ledger(path: Path, label: str) -> tuple[LedgerFile, list[Gap]]:
    """One worker's ledger, and the gaps in it."""
    events, gaps = read_lines(path, label)
    entries = []
    followed = 1.0
    for event in events:
        if event.kind in ("write", "delete"):
            entry = _entry(event)
            if entry is None:
                gaps.append(Gap(event.source, "line", None, f"{label}:{event.line}: no object"))
            else:
                entries.append(entry)
        elif event.kind == "share":
            share = instant(event.data.get("share"))
            if share is None or not 0 < share <= 1:
                detail = f"{label}:{event.line}: no share of the objects"
                gaps.append(Gap(event.source, "line", None, detail))
            else:
                followed = min(followed, share)
    return LedgerFile(tuple(entries), followed), gaps


def _entry(event: Event) -> LedgerEntry | None:
    data = event.data
    if not data.get("object") or not data.get("outcome"):
        return None
    size = data.get("size_bytes", 0)
    planned_t = instant(data.get("planned_t"))
    return LedgerEntry(
        kind=event.kind,
        object=str(data["object"]),
        op=event.text("op") or event.kind,
        sha256=event.text("sha256"),
        size_bytes=size if isinstance(size, int) else 0,
        planned_t=event.t if planned_t is None else planned_t,
        outcome=str(data["outcome"]),
        ack_t=instant(data.get("ack_t")),
        region=event.text("region"),
        t=event.t,
    )


@dataclass(frozen=True)
class ReadbackFile:
    """What was found of the objects, during the run and after it."""

    readbacks: tuple[Readback, ...] = ()
    passes: tuple[ReadbackPass, ...] = ()
    listings: tuple[Listing, ...] = ()


def read_readback(path: Path, label: str) -> tuple[ReadbackFile, list[Gap]]:
    """What was found of each object, and the gaps."""
    events, gaps = read_lines(path, label)
    readbacks, passes, listings = [], [], []
    chosen: dict[str, int] = {}
    for event in events:
        try:
            if event.kind == "readback":
                readbacks.append(_readback(event))
            elif event.kind == "pass.start":
                chosen[event.text("phase")] = _count(event.data.get("chosen"), "chosen")
            elif event.kind == "pass.end":
                phase, asked = event.text("phase"), _count(event.data.get("asked"), "asked")
                passes.append(ReadbackPass(phase, chosen.get(phase, asked), asked, event.t))
            elif event.kind == "listing":
                listings.append(_listing(event))
        except _Bad as error:
            gaps.append(Gap(event.source, "line", None, f"{label}:{event.line}: {error}"))
    return ReadbackFile(tuple(readbacks), tuple(passes), tuple(listings)), gaps


def _readback(event: Event) -> Readback:
    if not event.text("object"):
        raise _Bad("no object")
    return Readback(
        object=event.text("object"),
        result=event.text("result"),
        region=event.text("region"),
        detail=event.text("detail"),
        phase=event.text("phase"),
        t=event.t,
        answers=_count(event.data.get("answers", 0), "answers"),
    )


def _listing(event: Event) -> Listing:
    names = event.data.get("names", {})
    if not isinstance(names, Mapping) or not all(isinstance(n, list) for n in names.values()):
        raise _Bad("names are not lists")
    wrong = {key: _count(event.data.get(key), key) for key in _LISTED}
    found = {str(key): tuple(str(name) for name in value) for key, value in names.items()}
    return Listing(prefix=event.text("prefix"), error=event.text("error"), names=found, **wrong)


_LISTED = ("listed", "twice", "copies", "undeleted", "absent")
