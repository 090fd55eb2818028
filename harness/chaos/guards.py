"""The process that watches the stop conditions of a run: ``python -m harness.chaos.guards``.

A process of its own, so that neither a hung answer nor a busy harness keeps a breach from being
seen; each condition has a thread of its own in it. It says on its standard output, a JSON line
each, that it lives (:data:`BEAT_PERIOD_S`), and what tripped. The harness takes its silence, its
end and a line that is none for a trip: who watches must be heard.

Until the harness says ``arm`` (before the first fault) a condition may have nothing to say: the
traffic that gives it a value has just begun. From then on a condition of which nothing was
heard for its ``no_data`` trips.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.chaos.conditions import LOOK_DEADLINE_S, PERIOD_S, Look, Seen, look_of, stop_files
from harness.chaos.procs import dies_with_parent, open_private, python_path
from harness.chaos.undo import HISTORY_NAME
from harness.clock import Clock, SystemClock
from harness.errors import Refused
from harness.evidence.journal import Journal
from harness.plan.guards import Guard
from harness.target.deadline import Late, call_within

SOURCE = "guards"
BEAT_PERIOD_S = 0.25
#: The watcher is taken for dead when nothing was heard of it for this long.
SILENT_S = 2.0
READY_S = 30.0
ARMED_S = 5.0


@dataclass(frozen=True)
class Trip:
    """Why the run must stop. ``condition`` as in ``Guard.text``; ``line`` of the plan, or 0."""

    condition: str
    why: str
    line: int = 0

    @property
    def reason(self) -> str:
        """One line, for people."""
        return f"stop condition {self.condition}: {self.why}"


# ── in the harness ─────────────────────────────────────────────────────────────────────


class Guards:
    """The watcher of one run, as the harness has it. ``on_trip`` is called once, from a thread."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        conditions: Sequence[Guard],
        journal: Journal,
        on_trip: Callable[[Trip], None],
    ) -> None:
        self._process = process
        self._journal = journal
        self._on_trip = on_trip
        self._closing = threading.Event()
        self._heard = threading.Event()
        self._armed = threading.Event()
        self._settled = threading.Event()
        self.trip: Trip | None = None
        journal.write("guard.start", conditions=[c.text for c in conditions], pid=process.pid)
        self._thread = threading.Thread(target=self._hear, name="guards", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, within_s: float = READY_S) -> None:
        """Wait for the first sign of life. Raises Refused."""
        if not self._heard.wait(within_s) or self.trip is not None:
            said = self.trip.why if self.trip else f"nothing was heard within {within_s:g} s"
            self.close()
            raise Refused(
                f"the stop conditions are not watched: {said}",
                hint="see logs/guards.log of the run",
            )

    def arm(self, within_s: float = ARMED_S) -> None:
        """From now on silence of a condition trips; returns once it is so, or has tripped."""
        if self._armed.is_set() or self.trip is not None:
            return
        with suppress(OSError, ValueError):  # it is gone: the listener says so
            assert self._process.stdin is not None
            self._process.stdin.write(b"arm\n")
            self._process.stdin.flush()
        if not self._settled.wait(within_s):
            self._tripped(Trip("of the watcher", f"it did not answer within {within_s:g} s"))

    def close(self) -> None:
        """End the watch; nothing trips any more."""
        if self._closing.is_set():
            return
        self._closing.set()
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._thread.join(SILENT_S + 1.0)
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe:
                    pipe.close()
        with suppress(OSError):
            self._journal.write("guard.end", tripped=self.trip is not None)
            self._journal.close()

    def _hear(self) -> None:
        try:
            self._listen()
        except Exception as error:  # noqa: BLE001 - who does not listen any more does not guard
            self._tripped(Trip("of the watcher", f"cannot be heard: {error}"))

    def _listen(self) -> None:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        rest, patience_s = b"", READY_S
        while self.trip is None and not self._closing.is_set():
            readable, _, _ = select.select([fd], [], [], patience_s)
            if not readable and patience_s == SILENT_S:
                # The whole machine may have stood still: then a beat comes at once.
                readable, _, _ = select.select([fd], [], [], 2 * BEAT_PERIOD_S)
            if not readable:
                said = f"nothing was heard of it for {patience_s:g} s"
                self._tripped(Trip("of the watcher", said))
                return
            received = os.read(fd, 65536)
            if not received:
                self._tripped(Trip("of the watcher", "the process that watches has ended"))
                return
            *lines, rest = (rest + received).split(b"\n")
            for line in lines:
                self._take(line)
            patience_s = SILENT_S

    def _take(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            trip = Trip(**said["trip"]) if "trip" in said else None
            armed = bool(said.get("armed"))
        except (ValueError, TypeError, AttributeError):
            trip, armed = Trip("of the watcher", f"it said {line[:80]!r}"), False
        if trip is not None:
            self._tripped(trip)
        elif armed and not self._armed.is_set():
            self._armed.set()
            self._journal.write("guard.armed")
            self._settled.set()
        self._heard.set()

    def _tripped(self, trip: Trip) -> None:
        if self._closing.is_set() or self.trip is not None:
            return
        self.trip = trip
        # First the stop: a history that cannot be written must not delay it.
        self._on_trip(trip)
        with suppress(OSError):
            self._journal.write(
                "guard.trip", condition=trip.condition, why=trip.why, line=trip.line
            )
        self._settled.set()
        self._heard.set()


def start_guards(
    run_dir: Path,
    conditions: Sequence[Guard],
    *,
    target_file: Path,
    on_trip: Callable[[Trip], None],
    clock: Clock,
    others: Sequence[Path] = (),
) -> Guards:
    """Start to watch ``conditions`` (those of the run's ``plan.json`` and its kill switches, of
    which ``others`` are those named by hand); ``wait_ready`` says when it does."""
    argv = [sys.executable, "-m", "harness.chaos.guards", str(run_dir.resolve())]
    argv += [f"--target={target_file.resolve()}", *(f"--stop-file={p.absolute()}" for p in others)]
    environment = dict(os.environ)
    environment["PYTHONPATH"] = python_path(environment)
    log = run_dir / "logs" / "guards.log"
    log.parent.mkdir(exist_ok=True, mode=0o700)
    with open(log, "ab", opener=open_private) as out:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=out,
            env=environment,
            # Ctrl-C is for the harness, which ends the watch when faults are undone.
            process_group=0,
            umask=0o077,
            preexec_fn=dies_with_parent(),
        )
    journal = Journal(run_dir / HISTORY_NAME, SOURCE, clock)
    return Guards(process, conditions, journal, on_trip)


