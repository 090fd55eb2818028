"""The undo log: no fault is made before what undoes it is safely on disk.

``undo.jsonl`` in the run folder; one line per step in the life of a record::

    intent ──► (the fault) ──► made ──► undone
        └──────────────┴── undo_failed … ──┘

``intent`` carries everything an undo needs and is fsynced, file and directory, before
the fault is made: after a crash at any instant the folder alone tells what may be broken.
Undoing is idempotent, so "may be" is enough. A torn line is an intent whose fault was
never made, or a step that is repeated; both are safe to ignore.

Everyone who undoes (experiment, driver, watchdog, ``recover``) holds a lock on the log
while doing so, and reads the log after getting it: each record is undone once.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness.chaos.procs import Actor
from harness.chaos.registry import Reach, UndoFunction, reach_for, undo_function
from harness.clock import Clock
from harness.errors import Refused, UndoIncomplete
from harness.evidence.journal import END, Journal
from harness.secrets import redact

LOG_NAME = "undo.jsonl"
HISTORY_NAME = "history.jsonl"
#: While this file exists no new intent is accepted: the run is being stopped
#: (with ``.FAULT`` appended: that fault is).
STOP_NAME = "undo.stop"

#: Attempts at one record, and the pause before the second (doubled each time).
ATTEMPTS = 5
BACKOFF_S = 0.2
READ_BACK_PERIOD_S = 0.1
#: A call that was cut off may take effect after the undo looked; then look again.
SETTLE_S = 1.0


@dataclass(frozen=True)
class UndoRecord:
    """One fault that was, or may have been, made. ``before`` is the state to go back to."""

    undo: str
    fault: str
    undo_kind: str
    actor: Actor
    before: Mapping[str, Any]
    target_file: str
    made: bool = False
    undone: bool = False


@dataclass(frozen=True)
class Failure:
    """Why a record is still open. ``by_hand``: lines for a shell that undo it."""

    record: UndoRecord
    error: str
    by_hand: tuple[str, ...] = ()


@dataclass(frozen=True)
class UndoReport:
    """What ``undo_all`` did. Ids are undo record ids.

    ``not_restored``: nothing is left to undo, but the system did not come back by itself
    (killed pods that were not replaced): a finding about the system, not about the harness.
    ``unrecorded``: undone, but the log could not be written (a full disk).
    """

    undone: tuple[str, ...] = ()
    not_restored: tuple[str, ...] = ()
    failed: tuple[Failure, ...] = ()
    unrecorded: tuple[str, ...] = ()
    damaged_lines: int = 0

    @property
    def complete(self) -> bool:
        """No fault of the harness is left in place."""
        return not self.failed

    def raise_if_incomplete(self) -> None:
        """Raise UndoIncomplete (exit status 113) if a fault is still in place."""
        if self.failed:
            faults = "; ".join(
                f"{f.record.fault} ({f.record.undo_kind} {f.record.undo}): {f.error}"
                for f in self.failed
            )
            hint = ["`harness recover RUN` once it can be reached"]
            lines = [line for failure in self.failed for line in failure.by_hand]
            if lines:
                hint = [f"{hint[0]}, or by hand:", *lines]
            raise UndoIncomplete(f"still in place: {faults}", hint="\n    ".join(hint))


# ── reading ────────────────────────────────────────────────────────────────────────────


def read_records(run_dir: Path) -> tuple[list[UndoRecord], int]:
    """All records of a run folder in the order of their intents, and the lines not readable."""
    try:
        lines = (run_dir / LOG_NAME).read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], 0
    records: dict[str, UndoRecord] = {}
    damaged = 0
    for line in filter(None, lines):
        try:
            _fold(records, json.loads(line))
        except (ValueError, KeyError, TypeError):
            damaged += 1
    return list(records.values()), damaged


def _fold(records: dict[str, UndoRecord], line: Mapping[str, Any]) -> None:
    kind = line["kind"]
    if kind == "intent":
        records[line["undo"]] = UndoRecord(
            undo=line["undo"],
            fault=line["fault"],
            undo_kind=line["undo_kind"],
            actor=Actor(line["actor"]["pid"], line["actor"]["start_ticks"]),
            before=line["before"],
            target_file=line["target_file"],
        )
    elif kind == "made":
        records[line["undo"]] = replace(records[line["undo"]], made=True)
    elif kind == "undone":
        records[line["undo"]] = replace(records[line["undo"]], undone=True)


def open_records(run_dir: Path) -> list[UndoRecord]:
    """Records that are not known to be undone, oldest first."""
    return [record for record in read_records(run_dir)[0] if not record.undone]


# ── writing ────────────────────────────────────────────────────────────────────────────


class UndoLog:
    """One process's pen on the undo log. Every line is fsynced; OSError means it may be lost."""

    def __init__(self, run_dir: Path, source: str, clock: Clock) -> None:
        self._run_dir = run_dir
        self._source = source
        self._clock = clock
        self._seq = 0
        self._mutex = threading.Lock()
        run_dir.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(run_dir / LOG_NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)

    def intent(self, record: UndoRecord) -> None:
        """Put the record on disk, or raise Refused: then the fault must not be made."""
        try:
            with lock_log(self._run_dir, self._clock):
                if any(p.exists() for p in _stop_files(self._run_dir, record.fault)):
                    raise Refused(f"fault {record.fault} is not made: the run is being stopped")
                self._write(
                    "intent",
                    undo=record.undo,
                    fault=record.fault,
                    undo_kind=record.undo_kind,
                    actor={"pid": record.actor.pid, "start_ticks": record.actor.start_ticks},
                    before=dict(record.before),
                    target_file=record.target_file,
                )
                _fsync_directory(self._run_dir)
        except OSError as error:
            raise Refused(
                f"fault {record.fault} is not made: its undo record cannot be written to "
                f"{self._run_dir / LOG_NAME}: {error}",
                hint="free space on, or remount writable, the disk of the run folder",
            ) from error

    def made(self, undo: str) -> None:
        """The fault is in place."""
        self._write("made", undo=undo)

    def undone(self, undo: str, *, restored: bool, observed: Any) -> None:
        """Nothing of the fault is left (read back), or nothing more can be done about it."""
        self._write("undone", undo=undo, restored=restored, observed=observed)

    def undo_failed(self, undo: str, attempt: int, error: str) -> None:
        """One attempt did not succeed."""
        self._write("undo_failed", undo=undo, attempt=attempt, error=error)

    def close(self) -> None:
        """Write the closing line, once, and release the file."""
        if self._fd >= 0:
            try:
                self._write(END, count=self._seq)
            finally:
                os.close(self._fd)
                self._fd = -1

    def _write(self, kind: str, /, **data: Any) -> None:
        with self._mutex:
            record = {
                "source": self._source,
                "seq": self._seq,
                "t": round(self._clock.wall_s(), 6),
                "m": round(self._clock.monotonic_s(), 6),
                "kind": kind,
                **data,
            }
            line = (json.dumps(record, separators=(",", ":")) + "\n").encode()
            if self._torn():
                line = b"\n" + line
            written = os.write(self._fd, line)
            if written != len(line):
                raise OSError(f"short write: {written} of {len(line)} bytes")
            os.fsync(self._fd)
            self._seq += 1

    def _torn(self) -> bool:
        """Whether the last line lacks its end: what is appended must not be glued to it."""
        size = os.fstat(self._fd).st_size
        return size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"


