"""What an action of a running experiment needs to know, and the way every fault is made.

An experiment runs in a process of its own (``chaos run``), so its context comes from the
environment; each has a default that lets plain ``chaos run FILE`` work by itself:

``HARNESS_TARGET``       target file; default ``.lab/target.yaml`` below the current folder
``HARNESS_RUN_DIR``      run folder; default a new ``runs/adhoc/<UTC time>/``
``HARNESS_FAULT``        the fault's name in the game day; default what the experiment says
``HARNESS_IN_GAMEDAY``   ``1``: somebody else watches the recovery
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.chaos.procs import Actor
from harness.chaos.registry import Reach, ReadBack, reach_for
from harness.chaos.undo import (
    HISTORY_NAME,
    LOG_NAME,
    READ_BACK_PERIOD_S,
    UndoLog,
    UndoRecord,
    UndoReport,
    fresh_source,
    undo_all,
)
from harness.chaos.watchdog import is_watching, start_watchdog
from harness.clock import Clock, SystemClock
from harness.errors import HarnessError, Refused
from harness.evidence.journal import Journal

logger = logging.getLogger("chaostoolkit")

#: In the run folder: what each fault was shown to hit before the run (:mod:`harness.chaos.blast`).
AIMS_NAME = "aims.json"


class FaultNotSeen(HarnessError):
    """The call went through, but reading back does not show the fault."""


class Session:
    """One experiment's place in a run: its target, its run folder, its pens."""

    def __init__(
        self,
        *,
        target_file: Path,
        run_dir: Path,
        fault: str,
        clock: Clock,
        reach: Callable[[str], Reach] = reach_for,
    ) -> None:
        self.target_file = str(target_file.resolve())
        self.run_dir = run_dir.resolve()
        self.fault = fault
        self.clock = clock
        self._reach_for = reach
        self._history: Journal | None = None
        self._log: UndoLog | None = None
        self.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def reach(self) -> Reach:
        """Connections to the target, to look at it: what breaks it asks for ``to("inject")``."""
        return self._reach_for(self.target_file)

    @property
    def source(self) -> str:
        return f"chaos/{self.fault}"

    def history(self) -> Journal:
        """This experiment's pen on ``history.jsonl``."""
        if self._history is None:
            path = self.run_dir / HISTORY_NAME
            self._history = Journal(path, fresh_source(path, self.source), self.clock)
        return self._history

    def new_undo_id(self) -> str:
        """An id no other run has; also the tag of what the fault creates."""
        return f"{self.fault}-{uuid.uuid4().hex[:12]}"

    def make_fault(
        self,
        *,
        undo: str,
        undo_kind: str,
        action: str,
        targets: Sequence[str],
        before: Mapping[str, Any],
        call: Callable[[], None],
        read_back: Callable[[], ReadBack],
        seen_within_s: float = 5.0,
        aim: Sequence[str] | None = None,
        of: int | None = None,
    ) -> dict[str, Any]:
        """Intent on disk → ``call`` → ``read_back``, with the events that tell of it.

        ``aim``: names of the targets that outlast a replacement, where ``targets`` do not;
        ``of``: how many there are to choose from.
        Raises Refused (nothing was made) when nobody watches, the record cannot be written, or
        the targets are not those shown before the run; FaultNotSeen when the fault was called
        for but did not land.
        """
        self._require_as_shown(action, targets if aim is None else aim, of)
        if not is_watching(self.run_dir):
            start_watchdog(self.run_dir, [os.getpid()], target_file=Path(self.target_file))
        actor = Actor.of(os.getpid())
        self._undo_log().intent(
            UndoRecord(undo, self.fault, undo_kind, actor, before, self.target_file)
        )
        self._copy_log()
        self._tell_start(action, targets, undo)
        start_t = self.clock.wall_s()
        call()
        end_t = self.clock.wall_s()
        self._undo_log().made(undo)
        self.history().write("fault.made", fault=self.fault, call_start_t=start_t, call_end_t=end_t)
        seen = self._await(read_back, seen_within_s)
        self.history().write(
            "fault.readback", fault=self.fault, holds=seen.holds, observed=seen.observed
        )
        if not seen.holds:
            raise FaultNotSeen(f"{action} did not land: {seen.observed}")
        return {"undo": undo, "targets": list(targets), "observed": seen.observed}

    def _copy_log(self) -> None:
        """Put the undo log where another machine finds it; raises Refused, and nothing is made."""
        place = self.reach.target.undo_copy
        if place is None:
            return
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        key = "/".join(filter(None, [prefix.strip("/"), *self.run_dir.parts[-2:], LOG_NAME]))
        log = (self.run_dir / LOG_NAME).read_bytes()
        try:
            s3 = self.reach.to("inject").aws("s3", self.reach.target.primary)
            s3.put_object(Bucket=bucket, Key=key, Body=log)
        except Exception as error:
            raise Refused(
                f"fault {self.fault} is not made: its undo log cannot be copied to "
                f"s3://{bucket}/{key}: {error}",
                hint="let the harness write there, or take `undo_copy` out of the target file",
            ) from error

    def _require_as_shown(self, action: str, targets: Sequence[str], of: int | None) -> None:
        from harness.chaos.blast import Aim, require_within

        try:
            shown = json.loads((self.run_dir / AIMS_NAME).read_bytes())[self.fault]
        except FileNotFoundError:
            return  # not of a game day: nobody was shown anything
        except (OSError, ValueError, KeyError) as error:
            raise Refused(
                f"fault {self.fault} is not made: {AIMS_NAME} does not say what it may hit",
                hint="run the plan again",
            ) from error
        require_within(
            Aim(self.fault, action, tuple(targets), of), shown["at_most"], shown["share"]
        )
        meant = [sorted(a["targets"]) for a in shown["aims"] if a["action"] == action]
        if sorted(targets) not in meant:
            before = " or ".join(", ".join(names) for names in meant) or "nothing"
            raise Refused(
                f"fault {self.fault} is not made: {action} would hit {', '.join(sorted(targets))}; "
                f"before the run it was {before}",
                hint="run the plan again, and look at its targets",
            )

    def undo_all(self, fault: str | None = None) -> UndoReport:
        """Undo what is open (of ``fault``, if given) in this run folder."""
        return undo_all(
            self.run_dir,
            self.clock,
            source=f"{self.source}/undo",
            fault=fault,
            history=self._history,
            reach=self._reach_for,
        )

    def close(self) -> None:
        """Close the pens; a later call opens them anew under another source name."""
        history, self._history = self._history, None
        log, self._log = self._log, None
        for pen in (history, log):
            with suppress(OSError):
                if pen:
                    pen.close()

    def _undo_log(self) -> UndoLog:
        if self._log is None:
            try:
                source = fresh_source(self.run_dir / LOG_NAME, self.source)
                self._log = UndoLog(self.run_dir, source, self.clock)
            except OSError as error:
                raise Refused(
                    f"fault {self.fault} is not made: {self.run_dir / LOG_NAME}: {error}",
                    hint="free space on, or remount writable, the disk of the run folder",
                ) from error
        return self._log

    def _tell_start(self, action: str, targets: Sequence[str], undo: str) -> None:
        try:
            self.history().write(
                "fault.start", fault=self.fault, action=action, targets=list(targets), undo=undo
            )
        except OSError as error:
            raise Refused(
                f"fault {self.fault} is not made: the history cannot be written: {error}",
                hint="free space on the disk of the run folder",
            ) from error

    def _await(self, read_back: Callable[[], ReadBack], within_s: float) -> ReadBack:
        deadline = self.clock.monotonic_s() + within_s
        seen = read_back()
        while not seen.holds and self.clock.monotonic_s() < deadline:
            self.clock.sleep(READ_BACK_PERIOD_S)
            seen = read_back()
        return seen