# ── the process ────────────────────────────────────────────────────────────────────────


class Watched:
    """One condition and what was last heard of it."""

    def __init__(self, guard: Guard, look: Callable[[], Look], clock: Clock) -> None:
        """``look`` makes the function that looks: it may import and connect."""
        self.guard = guard
        self._make, self._look = look, None
        self._clock = clock
        self._heard_m: float | None = None
        self._last = "nothing was heard of it yet"
        self._breach: str | None = None

    def look(self) -> None:
        """Look once; what it raises is kept as the reason of a silence."""
        try:
            seen = call_within(LOOK_DEADLINE_S, self._once)
        except Late as error:
            self._last = str(error)
        except Exception as error:  # noqa: BLE001 - whatever its source raises, nothing was heard
            self._last = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        else:
            self._heard_m = self._clock.monotonic_s()
            if seen.breached:
                self._breach = seen.observed

    def _once(self) -> Seen:
        if self._look is None:
            self._look = self._make()
        return self._look()

    def trip(self, *, armed: bool) -> Trip | None:
        """Why the run must stop on account of this condition, if it must."""
        text, line = self.guard.text, self.guard.line
        if self._breach is not None:
            return Trip(text, self._breach, line)
        if not armed:
            return None
        if self._heard_m is None:
            return Trip(text, f"no data: {self._last}", line)
        silent_s = self._clock.monotonic_s() - self._heard_m
        if silent_s > self.guard.no_data_s:
            return Trip(text, f"no data for {silent_s:.1f} s: {self._last}", line)
        return None


def watch(
    conditions: Sequence[Watched],
    orders: queue.SimpleQueue[str],
    say: Callable[[Mapping[str, Any]], None],
) -> None:
    """Look at each condition in a thread of its own; say each beat, and the first trip, for ever
    (until ``orders`` holds ``end``)."""
    news = threading.Event()
    over = threading.Event()

    def look(condition: Watched) -> None:
        while not over.is_set():
            condition.look()
            if condition.trip(armed=False) is not None:
                news.set()
                return
            over.wait(PERIOD_S[condition.guard.kind])

    for condition in conditions:
        name = condition.guard.kind
        threading.Thread(target=look, args=(condition,), name=name, daemon=True).start()
    armed = False
    while True:
        with suppress(queue.Empty):
            order = orders.get_nowait()
            armed = armed or order == "arm"
            if order == "end":
                over.set()
                return
        trips = [trip for c in conditions if (trip := c.trip(armed=armed)) is not None]
        if trips:
            say({"trip": vars(trips[0])})
            over.set()
            return
        say({"armed": armed})
        news.wait(BEAT_PERIOD_S)


def _listen_for(orders: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        orders.put(line.strip())
    orders.put("end")


def _environment(environment: Mapping[str, str], target_file: Path, run_dir: Path) -> None:
    """What the probes of an experiment need, as the driver gives it to ``chaos run``."""
    os.environ.update(environment)
    os.environ.update(
        HARNESS_TARGET=str(target_file), HARNESS_RUN_DIR=str(run_dir), HARNESS_IN_GAMEDAY="1"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; ends with 0 after a trip or when nobody listens any more."""
    from harness.plan.model import Plan
    from harness.target.reader import read_target

    parser = argparse.ArgumentParser(prog="python -m harness.chaos.guards", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--stop-file", type=Path, action="append", default=[])
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    clock = SystemClock()
    plan = Plan.from_json(json.loads((arguments.run_dir / "plan.json").read_bytes()))
    target = read_target(arguments.target)
    _environment(target.environment, arguments.target, arguments.run_dir)
    guards = (*stop_files(arguments.run_dir, arguments.stop_file), *plan.guards)
    conditions = [
        Watched(guard, lambda g=guard: look_of(g, plan, target, clock), clock)  # type: ignore[misc]
        for guard in guards
    ]
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen_for, args=(orders,), daemon=True).start()

    # Standard output belongs to the lines; what a probe prints must not come between.
    out, sys.stdout = sys.stdout, sys.stderr

    def say(line: Mapping[str, Any]) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    with suppress(BrokenPipeError):
        watch(conditions, orders, say)
    # Threads may hang in a source that does not answer: nothing is left to wait for.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
