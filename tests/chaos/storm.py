"""The harness killed and signalled in the middle of game days, again and again.

Each time ``harness run`` is a process of its own (:mod:`tests.chaos.day`) with its watchdog, guards
and Chaos Toolkit; its faults are made in moto's AWS and a Kubernetes API, and what is in place is
read from there. Times are those of this process's clock, from just before the signal.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import queue
import random
import signal as signals
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM, Signals
from typing import Any

from harness.chaos.recover import recover
from harness.chaos.undo import HISTORY_NAME, LOG_NAME, UndoReport, open_records
from harness.chaos.watchdog import LOCK_NAME, is_watching

from . import day
from .conftest import Cloud

#: How long what was restored must stay so: a call that was under way may still take effect.
STAYS_S = 1.2
#: Of each fault: the day is half the time with one in place.
HOLD_S = 1.0
_GIVE_UP_S = 30.0
_LOOK_S = 0.01


@dataclass(frozen=True)
class Killed:
    """One day that was killed. ``at``: the last line before it. ``in_place``: what the undo log had
    open. ``restored_s``: None when that was not within half a minute."""

    at: str
    in_place: tuple[str, ...]
    restored_s: float | None
    left: str

    @property
    def good(self) -> bool:
        """Nothing of the faults is left, and there is nothing more to undo."""
        return self.restored_s is not None and not self.left


@dataclass(frozen=True)
class Cell:
    """One signal in one phase. ``undo_s``: None when nothing was in place."""

    phase: str
    signal: str
    in_place: bool
    undo_s: float | None
    restored_s: float | None
    status: int | None

    @property
    def good(self) -> bool:
        """Undo within half a second, restored within five, and not ended with 0."""
        began = self.undo_s is not None and self.undo_s <= 0.5
        restored = self.restored_s is not None and self.restored_s <= 5.0
        return restored and self.status not in (0, None) and (began or not self.in_place)


class Day:
    """``harness run`` as a process."""

    def __init__(
        self,
        cloud: Cloud,
        folder: Path,
        plan: Path,
        *,
        terminal: bool = False,
        deaf_to: Sequence[Signals] = (),
    ) -> None:
        self.cloud, self.root = cloud, folder / "runs"
        argv = [sys.executable, "-m", "tests.chaos.day", "run", str(plan)]
        argv += ["--target", str(cloud.target_file), "--runs", str(self.root)]
        # Its leases are its own, and so is what it remembers of runs before.
        environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
        self._master: int | None = None
        with open(folder / "out", "ab") as out:
            given: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
            if terminal:
                self._master, end = pty.openpty()
                given = {"stdin": end, "stdout": end, "stderr": end, "preexec_fn": _take_terminal}
            if deaf_to:
                given["preexec_fn"] = lambda: [signals.signal(n, signals.SIG_IGN) for n in deaf_to]
            self.process = subprocess.Popen(
                argv, cwd=day.ROOT, env=environment, start_new_session=not terminal, **given
            )
        if terminal:
            os.close(end)

    @property
    def run_dir(self) -> Path | None:
        """The run folder, once there is one."""
        return next(iter(self.root.glob("*/*/")), None)

    def lose_terminal(self) -> None:
        assert self._master is not None
        os.close(self._master)
        self._master = None

    def events(self) -> list[dict[str, Any]]:
        """The whole lines of the history so far, in order of time."""
        path = (self.run_dir or self.root) / HISTORY_NAME
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return sorted((json.loads(x) for x in lines if x.endswith("\n")), key=lambda e: e["t"])

    def intents(self) -> list[str]:
        """The faults of which the undo log has an intent."""
        path = (self.run_dir or self.root) / LOG_NAME
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        found = (json.loads(line) for line in lines if line.endswith("\n"))
        return [line["fault"] for line in found if line["kind"] == "intent"]

    def until(self, what: Callable[[], bool], within_s: float = 60.0) -> bool:
        """Wait for ``what``; False when the day ended first."""
        end = time.monotonic() + within_s
        while not what():
            if self.process.poll() is not None or time.monotonic() > end:
                return what()
            time.sleep(_LOOK_S)
        return True

    def saw(self, kind: str, **data: Any) -> bool:
        wanted = {"kind": kind, **data}
        return any(wanted.items() <= event.items() for event in self.events())

    def in_place(self) -> tuple[str, ...]:
        return tuple(r.fault for r in open_records(self.run_dir)) if self.run_dir else ()

    def restored_after(self, since: float, *, within_s: float = _GIVE_UP_S) -> float | None:
        """Seconds from ``since`` (monotonic) until nothing of a fault is there any more, and stays
        so; None when it is not so in time."""
        first: float | None = None
        while (now := time.monotonic()) - since < within_s:
            if not self.cloud.healthy():
                first = None
            elif first is None:
                first = time.monotonic() - since
            elif now - since - first > STAYS_S:
                return first
            time.sleep(_LOOK_S)
        return None

    def left(self) -> str:
        """What is left to undo once the watchdog has gone; empty when nothing is."""
        run_dir = self.run_dir
        if run_dir is None:
            return ""
        end = time.monotonic() + _GIVE_UP_S
        while is_watching(run_dir):
            if time.monotonic() > end:
                return "the watchdog did not end"
            time.sleep(_LOOK_S)
        still = [r.fault for r in open_records(run_dir)]
        return f"still open: {', '.join(still)}" if still else ""

    def close(self) -> None:
        """End it, whatever became of it."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        if self._master is not None:
            self.lose_terminal()
        if self.run_dir is not None:
            recover(self.run_dir)


