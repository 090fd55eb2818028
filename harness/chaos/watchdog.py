"""The process that undoes when nobody else is left to: ``python -m harness.chaos.watchdog``.

It sits in a session of its own, so what ends the harness (Ctrl-C, a closed terminal,
``kill -9``, the kernel's out-of-memory killer) does not end it. Everything it needs is
imported and connected beforehand. It waits on the kernel's word (pidfd) that

- an *owner* (the conductor, or ``chaos run`` on its own) ended: actors that still run are
  killed first, so that nothing is made after the undo; then every open record is undone;
- an *actor* (the process that makes the faults) ended and left records open.

An owner that leaves nothing open just ends the watch, and nothing is written. SIGTERM
means "no longer needed": what is still open is undone first.

While it watches it holds a lock on ``watchdog.lock``: that, and not a pid, is how others
know. No fault is made without it.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness.chaos.page import page
from harness.chaos.procs import Actor, open_private, python_path
from harness.chaos.registry import reach_for, undo_function
from harness.chaos.undo import (
    LOG_NAME,
    UndoReport,
    open_records,
    refuse_new_faults,
    undo_all,
)
from harness.clock import Clock, SystemClock
from harness.errors import ExitStatus, HarnessError, Refused
from harness.evidence.run import written_by_others
from harness.secrets import redact, scrub

LOCK_NAME = "watchdog.lock"
SOURCE = "watchdog"
#: How often the log is looked at for new actors (owners are waited for, not polled).
LOOK_PERIOD_S = 0.25
#: How long an orphaned fault is tried to be undone before giving up.
GIVE_UP_S = 300.0
RETRY_PERIOD_S = 5.0
READY = b"watching\n"


def is_watching(run_dir: Path) -> bool:
    """Whether a live watchdog watches this run folder."""
    try:
        fd = os.open(run_dir / LOCK_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


class WatchdogHandle:
    """A started watchdog. It also ends by itself after its owners."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self, timeout_s: float = 30.0) -> int | None:
        """Say it is no longer needed and wait; it undoes what is still open before it goes.

        Returns its exit status (0, or 113 when an undo is incomplete); None if it still
        runs after ``timeout_s``.
        """
        if self.alive():
            self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None