def _fsync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def lock_log(run_dir: Path, clock: Clock, timeout_s: float = 120.0) -> Iterator[None]:
    """Hold the log alone. Dies with the process. Raises TimeoutError after ``timeout_s``."""
    # Read-only: a run folder on a read-only disk can still be recovered from.
    fd = os.open(run_dir / LOG_NAME, os.O_RDONLY)
    try:
        deadline = clock.monotonic_s() + timeout_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock.monotonic_s() >= deadline:
                    raise TimeoutError(f"{run_dir / LOG_NAME} is locked by another undo") from None
                clock.sleep(0.02)
        yield
    finally:
        os.close(fd)


def _stop_files(run_dir: Path, fault: str) -> tuple[Path, Path]:
    return run_dir / STOP_NAME, run_dir / f"{STOP_NAME}.{quote(fault, safe='')}"


def refuse_new_faults(run_dir: Path, clock: Clock, fault: str | None = None) -> None:
    """From now on no intent (of ``fault``, if given) is accepted in this run folder.

    An intent that was being written when this was called is on disk when it returns.
    """
    every, one = _stop_files(run_dir, fault or "")
    with suppress(OSError):
        os.close(os.open(one if fault else every, os.O_WRONLY | os.O_CREAT, 0o600))
    # A lock not to be had is held by someone who undoes, not by one who writes an intent.
    with suppress(OSError), lock_log(run_dir, clock, timeout_s=0.3):
        pass


def fresh_source(path: Path, name: str) -> str:
    """``name``, or ``name/2``, ``name/3`` … when the file already has lines of that source."""
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return name
    candidate, n = name, 1
    while f'"source":"{candidate}"' in text:
        n += 1
        candidate = f"{name}/{n}"
    return candidate


def by_hand(record: UndoRecord, reach: Callable[[str], Reach] = reach_for) -> tuple[str, ...]:
    """Lines for a shell that undo ``record``; none where this version does not know how."""
    target = None
    # Without the target file the lines lack where the APIs are, and are still worth having.
    with suppress(Exception):
        target = reach(record.target_file).target
    try:
        return tuple(undo_function(record.undo_kind).by_hand(record.before, target))
    except Exception:  # noqa: BLE001 - a record that is odd must not hide why it is still open
        return ()


# ── undoing ────────────────────────────────────────────────────────────────────────────


