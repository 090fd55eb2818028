"""The rollback of every experiment: undo what the undo log says is open."""

from __future__ import annotations

from typing import Any

from harness.chaos import session as sessions


def undo_all(fault: str | None = None) -> dict[str, Any]:
    """Undo every open record of this run (of ``fault``, if given) and read each back.

    Returns ``{"undone": [ids], "not_restored": [ids], "failed": []}``; raises
    UndoIncomplete if a fault is still in place after all attempts.
    """
    report = sessions.current().undo_all(fault)
    report.raise_if_incomplete()
    return sessions.describe(report)
