"""One run of one contestant, measured from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Any

from tests.bench.children import spawn
from tests.bench.contestants import Contestant, Job, Said
from tests.bench.target import Counts, Nginx
from tests.bench.usage import Usage, of_trees

#: How long a contestant may take to send its first requests, and to end.
START_S = 30.0
END_S = 60.0
POLL_S = 0.05


class BenchError(Exception):
    """A run came to nothing: the contestant did not start, send, end or say what it did."""


@dataclass
class Sample:
    """What was seen of one run.

    CPU, rate, connections and memory are of the window; ``requests`` (at the target) and
    ``said`` of the whole run.
    """

    cpu_us: float
    kernel_us: float
    rate: float
    cores: float
    target_cores: float
    peak_mib: float
    new_connections: int
    window_requests: int
    active: int
    requests: int
    said: Said = field(default_factory=Said)

    def disagreement(self) -> str:
        """How the contestant's count differs from the target's beyond reason, or ``""``."""
        own = self.said.requests
        if own is None or own <= self.requests <= own + self.said.uncounted_max:
            return ""
        return f"counted {own}, the target {self.requests}"

    def to_json(self) -> dict[str, Any]:
        return {
            "cpu_us": round(self.cpu_us, 2),
            "kernel_us": round(self.kernel_us, 2),
            "rate": round(self.rate, 1),
            "cores": round(self.cores, 3),
            "target_cores": round(self.target_cores, 3),
            "peak_mib": round(self.peak_mib, 1),
            "new_connections": self.new_connections,
            "window_requests": self.window_requests,
            "active": self.active,
            "requests": self.requests,
            "own_requests": self.said.requests,
            "failures": self.said.failures,
            "latency_ms": {k: round(v, 4) for k, v in self.said.latency_ms.items()},
            **self.said.more,
        }


def measure(
    nginx: Nginx,
    contestant: Contestant,
    job: Job,
    *,
    cores: set[int],
    settle_s: float,
    window_s: float,
    is_ready: Callable[[Counts], bool] | None = None,
    on_ready: Callable[[], None] = lambda: None,
    nice: int = 0,
) -> Sample:
    """Run ``contestant`` on ``cores``; ``settle_s`` after it is ready, watch for ``window_s``.

    ``is_ready`` looks at what reached the target since the contestant began; by default some
    requests. ``on_ready`` is called then. ``nice``: by how much the contestant gives way to the
    target, where they share cores. Raises BenchError when it does not come to that.
    """
    is_ready = is_ready or (lambda counts: counts.requests >= min(50, job.rate or 50))
    start = _settled(nginx)
    with ExitStack() as stack:
        log = job.folder / "output.log"
        output = stack.enter_context(log.open("w+"))
        children = [
            stack.enter_context(_Child(argv, more, output, cores, nice))
            for argv, more in contestant.commands(job)
        ]
        _wait_until(is_ready, nginx, start, children, log)
        on_ready()
        time.sleep(settle_s)
        before, usage, served, began = _look(nginx, children)
        time.sleep(window_s)
        after, usage_then, served_then, ended = _look(nginx, children)
        if usage is None or usage_then is None:
            raise BenchError(f"ended in the window\n{_tail(log)}")
        for child in children:
            child.end(told=contestant.can_be_told and job.rate is None)
        time.sleep(POLL_S)
        last = nginx.counts()
    try:
        said = contestant.said(job, log.read_text(errors="replace"))
    except (ValueError, OSError, KeyError) as error:
        raise BenchError(f"says nothing of itself ({error})\n{_tail(log)}") from error
    requests = after.requests - before.requests
    if not requests:
        raise BenchError(f"sent nothing in the window\n{_tail(log)}")
    took_s = ended - began
    cpu_s = usage_then.cpu_s - usage.cpu_s
    return Sample(
        cpu_us=cpu_s / requests * 1e6,
        kernel_us=(usage_then.kernel_s - usage.kernel_s) / requests * 1e6,
        rate=requests / took_s,
        cores=cpu_s / took_s,
        target_cores=(served_then.cpu_s - served.cpu_s) / took_s,
        peak_mib=usage_then.peak_mib,
        new_connections=after.connections - before.connections,
        window_requests=requests,
        active=after.active,
        requests=last.requests - start.requests,
        said=said,
    )


def _settled(nginx: Nginx) -> Counts:
    """What reached the target so far, with all that the run before had left in its sockets.

    Raises BenchError when it is asked for more all the time.
    """
    give_up_m = time.monotonic() + START_S
    counts = nginx.counts()
    while True:
        time.sleep(POLL_S)
        before, counts = counts, nginx.counts()
        if counts.requests == before.requests:
            return counts
        if time.monotonic() > give_up_m:
            raise BenchError("somebody else sends to the target")


class _Child:
    """One process of a contestant, with its own group."""

    def __init__(
        self,
        argv: list[str],
        env: Mapping[str, str],
        output: IO[str],
        cores: set[int],
        nice: int,
    ) -> None:
        self._process = spawn(argv, env, cores, output, nice=nice)
        self.pid = self._process.pid

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def is_over(self) -> bool:
        return self._process.poll() is not None

    def end(self, *, told: bool) -> None:
        """Wait for its end, after telling it when it would go on for ever."""
        if told and not self.is_over:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"does not end within {END_S:g} s") from error


def _look(nginx: Nginx, children: list[_Child]) -> tuple[Counts, Usage | None, Usage, float]:
    usage = None
    if not any(child.is_over for child in children):
        usage = of_trees(child.pid for child in children)
    return nginx.counts(), usage, of_trees(nginx.pids), time.monotonic()


def _wait_until(
    is_ready: Callable[[Counts], bool],
    nginx: Nginx,
    start: Counts,
    children: list[_Child],
    log: Any,
) -> None:
    give_up = time.monotonic() + START_S
    while True:
        now = nginx.counts()
        since = Counts(
            now.requests - start.requests, now.connections - start.connections, now.active
        )
        if is_ready(since):
            return
        if any(child.is_over for child in children) or time.monotonic() > give_up:
            raise BenchError(f"not ready ({since})\n{_tail(log)}")
        time.sleep(POLL_S)


def _tail(log: Any) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
