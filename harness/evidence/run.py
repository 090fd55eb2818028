"""The run folder as one value.

:func:`read_run` takes a folder as it was left, whole or not, and returns
:class:`~harness.evidence.model.Evidence` with a gap for each thing that should be there
and is not. Judging needs nothing else.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.errors import EvidenceError, Where
from harness.evidence.following import is_followed
from harness.evidence.lines import instant, read_lines
from harness.evidence.model import (
    Event,
    Evidence,
    FaultRecord,
    Gap,
    LedgerEntry,
    Listing,
    PhaseSpan,
    Readback,
    ReadbackPass,
    Sighting,
    WorkerTally,
)
from harness.evidence.seal import SEAL, broken
from harness.evidence.series import read_series
from harness.evidence.traffic import ReadbackFile, read_ledger, read_readback, read_tally
from harness.secrets import redact


def written_by_others(run_dir: Path) -> list[Path]:
    """What other programs wrote into a run folder: their output, Chaos Toolkit's journals."""
    folders = (run_dir / "logs", run_dir / "chaos")
    return sorted(path for folder in folders for path in folder.glob("*") if path.is_file())


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` (0600) so that a reader sees all of it or none.

    Secrets this process knows of are redacted. Raises OSError; then the file is as it was before.
    """
    with suppress(UnicodeDecodeError):
        content = redact(content.decode()).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_run(run_dir: Path) -> Evidence:
    """Everything in ``run_dir``. Raises EvidenceError if it is no run folder at all."""
    for name in ("plan.json", "history.jsonl"):
        if not (run_dir / name).is_file():
            raise EvidenceError(
                f"there is no {name}",
                hint="give the folder of one run: runs/<gameday>/<time>",
                where=Where(str(run_dir)),
            )
    events, gaps = read_lines(run_dir / "history.jsonl", "history.jsonl")
    tallies, tally_gaps = _tallies(run_dir)
    ledger, followed, ledger_gaps = _ledger(run_dir)
    found, readback_gaps = _readback_file(run_dir)
    series, series_gaps = read_series(run_dir / "series")
    seal_gaps = broken(run_dir) if _is_sealed(events, run_dir) else []
    return evidence_from(
        run=_run_name(events, run_dir),
        events=events,
        tallies=tallies,
        ledger=ledger,
        readbacks=found.readbacks,
        passes=found.passes,
        listings=found.listings,
        followed=followed,
        series=series,
        gaps=[
            *gaps,
            *tally_gaps,
            *ledger_gaps,
            *readback_gaps,
            *series_gaps,
            *seal_gaps,
        ],
    )


def evidence_from(
    *,
    run: str,
    events: list[Event],
    tallies: list[WorkerTally],
    ledger: Iterable[LedgerEntry],
    readbacks: Iterable[Readback],
    series: Mapping[str, Any],
    gaps: list[Gap],
    passes: Iterable[ReadbackPass] = (),
    listings: Iterable[Listing] = (),
    followed: float = 1.0,
) -> Evidence:
    """Evidence from its parts: the history is turned into phases, faults and sightings."""
    sightings, sighting_gaps = _sightings(events)
    phases, phase_gaps = _phases(events)
    return Evidence(
        run=run,
        events=tuple(events),
        sightings=sightings,
        phases=phases,
        faults=_faults(events),
        tallies=tuple(tallies),
        ledger=tuple(ledger),
        readbacks=tuple(readbacks),
        series=dict(series),
        gaps=(*gaps, *sighting_gaps, *phase_gaps),
        passes=tuple(passes),
        listings=tuple(listings),
        followed=followed,
    )


def _is_sealed(events: list[Event], run_dir: Path) -> bool:
    """Whether it was to be: runs recorded before there were seals say nothing of one."""
    starts = [event for event in events if event.kind == "run.start"]
    return (run_dir / SEAL).exists() or any(event.data.get("sealed") for event in starts)


def _run_name(events: list[Event], run_dir: Path) -> str:
    starts = [event.text("run") for event in events if event.kind == "run.start"]
    return starts[0] if starts and starts[0] else run_dir.name


def _tallies(run_dir: Path) -> tuple[list[WorkerTally], list[Gap]]:
    tallies, gaps = [], []
    for path in sorted((run_dir / "tallies").glob("*.jsonl")):
        tally, found = read_tally(path, f"tallies/{path.name}")
        tallies.append(tally)
        gaps.extend(found)
    return tallies, gaps


def _ledger(run_dir: Path) -> tuple[list[LedgerEntry], float, list[Gap]]:
    """What became of the objects followed, which share of all they are, and the gaps."""
    entries: list[LedgerEntry] = []
    followed = 1.0
    gaps: list[Gap] = []
    for path in sorted((run_dir / "ledger").glob("*.jsonl")):
        if path.stem == "readback":
            continue
        ledger, found = read_ledger(path, f"ledger/{path.name}")
        entries.extend(ledger.entries)
        followed = min(followed, ledger.followed)
        gaps.extend(found)
    for path in sorted((run_dir / "tallies").glob("*.jsonl")):
        if not (run_dir / "ledger" / path.name).exists():
            detail = f"ledger/{path.name}: what the worker wrote is not known"
            gaps.append(Gap(f"ledger/{path.stem}", "file", None, detail))
    return [e for e in entries if is_followed(e.object, followed)], followed, gaps


def _readback_file(run_dir: Path) -> tuple[ReadbackFile, list[Gap]]:
    path = run_dir / "ledger" / "readback.jsonl"
    if not path.exists():
        return ReadbackFile(), [Gap("ledger/readback", "file", None, "no object was read back")]
    return read_readback(path, f"ledger/{path.name}")


def _sightings(events: list[Event]) -> tuple[tuple[Sighting, ...], list[Gap]]:
    found, gaps = [], []
    for event in events:
        if event.kind != "sighting":
            continue
        if not event.data.get("subject") or "value" not in event.data:
            detail = f"history.jsonl:{event.line}: a sighting of nothing"
            gaps.append(Gap(event.source, "line", None, detail))
            continue
        found.append(
            Sighting(
                event.source,
                event.text("subject"),
                event.data["value"],
                event.t,
                event.uncertainty_s,
            )
        )
    return tuple(found), gaps


def _phases(events: list[Event]) -> tuple[tuple[PhaseSpan, ...], list[Gap]]:
    spans: list[PhaseSpan] = []
    gaps: list[Gap] = []
    for event in events:
        name = event.text("phase")
        if event.kind == "phase.start":
            kind = name.partition(":")[0]
            fault = event.data.get("fault") or name.partition(":")[2] or None
            spans.append(PhaseSpan(name, kind, fault, event.t, None))
        elif event.kind == "phase.end":
            for index, span in enumerate(spans):
                if span.name == name and span.end_t is None:
                    spans[index] = dataclasses.replace(span, end_t=event.t)
                    break
            else:
                gaps.append(Gap("conductor", "phase", name, "ended but never started"))
    for span in spans:
        if span.end_t is None:
            gaps.append(Gap("conductor", "phase", span.name, "started but never ended"))
    return tuple(spans), gaps


def _faults(events: list[Event]) -> tuple[FaultRecord, ...]:
    records: list[FaultRecord] = []
    for event in events:
        if event.kind == "fault.start":
            records.append(_started(event))
        elif event.kind in _FOLDS:
            index = _which(records, event)
            if index is not None:
                records[index] = _FOLDS[event.kind](records[index], event)
    return tuple(records)


def _started(event: Event) -> FaultRecord:
    targets = event.data.get("targets")
    return FaultRecord(
        fault=event.text("fault"),
        action=event.text("action"),
        targets=tuple(str(t) for t in targets) if isinstance(targets, list) else (),
        undo=event.text("undo") or None,
        start_t=event.t,
        data=event.data,
    )


def _which(records: list[FaultRecord], event: Event) -> int | None:
    """The action an event belongs to: by undo id, else the first one still waiting for it."""
    undo = event.text("undo")
    mine = [i for i, r in enumerate(records) if r.fault == event.text("fault")]
    if undo:
        by_undo = [i for i, r in enumerate(records) if r.undo == undo]
        return by_undo[0] if by_undo else None
    waits_for = _WAITS_FOR.get(event.kind, "undo_done_t")
    open_ones = [i for i in mine if getattr(records[i], waits_for) is None]
    return open_ones[0] if open_ones else (mine[-1] if mine else None)


def _made(record: FaultRecord, event: Event) -> FaultRecord:
    start, end = instant(event.data.get("call_start_t")), instant(event.data.get("call_end_t"))
    start = event.t if start is None else start
    return dataclasses.replace(
        record, call_start_t=start, call_end_t=event.t if end is None else end
    )


def _read_back(record: FaultRecord, event: Event) -> FaultRecord:
    holds = event.data.get("holds")
    return dataclasses.replace(
        record,
        holds=holds if isinstance(holds, bool) else None,
        observed=event.data.get("observed"),
    )


def _undo_started(record: FaultRecord, event: Event) -> FaultRecord:
    if record.undo_start_t is not None:
        return record
    return dataclasses.replace(record, undo_start_t=event.t)


def _undo_done(record: FaultRecord, event: Event) -> FaultRecord:
    return dataclasses.replace(record, undo_done_t=event.t)


def _undo_read_back(record: FaultRecord, event: Event) -> FaultRecord:
    restored = event.data.get("restored")
    return dataclasses.replace(
        record,
        restored=restored if isinstance(restored, bool) else None,
        restored_observed=event.data.get("observed"),
    )


_WAITS_FOR = {"fault.made": "call_start_t", "fault.readback": "holds"}
_FOLDS = {
    "fault.made": _made,
    "fault.readback": _read_back,
    "undo.start": _undo_started,
    "undo.done": _undo_done,
    "undo.readback": _undo_read_back,
}