def _take_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def a_day(cloud: Cloud, folder: Path, **how: Any) -> Iterator[Day]:
    """A day that has just begun; undone and ended at the end."""
    folder.mkdir()
    start = {key: how.pop(key) for key in ("terminal", "deaf_to") if key in how}
    running = Day(cloud, folder, day.write_plan(folder, **how), **start)
    try:
        yield running
    finally:
        running.close()


# ── killed ─────────────────────────────────────────────────────────────────────────────


def length_s(cloud: Cloud, folder: Path) -> float:
    """How long a day of three faults takes here from its baseline to its end."""
    with a_day(cloud, folder, hold_s=HOLD_S) as running:
        assert running.until(lambda: running.saw("phase.start", phase="baseline"))
        began = time.monotonic()
        assert running.until(lambda: running.saw("run.end"), 120)
        return time.monotonic() - began


def killed(cloud: Cloud, folder: Path, after_s: float, *, watchdog_too: bool) -> Killed:
    """A day of three faults, killed ``after_s`` seconds after its baseline began.

    With the watchdog killed in the same instant, ``harness recover`` is what restores.
    """
    with a_day(cloud, folder, hold_s=HOLD_S) as running:
        assert running.until(lambda: running.saw("phase.start", phase="baseline"))
        time.sleep(after_s)
        run_dir = running.run_dir
        assert run_dir is not None
        began = time.monotonic()
        if watchdog_too:
            watchdog = json.loads((run_dir / LOCK_NAME).read_text())["pid"]
            with suppress(ProcessLookupError):
                os.kill(watchdog, SIGKILL)
        running.process.kill()
        at, in_place = _last(running), running.in_place()
        if watchdog_too:
            running.process.wait()
            argv = [sys.executable, "-m", "harness.cli", "recover", str(run_dir)]
            done = subprocess.run(argv, cwd=day.ROOT, capture_output=True, timeout=60, check=False)
            left = "" if done.returncode == 0 else f"recover ended with {done.returncode}"
            return Killed(at, in_place, running.restored_after(began), left or running.left())
        restored_s, left = running.restored_after(began), running.left()
        if not left and recover(run_dir) != UndoReport():
            left = "recover found something to undo"
        return Killed(at, in_place, restored_s, left)


def _last(running: Day) -> str:
    events = running.events()
    last = events[-1] if events else {"kind": "nothing"}
    return " ".join(str(last[k]) for k in ("kind", "fault", "phase") if last.get(k))