def undo_all(
    run_dir: Path,
    clock: Clock,
    *,
    source: str,
    fault: str | None = None,
    history: Journal | None = None,
    reach: Callable[[str], Reach] = reach_for,
    attempts: int = ATTEMPTS,
    lock_timeout_s: float = 120.0,
) -> UndoReport:
    """Undo every open record (of ``fault``, if given), the latest first; read each back.

    All are restored before any is waited for; one that fails does not stop the others and
    is tried again up to ``attempts`` times. ``source`` names who undoes in ``undo.jsonl``
    and, unless a ``history`` journal is lent, in ``history.jsonl``; with nothing to do,
    nothing is written. ``reach`` maps a target file to its connections.
    Raises TimeoutError if someone else holds the log for ``lock_timeout_s``.
    """
    if not (run_dir / LOG_NAME).exists():
        return UndoReport()
    with lock_log(run_dir, clock, lock_timeout_s):
        records, damaged = read_records(run_dir)
        todo = [r for r in reversed(records) if not r.undone and fault in (None, r.fault)]
        if not todo:
            return UndoReport(damaged_lines=damaged)
        work = _Undoing(run_dir, clock, source, history, reach)
        try:
            work.run(todo, attempts)
        finally:
            work.close()
        return replace(work.report, damaged_lines=damaged)


class _Undoing:
    """One pass of ``undo_all``; the lock is held."""

    def __init__(
        self,
        run_dir: Path,
        clock: Clock,
        source: str,
        history: Journal | None,
        reach: Callable[[str], Reach],
    ) -> None:
        self._clock = clock
        self._reach = reach
        self._lent = history
        self._history = history
        self._log: UndoLog | None = None
        self.report = UndoReport()
        # On a full or read-only disk the undo matters more than its record.
        with suppress(OSError):
            self._log = UndoLog(run_dir, fresh_source(run_dir / LOG_NAME, source), clock)
        if history is None:
            with suppress(OSError):
                path = run_dir / HISTORY_NAME
                self._history = Journal(path, fresh_source(path, source), clock)

    def close(self) -> None:
        with suppress(OSError):
            if self._log:
                self._log.close()
        with suppress(OSError):
            if self._history and not self._lent:
                self._history.close()

    def run(self, todo: list[UndoRecord], attempts: int) -> None:
        for record in todo:
            self._tell("undo.start", record)
        for attempt in range(1, attempts + 1):
            errors = {r.undo: self._restore(r) for r in todo}
            for record in todo:
                if errors[record.undo] is None:
                    errors[record.undo] = self._read_back(record)
            todo = [r for r in todo if errors[r.undo] is not None]
            for record in todo:
                self._note_failure(record, attempt, str(errors[record.undo]))
            if not todo:
                return
            if attempt < attempts:
                self._clock.sleep(BACKOFF_S * 2 ** (attempt - 1))
        for record in todo:
            self._tell("undo.readback", record, restored=False, observed=errors[record.undo])
        failed = (Failure(r, str(errors[r.undo]), by_hand(r, self._reach)) for r in todo)
        self.report = replace(self.report, failed=tuple(failed))

    def _restore(self, record: UndoRecord) -> str | None:
        """The error, or None."""
        try:
            reach = self._reach(record.target_file).to("undo")
            undo_function(record.undo_kind).restore(record.before, reach)
        except Exception as error:  # noqa: BLE001 - one bad undo must not stop the others
            return f"{type(error).__name__}: {error}"
        self._tell("undo.done", record)
        return None

    def _read_back(self, record: UndoRecord) -> str | None:
        """The reason why the record stays open, or None."""
        function = undo_function(record.undo_kind)
        try:
            seen = self._await(function, record)
        except Exception as error:  # noqa: BLE001 - as above; what cannot be read is not restored
            return f"{type(error).__name__}: {error}"
        if not seen.holds and function.restores:
            return f"read back: {seen.observed}"
        self._tell("undo.readback", record, restored=seen.holds, observed=seen.observed)
        self._note_undone(record, seen.holds, seen.observed)
        return None

    def _await(self, function: UndoFunction, record: UndoRecord) -> Any:
        reach = self._reach(record.target_file).to("undo")
        within_s = float(record.before.get("within_s", function.within_s))
        deadline = self._clock.monotonic_s() + within_s
        seen = function.read_back(record.before, reach)
        while not seen.holds and self._clock.monotonic_s() < deadline:
            self._clock.sleep(READ_BACK_PERIOD_S)
            seen = function.read_back(record.before, reach)
        if seen.holds and not record.made and function.restores:
            self._clock.sleep(SETTLE_S)
            seen = function.read_back(record.before, reach)
        return seen

    def _note_undone(self, record: UndoRecord, restored: bool, observed: Any) -> None:
        which = "undone" if restored else "not_restored"
        self.report = replace(self.report, **{which: (*getattr(self.report, which), record.undo)})
        try:
            if self._log is None:
                raise OSError("the undo log cannot be opened for writing")
            self._log.undone(record.undo, restored=restored, observed=observed)
        except OSError:
            self.report = replace(self.report, unrecorded=(*self.report.unrecorded, record.undo))

    def _note_failure(self, record: UndoRecord, attempt: int, error: str) -> None:
        with suppress(OSError):
            if self._log:
                self._log.undo_failed(record.undo, attempt, redact(error))

    def _tell(self, kind: str, record: UndoRecord, **data: Any) -> None:
        with suppress(OSError):
            if self._history:
                self._history.write(kind, fault=record.fault, undo=record.undo, **data)
