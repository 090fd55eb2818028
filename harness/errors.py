"""Every way the harness ends, and the errors a user may meet.

An error that reaches a user says what is wrong, where (file, line, column, key)
and what to try. Only ``harness.cli`` prints and exits; everything else raises
one of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExitStatus(IntEnum):
    """Process exit status; 99, 104 and 105 mean what they mean to k6 users."""

    PASS = 0
    CRASH = 1
    USAGE = 2
    OBJECTIVE_FAILED = 99
    PLAN_INVALID = 104
    STOPPED = 105
    UNKNOWN = 111
    REFUSED = 112
    UNDO_INCOMPLETE = 113


EXIT_STATUS_MEANING: dict[ExitStatus, str] = {
    ExitStatus.PASS: "every objective held, on sufficient evidence",
    ExitStatus.CRASH: "the harness itself failed",
    ExitStatus.USAGE: "the command line was wrong",
    ExitStatus.OBJECTIVE_FAILED: "an objective failed",
    ExitStatus.PLAN_INVALID: "the plan or an experiment is invalid; nothing was touched",
    ExitStatus.STOPPED: "stopped from outside; faults were undone",
    ExitStatus.UNKNOWN: "evidence is missing, stale, partial or too little to tell",
    ExitStatus.REFUSED: "preflight refused; nothing was touched",
    ExitStatus.UNDO_INCOMPLETE: "a fault could not be undone: see `harness recover`",
}


@dataclass(frozen=True)
class Where:
    """A place in a file the user wrote. Lines and columns count from 1."""

    file: str
    line: int | None = None
    column: int | None = None
    key: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(p) for p in (self.file, self.line, self.column) if p is not None)
        return f"{place} ({self.key})" if self.key else place


class HarnessError(Exception):
    """An error with a message for the user, a hint of what to try, and an exit status."""

    exit_status = ExitStatus.CRASH

    def __init__(self, message: str, *, hint: str = "", where: Where | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  try: {self.hint}" if self.hint else text


class PlanInvalid(HarnessError):
    """A plan, target file or experiment cannot be used; raised before anything is touched."""

    exit_status = ExitStatus.PLAN_INVALID


class Refused(HarnessError):
    """Preflight says no; nothing was touched."""

    exit_status = ExitStatus.REFUSED


class UndoIncomplete(HarnessError):
    """A fault is still in place after every attempt to undo it."""

    exit_status = ExitStatus.UNDO_INCOMPLETE


class EvidenceError(HarnessError):
    """A run folder cannot be read at all (a gap inside it is a finding, not an error)."""

    exit_status = ExitStatus.UNKNOWN


class LabError(HarnessError):
    """The lab cannot do what was asked (a part is missing, a port is taken)."""

    exit_status = ExitStatus.REFUSED
