"""Runs Locust as a subprocess and says how it is doing; for the conductor.

One generator is one process. Several are a Locust master with its workers, on this machine
or, where it listens for them, on others.

Locust's exit code says nothing about the traffic (a run that sent nothing ends with 0),
so nothing here is decided by it: whether a generator was ready, is alive and ended whole
is read from the tally file it writes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness
from harness.clock import Clock, SystemClock
from harness.errors import HarnessError
from harness.evidence import histogram
from harness.evidence.journal import Journal
from harness.load import process, relay
from harness.load.outcome import DEGRADED, NOT_SENT, OK
from harness.load.settings import Settings
from harness.plan.recording import Recording

LOOPBACK = "127.0.0.1"
#: How much longer than those of this machine workers of other hosts may take to be there.
CONNECT_S = 600.0
_POLL_S = 0.1
#: Live figures are over this many of the last whole seconds.
LIVE_WINDOW_S = 5


class LoadFailed(HarnessError):
    """The traffic could not be started."""


@dataclass(frozen=True)
class LiveFigures:
    """Traffic over the last seconds, for the live view (not for judging).

    Rates per second over all workers; ``error_ratio`` of what succeeded or went wrong,
    ``not_sent_ratio`` of that and what was not sent (degraded answers are in neither), ``p95_s``
    from the planned instant. None where nothing was counted. ``at_t`` is the last second covered.
    """

    at_t: int | None = None
    planned_rate: float = 0.0
    achieved_rate: float = 0.0
    error_ratio: float | None = None
    not_sent_ratio: float | None = None
    p95_s: float | None = None
    in_flight: int = 0


@dataclass
class _Second:
    planned: int = 0
    ok: int = 0
    bad: int = 0
    not_sent: int = 0
    latency: list[histogram.Histogram] = field(default_factory=list)


class TallyReader:
    """Follows one tally file while it is written, each line read once."""

    def __init__(self, path: Path) -> None:
        self.started = False
        self.ended = False
        self.in_flight = 0
        self.seconds: dict[int, _Second] = {}
        self._path = path
        self._offset = 0

    def poll(self) -> None:
        """Read the lines written since the last poll; a line still being written is left."""
        try:
            with self._path.open("rb") as lines:
                lines.seek(self._offset)
                data = lines.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(json.loads(line))
        for old in sorted(self.seconds)[: -4 * LIVE_WINDOW_S]:
            del self.seconds[old]

    def _take(self, line: Mapping[str, Any]) -> None:
        kind = line["kind"]
        self.started |= kind == "tally.start"
        self.ended |= kind == "tally.end"
        if kind != "tally":
            return
        self.in_flight = line["in_flight"]
        for t, counted in line["seconds"].items():
            second = self.seconds.setdefault(int(t), _Second())
            second.planned += counted["planned"]
            for cell in counted["cells"]:
                second.ok += cell["n"] if cell["outcome"] == OK else 0
                second.bad += cell["n"] if cell["outcome"] not in (OK, DEGRADED, NOT_SENT) else 0
                second.not_sent += cell["n"] if cell["outcome"] == NOT_SENT else 0
                if cell["outcome"] != NOT_SENT:
                    second.latency.append(histogram.from_json(cell["latency"]))


class LoadDriver:
    """One run's traffic. Use it from one thread, which must outlive the traffic."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        #: a lone generator, or the master and then the workers of this machine
        self._children: list[subprocess.Popen[bytes]] = []
        self._readers: list[TallyReader] = []
        self._logs: list[Path] = []
        self._journal: Journal | None = None
        self._listens = False
        self._kill_after_s: float | None = None
        self._killer: threading.Timer | None = None

    def start(
        self,
        run_dir: Path,
        *,
        locustfile: Path | str,
        rate: float,
        arrivals: str,
        seed: int,
        mix: Mapping[str, float],
        timeout_s: float,
        service_url: str,
        dns_server: str | None,
        duration_s: float | None,
        processes: int = 1,
        thresholds_s: Sequence[float] = (0.2,),
        kill_after_s: float | None = None,
        warm_up_s: float = 60.0,
        max_in_flight: int | None = None,
        behaviour: Mapping[str, Any] | None = None,
        shape: str = "",
        listen: tuple[str, int] | None = None,
        recording: Recording | None = None,
    ) -> None:
        """Start ``processes`` generators that share one schedule of ``rate`` arrivals/s.

        ``recording``: what is replayed, again and again, instead.
        ``shape``: how the rate goes over time up to ``rate``, in words; empty: it does not.
        ``listen`` (address, port): the generators are not started here but are Locust workers
        that connect to it. ``duration_s`` None: until :meth:`stop`. ``kill_after_s`` is a
        seeded defect: the generators are killed (SIGKILL) that long after :meth:`wait_ready`
        returned.
        ``warm_up_s``: how long a service that does not take the first uploads is asked
        again. ``behaviour``: what differs from the locustfile's, by field of Behaviour.
        Raises LoadFailed when the locustfile does not exist.
        """
        if not Path(locustfile).is_file():
            raise LoadFailed(f"there is no locustfile {locustfile}", hint="locustfiles/mixed.py")
        self._journal = Journal(run_dir / "history.jsonl", "load", self._clock)
        settings = Settings(
            rate=rate,
            arrivals=arrivals,
            seed=seed,
            mix=mix,
            timeout_s=timeout_s,
            duration_s=duration_s,
            run_dir=run_dir.resolve(),
            dns_server=dns_server,
            thresholds_s=tuple(thresholds_s),
            warm_up_s=warm_up_s,
            max_in_flight=max_in_flight,
            behaviour=behaviour or {},
            shape=shape,
            **_replayed(recording),
        )
        self._listens = listen is not None
        argv = ["-f", str(locustfile), "--headless", "--host", service_url]
        argv += ["--users", "1", "--only-summary"]
        logs = run_dir / "logs"
        if processes == 1 and listen is None:
            self._spawn(logs / "load-w0.log", argv, settings.environment())
        else:
            host, port = listen or (LOOPBACK, free_port())
            master = ["--master", "--expect-workers", str(processes)]
            master += ["--master-bind-host", host, "--master-bind-port", str(port)]
            self._spawn(logs / "load-master.log", argv + master, settings.environment())
            worker = ["-f", str(locustfile), "--worker"]
            worker += ["--master-host", host, "--master-port", str(port)]
            for n in range(processes if listen is None else 0):
                self._spawn(logs / f"load-worker-{n}.log", worker, {})
        self._readers = [
            TallyReader(run_dir / relay.tally_file(settings.of_worker(n, processes).worker_name))
            for n in range(processes)
        ]
        self._journal.write("load.start", workers=processes, rate=rate)
        self._kill_after_s = kill_after_s

    def wait_ready(self, deadline_s: float) -> None:
        """Return when every generator has warmed up and runs its schedule.

        Raises LoadFailed, with what the generator said last, when one ends before or
        ``deadline_s`` seconds pass.
        """
        deadline_s += CONNECT_S if self._listens else 0.0
        give_up_m = self._clock.monotonic_s() + deadline_s
        while True:
            self._poll()
            if all(reader.started for reader in self._readers):
                self._start_killer()
                return
            for child, log in zip(self._children, self._logs, strict=True):
                if child.poll() is not None:
                    raise LoadFailed(
                        "the traffic generator ended before it sent anything:\n"
                        + process.complaint(log),
                        hint=f"the whole log is {log}",
                    )
            if self._clock.monotonic_s() >= give_up_m:
                raise LoadFailed(
                    f"the traffic generator was not ready within {deadline_s:g} s:\n"
                    + process.complaint(self._logs[0]),
                    hint="have the workers connected?" if self._listens else "is the service up?",
                )
            self._clock.sleep(_POLL_S)

    def alive(self) -> bool:
        """Whether every process started here runs."""
        return bool(self._children) and all(c.poll() is None for c in self._children)

    def over(self) -> bool:
        """Whether every generator has closed its evidence, or none of them runs any more."""
        self._poll()
        return all(r.ended for r in self._readers) or all(
            c.poll() is not None for c in self._children
        )

    def latest(self) -> LiveFigures:
        """Figures over the last whole seconds that the generators have written."""
        self._poll()
        known = [max(r.seconds) for r in self._readers if r.seconds]
        in_flight = sum(r.in_flight for r in self._readers)
        if not known:
            return LiveFigures(in_flight=in_flight)
        last = min(known) - 1  # the newest second is still being counted
        window = [
            (t, second)
            for reader in self._readers
            for t, second in reader.seconds.items()
            if last - LIVE_WINDOW_S < t <= last
        ]
        return live_figures(last, window, in_flight)

    def stop(self, deadline_s: float) -> None:
        """End the schedule, let the generators drain and close their evidence; then end them.

        A generator that has not ended after ``deadline_s`` seconds is killed, which
        leaves a visible gap. Safe to call again, and when nothing was started.
        """
        if self._killer is not None:
            self._killer.cancel()
        give_up_m = self._clock.monotonic_s() + deadline_s
        for child in self._children:
            _signal(child, signal.SIGCONT)
        # The first is alone, or the master: it ends the others when it has their evidence.
        for child in self._children[:1]:
            _signal(child, signal.SIGTERM)
        for child in self._children:
            try:
                child.wait(max(0.0, give_up_m - self._clock.monotonic_s()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._poll()
        self._write_end()

    def _write_end(self) -> None:
        if self._journal is None:
            return
        codes = [child.returncode for child in self._children]
        self._journal.write(
            "load.end",
            exit_code=next((code for code in codes if code), 0),
            exit_codes=codes,
            workers_ended=sum(reader.ended for reader in self._readers),
        )
        self._journal.close()
        self._journal = None

    def _spawn(self, log: Path, argv: list[str], environment: Mapping[str, str]) -> None:
        # The child must find the harness wherever it is started from.
        package = str(Path(harness.__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
        env = {**environment, "PYTHONPATH": path}
        argv = [sys.executable, "-m", "locust", *argv]
        self._children.append(process.spawn(argv, log=log, env=env))
        self._logs.append(log)

    def _poll(self) -> None:
        for reader in self._readers:
            reader.poll()

    def _start_killer(self) -> None:
        if self._kill_after_s is not None and self._killer is None:
            self._killer = threading.Timer(self._kill_after_s, self._kill)
            self._killer.daemon = True
            self._killer.start()

    def _kill(self) -> None:
        for child in self._children:
            _signal(child, signal.SIGKILL)


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as probe:
        # Connections that are over keep their port for a minute; they do not keep us from it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _replayed(recording: Recording | None) -> dict[str, Any]:
    """The settings that say what is replayed."""
    if recording is None:
        return {}
    return {
        "recording": str(Path(recording.file).resolve()),
        "speed": recording.speed,
        "methods": recording.methods,
        "loop": True,
    }


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if child.poll() is None:
        child.send_signal(number)


def live_figures(last: int, window: list[tuple[int, _Second]], in_flight: int) -> LiveFigures:
    """Figures of ``window``: (second, counts of one worker in it), up to second ``last``."""
    span_s = max(1, len({t for t, _ in window}))
    ok = sum(second.ok for _, second in window)
    bad = sum(second.bad for _, second in window)
    not_sent = sum(second.not_sent for _, second in window)
    every = ok + bad + not_sent
    latency = histogram.merge(part for _, second in window for part in second.latency)
    p95 = histogram.quantile_us(latency, 0.95)
    return LiveFigures(
        at_t=last,
        planned_rate=sum(second.planned for _, second in window) / span_s,
        achieved_rate=ok / span_s,
        error_ratio=bad / (ok + bad) if ok + bad else None,
        not_sent_ratio=not_sent / every if every else None,
        p95_s=p95.high / 1e6 if p95 else None,
        in_flight=in_flight,
    )