def start_watchdog(
    run_dir: Path,
    owner_pids: Sequence[int],
    *,
    target_file: Path | None = None,
    ready_within_s: float = 30.0,
) -> WatchdogHandle:
    """Start a watchdog and return once it is watching.

    It acts when any owner is gone. ``target_file``: connect to this target beforehand
    (else when the first record names one). Raises Refused if it does not come up:
    then no fault may be made.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "harness.chaos.watchdog", str(run_dir.resolve())]
    argv += [f"--owner={pid}" for pid in owner_pids]
    if target_file is not None:
        argv.append(f"--target={target_file.resolve()}")
    ready, ready_w = os.pipe()
    try:
        handle = WatchdogHandle(_spawn([*argv, f"--ready-fd={ready_w}"], run_dir, ready_w))
    finally:
        os.close(ready_w)
    with os.fdopen(ready, "rb", buffering=0) as pipe:
        readable, _, _ = select.select([pipe], [], [], ready_within_s)
        if readable and pipe.read(len(READY)) == READY:
            return handle
    handle.close(timeout_s=2.0)
    raise Refused(
        f"the watchdog of {run_dir} did not start; no fault is made",
        hint=f"see {run_dir / 'logs' / 'watchdog.log'}",
    )


def _spawn(argv: list[str], run_dir: Path, ready_fd: int) -> subprocess.Popen[bytes]:
    log = run_dir / "logs" / "watchdog.log"
    log.parent.mkdir(exist_ok=True)
    environment = dict(os.environ)
    environment["PYTHONPATH"] = python_path(environment)
    with open(log, "ab", opener=open_private) as out:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=[ready_fd],
            start_new_session=True,
            umask=0o077,
        )


# ── the process ────────────────────────────────────────────────────────────────────────


class _Watch:
    """State of the watching process."""

    def __init__(self, run_dir: Path, owners: Sequence[Actor | None], clock: Clock) -> None:
        self._run_dir = run_dir
        self._clock = clock
        self._owners = owners
        self._poll = select.poll()
        self._actor_fds: dict[Actor, int] = {}
        self._log_size = -1
        self._given_up: set[str] = set()
        self._stop_r, self._stop_w = os.pipe()
        self._poll.register(self._stop_r, select.POLLIN)

    def stop(self, *_: object) -> None:
        """SIGTERM handler."""
        os.write(self._stop_w, b"x")

    def run(self) -> UndoReport:
        """Wait; undo; return what the last undo did."""
        owner_fds = [owner.open_pidfd() if owner else None for owner in self._owners]
        for fd in owner_fds:
            if fd is not None:
                self._poll.register(fd, select.POLLIN)
        orphaned = None in owner_fds
        while not orphaned:
            events = {fd for fd, _ in self._poll.poll(LOOK_PERIOD_S * 1000)}
            if self._stop_r in events:
                return self._undo()
            orphaned = any(fd in events for fd in owner_fds)
            if not orphaned:
                self._after_actors(events)
                self._look()
        return self._after_owner()

    def _look(self) -> None:
        """Learn of new actors, and connect to the targets they name."""
        with suppress(FileNotFoundError):
            size = (self._run_dir / LOG_NAME).stat().st_size
            if size == self._log_size:
                return
            self._log_size = size
        for record in open_records(self._run_dir):
            if record.actor not in self._actor_fds:
                fd = record.actor.open_pidfd()
                if fd is not None:
                    self._actor_fds[record.actor] = fd
                    self._poll.register(fd, select.POLLIN)
            _prepare(record.target_file)

    def _after_actors(self, events: set[int]) -> None:
        for actor, fd in list(self._actor_fds.items()):
            if fd in events:
                self._poll.unregister(fd)
                os.close(fd)
                del self._actor_fds[actor]
        # Also an actor that was gone before it was seen.
        for record in open_records(self._run_dir):
            if record.undo not in self._given_up and not record.actor.alive():
                report = self._undo(record.fault)
                self._given_up.update(f.record.undo for f in report.failed)

    def _after_owner(self) -> UndoReport:
        refuse_new_faults(self._run_dir, self._clock)
        records = open_records(self._run_dir)
        for actor in {record.actor for record in records}:
            if actor.kill():
                _say(f"killed actor {actor.pid}")
        deadline = self._clock.monotonic_s() + GIVE_UP_S
        paged = False
        while True:
            report = self._undo()
            if report.complete or self._clock.monotonic_s() > deadline:
                return report
            if not paged:
                # Nobody else is left to tell it; who comes may well find it undone by then.
                _page(self._run_dir, report)
                paged = True
            self._clock.sleep(RETRY_PERIOD_S)

    def _undo(self, fault: str | None = None) -> UndoReport:
        if not open_records(self._run_dir):
            return UndoReport()
        report = undo_all(self._run_dir, self._clock, source=SOURCE, fault=fault)
        _say(f"undo: {report}")
        return report


def _prepare(target_file: str) -> None:
    try:
        reach_for(target_file).to("undo").warm()
    except Exception as error:  # noqa: BLE001 - the undo itself will report it; keep watching
        _say(f"cannot connect to {target_file} beforehand: {error}")


def _page(run_dir: Path, report: UndoReport) -> None:
    try:
        target = reach_for(report.failed[0].record.target_file).target
    except Exception as error:  # noqa: BLE001 - as above
        _say(f"NOT PAGED: the target file cannot be read: {error}")
        return
    _say(page(target, run_dir, report))


def _say(text: str) -> None:
    sys.stdout.write(redact(f"{time.strftime('%H:%M:%S')} {text}\n"))
    sys.stdout.flush()


def _claim(run_dir: Path, owners: Sequence[int]) -> int:
    """Take the watch (released when this process ends), or raise Refused if it is taken."""
    fd = os.open(run_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(20):  # one who asks `is_watching` holds the lock for an instant
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        time.sleep(0.02)
    else:
        raise Refused(f"{run_dir} is watched already", hint="end the run that uses this folder")
    os.ftruncate(fd, 0)
    os.write(fd, json.dumps({"pid": os.getpid(), "owners": list(owners)}).encode() + b"\n")
    return fd


def _actor_or_none(pid: int) -> Actor | None:
    with suppress(ProcessLookupError):
        return Actor.of(pid)
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit status 0, or 113 if a fault could not be undone."""
    parser = argparse.ArgumentParser(prog="python -m harness.chaos.watchdog", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--owner", type=int, action="append", required=True, metavar="PID")
    parser.add_argument("--target", type=Path)
    parser.add_argument("--ready-fd", type=int)
    arguments = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    owners = [_actor_or_none(pid) for pid in arguments.owner]
    watch = _Watch(arguments.run_dir, owners, SystemClock())
    signal.signal(signal.SIGTERM, watch.stop)
    try:
        _claim(arguments.run_dir, arguments.owner)
        undo_function("network.restore")
    except HarnessError as error:
        _say(str(error))
        return error.exit_status
    if arguments.target:
        _prepare(str(arguments.target))
    if arguments.ready_fd is not None:
        os.write(arguments.ready_fd, READY)
        os.close(arguments.ready_fd)
    report = watch.run()
    scrub(written_by_others(arguments.run_dir))
    return ExitStatus.PASS if report.complete else ExitStatus.UNDO_INCOMPLETE


if __name__ == "__main__":
    sys.exit(main())