_session: Session | None = None
_default_fault = "fault"


def expect_fault(name: str) -> None:
    """The fault's name where ``HARNESS_FAULT`` gives none (the experiment knows its own)."""
    global _default_fault
    _default_fault = name


def current() -> Session:
    """The session of this process, opened from the environment on first use."""
    global _session
    if _session is None:
        clock = SystemClock()
        target_file = Path(os.environ.get("HARNESS_TARGET") or ".lab/target.yaml")
        if not target_file.exists():
            raise Refused(
                f"there is no target file {target_file}",
                hint="`harness lab up`, or set HARNESS_TARGET to a target file",
            )
        given = os.environ.get("HARNESS_RUN_DIR")
        run_dir = Path(given) if given else _adhoc_run_dir(clock)
        fault = os.environ.get("HARNESS_FAULT") or _default_fault
        _session = Session(target_file=target_file, run_dir=run_dir, fault=fault, clock=clock)
        logger.info(f"Evidence of this experiment goes to {run_dir}")
    return _session


def use(session: Session | None) -> None:
    """Make ``session`` the session of this process; None forgets the present one."""
    global _session
    _session = session


def existing() -> Session | None:
    """The session of this process if one was opened."""
    return _session


def in_gameday() -> bool:
    """Whether a conductor runs this experiment and watches the recovery itself."""
    return os.environ.get("HARNESS_IN_GAMEDAY") == "1"


def describe(report: UndoReport) -> dict[str, Any]:
    """The report as plain JSON data, for a journal."""
    return {
        "undone": list(report.undone),
        "not_restored": list(report.not_restored),
        "failed": [{"undo": f.record.undo, "error": f.error} for f in report.failed],
    }


def _adhoc_run_dir(clock: Clock) -> Path:
    now = datetime.fromtimestamp(clock.wall_s(), UTC)
    stem = Path("runs/adhoc") / now.strftime("%Y-%m-%dT%H-%M-%SZ")
    path, n = stem, 1
    while True:
        try:
            path.mkdir(parents=True, mode=0o700)
        except FileExistsError:
            n += 1
            path = stem.with_name(f"{stem.name}-{n}")
        else:
            return path
