"""Runs a stock Chaos Toolkit experiment as a subprocess and tells typed events of it.

``chaos run`` may be slow to stop, swallow signals, skip rollbacks, exit 0 after a failure
or die without a journal. So the driver trusts none of that: it reads the journal for what
happened, and the undo log for what is still in place, and undoes that itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT
from types import TracebackType

from harness.chaos.outcome import Outcome, Reading, read_journal
from harness.chaos.procs import dies_with_parent, open_private, python_path
from harness.chaos.registry import Reach, reach_for
from harness.chaos.undo import (
    HISTORY_NAME,
    Failure,
    UndoReport,
    fresh_source,
    open_records,
    refuse_new_faults,
    undo_all,
)
from harness.clock import Clock, SystemClock
from harness.errors import HarnessError
from harness.evidence.journal import Journal

SOURCE = "chaos-driver"
POLL_PERIOD_S = 0.1
#: How long a fault that is just being made may go on before its maker is killed.
MAKING_GRACE_S = 0.3
#: How long Chaos Toolkit may take to write its journal after it was asked to stop.
STOP_GRACE_S = 5.0


@dataclass(frozen=True)
class ExperimentResult:
    """How an experiment ended. ``exit_code`` is negative for a signal; ``undo`` is what the
    driver itself undid, or could not undo, after the experiment."""

    fault: str
    file: str
    outcome: Outcome
    because: str
    status: str | None
    deviated: bool
    exit_code: int
    journal: Path
    undo: UndoReport


class ChaosDriver:
    """Runs one experiment at a time. Start from a thread that outlives the experiment
    (the kernel kills the child when the starting thread ends)."""

    def __init__(
        self, clock: Clock | None = None, *, reach: Callable[[str], Reach] = reach_for
    ) -> None:
        self._clock = clock or SystemClock()
        self._reach = reach
        self._process: subprocess.Popen[bytes] | None = None
        self._history: Journal | None = None
        self._result: ExperimentResult | None = None
        self._stopped: str | None = None

    def start(
        self,
        run_dir: Path,
        *,
        experiment: Path,
        fault: str,
        hold_s: float,
        target_file: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start ``experiment`` as fault ``fault``, held for ``hold_s`` seconds.

        Its evidence goes to ``run_dir``; ``env`` is added to this process's environment.
        A watchdog should watch ``run_dir`` already (else the experiment starts its own).
        """
        if self._process is not None and self._result is None:
            raise HarnessError(f"experiment {self._fault} is still running")
        self._run_dir, self._fault, self._file = run_dir, fault, experiment
        self._result, self._stopped = None, None
        self._journal = run_dir / "chaos" / f"{fault}.journal.json"
        for folder in (run_dir / "chaos", run_dir / "logs"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        history = run_dir / HISTORY_NAME
        source = fresh_source(history, f"{SOURCE}/{fault}")
        self._history = Journal(history, source, self._clock)
        self._history.write("experiment.start", fault=fault, file=str(experiment))
        environment = self._environment(hold_s, target_file, env or {})
        try:
            self._process = self._spawn(environment)
        except OSError as error:
            self._process = None
            reading = Reading("aborted", f"could not be started: {error}")
            self._end(reading, exit_code=127, undo=UndoReport())

    def poll(self) -> ExperimentResult | None:
        """The result if the experiment has ended (undoing what it left open), else None."""
        if self._result is None and self._process is not None:
            exit_code = self._process.poll()
            if exit_code is not None:
                self._finish(exit_code)
        return self._result

    def wait(self, deadline_s: float) -> ExperimentResult:
        """Wait for the end for up to ``deadline_s`` seconds, then stop the experiment."""
        end = self._clock.monotonic_s() + deadline_s
        while True:
            result = self.poll()
            if result is not None:
                return result
            if self._clock.monotonic_s() >= end:
                return self.stop(f"not done within {deadline_s:g} s")
            self._clock.sleep(POLL_PERIOD_S)

    def stop(self, reason: str) -> ExperimentResult:
        """Stop the experiment and undo its fault; the undo begins within half a second."""
        process = self._process
        if process is None:
            if self._result is None:
                raise HarnessError("no experiment was started")
            return self._result
        result = self.poll()
        if result is not None:
            return result
        self._stopped = reason
        refuse_new_faults(self._run_dir, self._clock, self._fault)
        with suppress(ProcessLookupError):
            process.send_signal(SIGINT)
        self._let_making_end(process)
        self._undo(lock_timeout_s=STOP_GRACE_S)
        self._reap(process, STOP_GRACE_S)
        return self._finish(process.wait())

    def __enter__(self) -> ChaosDriver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None and self._result is None:
            self.stop("the harness is leaving")

    # ── inside ─────────────────────────────────────────────────────────────────────

    def _environment(
        self, hold_s: float, target_file: Path, extra: Mapping[str, str]
    ) -> dict[str, str]:
        environment = {**os.environ, **extra}
        environment.setdefault("HARNESS_IN_GAMEDAY", "1")
        environment |= {
            "HARNESS_TARGET": str(target_file.resolve()),
            "HARNESS_RUN_DIR": str(self._run_dir.resolve()),
            "HARNESS_FAULT": self._fault,
            "HARNESS_HOLD_S": f"{hold_s:g}",
            "PYTHONPATH": python_path(environment),
            "PYTHONUNBUFFERED": "1",
        }
        return environment

    def _spawn(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        # A user's settings could load controls or change the rollback strategy.
        settings = self._run_dir / "chaos" / "settings.yaml"
        with open(settings, "w", opener=open_private) as out:
            out.write("{}\n")
        self._journal.unlink(missing_ok=True)
        logs = self._run_dir / "logs"
        argv = [sys.executable, "-m", "chaostoolkit", "--no-version-check"]
        argv += ["--settings", str(settings)]
        argv += ["--log-file", str(logs / f"chaos-{self._fault}.log"), "--log-file-level", "info"]
        argv += ["run", "--rollback-strategy", "always", "--journal-path", str(self._journal)]
        with open(logs / f"chaos-{self._fault}.out", "ab", opener=open_private) as out:
            return subprocess.Popen(
                [*argv, str(self._file)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                process_group=0,
                umask=0o077,
                preexec_fn=dies_with_parent(),
            )

    def _let_making_end(self, process: subprocess.Popen[bytes]) -> None:
        """No undo while the fault is being made: what follows it would stay in place."""
        end = self._clock.monotonic_s() + MAKING_GRACE_S
        while process.poll() is None and self._being_made():
            if self._clock.monotonic_s() >= end:
                process.kill()
                process.wait()
                return
            self._clock.sleep(0.02)

    def _being_made(self) -> bool:
        return any(r.fault == self._fault and not r.made for r in open_records(self._run_dir))

    def _reap(self, process: subprocess.Popen[bytes], grace_s: float) -> None:
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _undo(self, lock_timeout_s: float = 120.0) -> UndoReport:
        try:
            return undo_all(
                self._run_dir,
                self._clock,
                source=f"{SOURCE}/{self._fault}/undo",
                fault=self._fault,
                history=self._history,
                reach=self._reach,
                lock_timeout_s=lock_timeout_s,
            )
        except TimeoutError as error:
            # Somebody else undoes and does not end: what is open is not known to be undone.
            still = [r for r in open_records(self._run_dir) if r.fault == self._fault]
            return UndoReport(failed=tuple(Failure(r, str(error)) for r in still))

    def _finish(self, exit_code: int) -> ExperimentResult:
        reading = read_journal(self._journal)
        if self._stopped is not None:
            reading = Reading(
                "interrupted" if reading.status else "aborted",
                f"stopped: {self._stopped}",
                reading.status,
                reading.deviated,
            )
        undo = self._undo()
        if undo.failed and reading.outcome == "passed":
            reading = Reading("failed", str(undo.failed[0].error), reading.status)
        return self._end(reading, exit_code, undo)

    def _end(self, reading: Reading, exit_code: int, undo: UndoReport) -> ExperimentResult:
        self._result = ExperimentResult(
            fault=self._fault,
            file=str(self._file),
            outcome=reading.outcome,
            because=reading.because,
            status=reading.status,
            deviated=reading.deviated,
            exit_code=exit_code,
            journal=self._journal,
            undo=undo,
        )
        if self._history is not None:
            with suppress(OSError):
                self._history.write(
                    "experiment.end",
                    fault=self._fault,
                    status=reading.status,
                    deviated=reading.deviated,
                    outcome=reading.outcome,
                    because=reading.because,
                    exit_code=exit_code,
                )
                self._history.close()
            self._history = None
        return self._result
