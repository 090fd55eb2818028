"""``harness recover``: undo from the run folder alone, any number of times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.chaos.registry import Reach, reach_for
from harness.chaos.undo import UndoReport, undo_all
from harness.clock import Clock, SystemClock
from harness.errors import EvidenceError, Where

SOURCE = "recover"


def recover(
    run_dir: Path,
    *,
    clock: Clock | None = None,
    reach: Callable[[str], Reach] = reach_for,
    lock_timeout_s: float = 120.0,
) -> UndoReport:
    """Undo every fault that the folder says is, or may be, in place; read each back.

    With nothing open, nothing is written and the report is empty. What could not be undone
    is in ``report.failed`` (``report.raise_if_incomplete()`` makes it exit status 113).
    Raises EvidenceError if ``run_dir`` is no folder, TimeoutError if another undo holds the
    log for ``lock_timeout_s``.
    """
    if not run_dir.is_dir():
        raise EvidenceError("no such run folder", hint="ls runs/*/", where=Where(str(run_dir)))
    return undo_all(
        run_dir,
        clock or SystemClock(),
        source=SOURCE,
        reach=reach,
        lock_timeout_s=lock_timeout_s,
    )
