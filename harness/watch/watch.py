"""Running the observers of a run: a thread each, and a warden over all of them.

The warden needs no answer from anyone: it writes the heartbeats, and notices when a
poll hangs, counts it as failed and goes on with a fresh observer in a fresh thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from harness.clock import Clock
from harness.evidence.journal import Journal
from harness.watch.observer import Observer
from harness.watch.recorder import Recorder

BEAT_S = 5.0
_WARDEN_TICK_S = 0.25
#: Hung polls of one observer that may be abandoned and still be alive.
_ABANDONED_MAX = 3


class Watch:
    """Observers recording into ``<run_dir>/history.jsonl``.

    ``names`` are the observers' names. Call :meth:`start` once and :meth:`stop` once.
    """

    def __init__(self, observers: Sequence[Observer], run_dir: Path, clock: Clock) -> None:
        self.names = [observer.name for observer in observers]
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"two observers share a name: {sorted(self.names)}")
        self._observers = list(observers)
        self._path = run_dir / "history.jsonl"
        self._clock = clock
        self._stopping = threading.Event()
        self._stations: list[_Station] = []
        self._warden = threading.Thread(target=self._guard, name="watch-warden", daemon=True)

    def start(self) -> None:
        """Begin to watch; returns at once."""
        for observer in self._observers:
            self._stations.append(_Station(observer, self._path, self._clock, self._stopping))
        for station in self._stations:
            station.start()
        self._warden.start()

    def stop(self, deadline_s: float = 5.0) -> None:
        """Stop watching and close every source; a hung poll delays it by ``deadline_s`` at most."""
        self._stopping.set()
        ends = self._clock.monotonic_s() + deadline_s
        if self._warden.ident is not None:
            self._warden.join(max(0.0, deadline_s))
        for station in self._stations:
            station.join(max(0.0, ends - self._clock.monotonic_s()))
            station.close()

    @property
    def broken(self) -> dict[str, str]:
        """Observers whose evidence could not be written, with the reason."""
        found = {s.observer.name: s.recorder.broken for s in self._stations}
        return {name: reason for name, reason in found.items() if reason is not None}

    def _guard(self) -> None:
        beat_m = self._clock.monotonic_s()
        while not self._stopping.wait(_WARDEN_TICK_S):
            now_m = self._clock.monotonic_s()
            due = now_m - beat_m >= BEAT_S
            beat_m = now_m if due else beat_m
            for station in self._stations:
                station.check(now_m)
                if due:
                    station.recorder.beat()


class _Station:
    """One observer, the thread that polls it, and its recorder."""

    def __init__(
        self, observer: Observer, path: Path, clock: Clock, stopping: threading.Event
    ) -> None:
        self.observer = observer
        self._clock = clock
        self._stopping = stopping
        self._lock = threading.Lock()
        self._generation = 0
        self._began_m: float | None = None
        self._threads: list[threading.Thread] = []
        self.recorder = Recorder(
            Journal(path, f"watch/{observer.name}", clock),
            clock,
            observer=observer.name,
            period_s=observer.period_s,
            subjects=tuple(observer.subjects),
            # Longer than one slow answer, or a slow target would flicker.
            unknown_after_s=observer.timeout_s + 2 * observer.period_s,
        )

    def start(self) -> None:
        with self._lock:
            self._generation += 1
            thread = threading.Thread(
                target=self._loop,
                args=(self.observer, self._generation),
                name=f"watch-{self.observer.name}",
                daemon=True,
            )
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()

    def join(self, timeout_s: float) -> None:
        self._threads[-1].join(timeout_s)

    def close(self) -> None:
        self.recorder.close()
        if not any(thread.is_alive() for thread in self._threads):
            self.observer.close()

    def check(self, now_m: float) -> None:
        """Notice a hung poll; called by the warden."""
        with self._lock:
            began_m = self._began_m
            hung = began_m is not None and now_m - began_m > self.observer.timeout_s
            alive = sum(thread.is_alive() for thread in self._threads)
            replace = hung and alive <= _ABANDONED_MAX
            if hung:
                # Seen as late once per timeout, not once per tick.
                self._began_m = now_m
        if hung:
            self.recorder.failed(f"no answer within {self.observer.timeout_s:g} s")
        else:
            self.recorder.tick()
        if replace:
            self.observer = self.observer.renew()
            self.start()

    def _loop(self, observer: Observer, generation: int) -> None:
        while not self._stopping.is_set():
            began_m = self._clock.monotonic_s()
            if not self._enter(generation, began_m):
                return
            try:
                values = observer.poll()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is evidence
                self._failed(generation, error)
            else:
                # An answer that comes after all is still true of when it was asked.
                self.recorder.answered(began_m, values)
            if not self._leave(generation):
                observer.close()
                return
            spent_s = self._clock.monotonic_s() - began_m
            self._stopping.wait(max(observer.period_s - spent_s, 0.02))

    def _failed(self, generation: int, error: Exception) -> None:
        with self._lock:
            current = generation == self._generation
        if current:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            self.recorder.failed(text)

    def _enter(self, generation: int, began_m: float) -> bool:
        with self._lock:
            if generation != self._generation:
                return False
            self._began_m = began_m
            return True

    def _leave(self, generation: int) -> bool:
        with self._lock:
            if generation != self._generation:
                return False
            self._began_m = None
            return True