def storm(
    clouds: Sequence[Cloud], folder: Path, count: int, *, watchdog_too: bool, seed: int = 7
) -> Iterator[Killed]:
    """``count`` days killed at instants drawn evenly from ``seed``; one at a time per cloud."""
    chance = random.Random(seed)
    folder.mkdir()
    whole_s = length_s(clouds[0], folder / "whole")
    free = queue.SimpleQueue[Cloud]()
    for cloud in clouds:
        free.put(cloud)

    def one(number: int, after_s: float) -> Killed:
        cloud = free.get()
        try:
            return killed(cloud, folder / str(number), after_s, watchdog_too=watchdog_too)
        finally:
            free.put(cloud)

    instants = [chance.uniform(0, whole_s) for _ in range(count)]
    with ThreadPoolExecutor(len(clouds)) as several:
        yield from several.map(one, range(count), instants)


# ── signalled ──────────────────────────────────────────────────────────────────────────


def _phase_begun(name: str) -> Callable[[Day], bool]:
    return lambda running: running.saw("phase.start", phase=name)


#: Phase of the day → how it is known to have begun.
PHASES: dict[str, Callable[[Day], bool]] = {
    "preflight": lambda running: running.run_dir is not None,
    "setup": lambda running: running.saw("run.start"),
    "baseline": _phase_begun("baseline"),
    "experiment begins": _phase_begun("fault:region"),
    "fault being made": lambda running: bool(running.intents()),
    "hold": lambda running: running.saw("fault.readback"),
    "undo": lambda running: running.saw("undo.start"),
    "recovery": _phase_begun("recovery:region"),
    "cool-down": _phase_begun("cool-down"),
    "report": lambda running: running.saw("run.end"),
}


def _send(*numbers: Signals) -> Callable[[Day], None]:
    def send(running: Day) -> None:
        for number in numbers:
            with suppress(ProcessLookupError):
                running.process.send_signal(number)
            time.sleep(0.1)

    return send


def _cancelled(running: Day) -> None:
    """As a CI service cancels a job."""
    for number, then_s in ((SIGINT, 7.5), (SIGTERM, 2.5), (SIGKILL, 0.0)):
        running.process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            running.process.wait(then_s)
            return


SIGNALS: dict[str, Callable[[Day], None]] = {
    "INT": _send(SIGINT),
    "TERM": _send(SIGTERM),
    "HUP": _send(SIGHUP),
    "INT, INT": _send(SIGINT, SIGINT),
    "terminal lost": Day.lose_terminal,
    "CI cancels": _cancelled,
}


def cell(cloud: Cloud, folder: Path, phase: str, signal: str) -> Cell | None:
    """The region is lost, and ``signal`` comes in ``phase``; None when the day was over by then."""
    terminal = signal == "terminal lost"
    with a_day(cloud, folder, only=["region"], hold_s=1.0, terminal=terminal) as running:
        if not running.until(lambda: PHASES[phase](running)) or running.process.poll() is not None:
            return None
        in_place = bool(running.in_place())
        began, began_t = time.monotonic(), time.time()
        SIGNALS[signal](running)
        restored_s = running.restored_after(began)
        with suppress(subprocess.TimeoutExpired):
            running.process.wait(_GIVE_UP_S)
        status = running.process.poll()
        starts = [e["t"] for e in running.events() if e["kind"] == "undo.start"]
        undo_s = max(0.0, min(starts) - began_t) if starts else None
        left = running.left()
        return Cell(phase, signal, in_place, undo_s, None if left else restored_s, status)


def table(cells: Sequence[Cell]) -> str:
    """Phases down, signals across: undo began / restored / exit status."""
    found = {(c.phase, c.signal): c for c in cells}
    head = "| phase | " + " | ".join(SIGNALS) + " |\n|---|" + "---|" * len(SIGNALS)
    rows = [
        f"| {phase} | " + " | ".join(_told(found.get((phase, s))) for s in SIGNALS) + " |"
        for phase in PHASES
        if any(c.phase == phase for c in cells)
    ]
    return "\n".join([head, *rows])


def _told(c: Cell | None) -> str:
    if c is None:
        return "–"
    undo = "nothing in place" if c.undo_s is None else f"undo {c.undo_s:.2f} s"
    restored = "NOT RESTORED" if c.restored_s is None else f"restored {c.restored_s:.2f} s"
    return f"{undo}, {restored}, exit {c.status}" + ("" if c.good else " **BAD**")
