"""What is measured, in interleaved rounds: every contestant once a round, each round turned by one.

Every function adds to a plain value that becomes the bench's JSON.
"""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.load.arrivals import EVEN, Schedule
from harness.plan.rates import constant
from tests.bench import pacer, truth
from tests.bench.contestants import OURS, STOCK, Contestant, Job
from tests.bench.runs import BenchError, Sample, measure
from tests.bench.target import CONNECTIONS_MAX, Nginx
from tests.bench.workloads import TITLES, WORKLOADS

ENGINE = OURS[0]
CONNECTIONS = 100
#: More than ten thousand, with room for those of other processes.
MANY = 10_500
MANY_STOCK = 2_000
FREEZE_RATE = 2000.0
OPEN_RATE = 10_000.0
TWO_WORKERS_RATE = 40_000.0
#: Two generators and the target, all busy, get a third of two cores each, and the target needs
#: more: it comes first, as on a machine of its own, and it is the generators that are late.
TWO_WORKERS_NICE = 5
STALL_S, STALL_EVERY_S = 1.0, 10.0


@dataclass(frozen=True)
class Lengths:
    """How often each part is run, and how long it lasts in seconds.

    ``fixed_rounds``: of those at a fixed rate for a longer time.
    """

    rounds: int = 7
    fixed_rounds: int = 5
    settle_s: float = 0.7
    window_s: float = 2.5
    open_s: float = 60.0
    workers_s: float = 20.0
    pace_s: float = 8.0
    freeze_s: float = 40.0
    still_s: float = 20.0
    many_s: float = 5.0
    pacer_s: float = 5.0


FULL = Lengths()
QUICK = Lengths(
    rounds=1,
    fixed_rounds=1,
    settle_s=0.5,
    window_s=1.0,
    open_s=8.0,
    workers_s=5.0,
    pace_s=3.0,
    freeze_s=12.0,
    still_s=4.0,
    many_s=3.0,
    pacer_s=2.0,
)


class Bench:
    """The target, the contestants, and what was seen so far (``results``)."""

    def __init__(
        self,
        nginx: Nginx,
        contestants: Sequence[Contestant],
        lengths: Lengths,
        folder: Path,
        *,
        generator: set[int],
        both: set[int],
    ) -> None:
        """``generator``: cores of a contestant; ``both``: those of contestant and target."""
        self.results: dict[str, Any] = {"problems": []}
        self.lengths = lengths
        self._nginx = nginx
        self._all = list(contestants)
        self._named = {contestant.name: contestant for contestant in contestants}
        self._folder = folder
        self._generator = generator
        self._both = both
        self._runs = 0

    # ---- the scenarios ----------------------------------------------------------------------

    def closed(self, workloads: Sequence[str]) -> None:
        """CPU per request, flat out on 100 connections."""
        lengths = self.lengths
        duration_s = lengths.settle_s + lengths.window_s + 0.8
        found: dict[str, Any] = self.results.setdefault("closed", {})
        for number in range(lengths.rounds):
            for workload in workloads:
                able = [c for c in self._all if c.can(self._job(workload, duration_s))]
                for contestant in _turned(able, number):
                    sample = self._run(contestant, self._job(workload, duration_s))
                    if sample is not None:
                        _keep(found.setdefault(workload, {}), contestant, number, sample)
            self._say(f"closed, round {number + 1} of {lengths.rounds} done")

    def open_mix(self) -> None:
        """10,000/s of the mix from one process."""
        job = self._job("mix", self.lengths.open_s, rate=OPEN_RATE, keeps=False)
        able = [ENGINE, *self._present("vegeta", "k6")]
        self._pacer("open")
        for number in range(self.lengths.fixed_rounds):
            for contestant in _turned(able, number):
                self._one("open", job, contestant, number, window_s=self.lengths.open_s - 4)
            self._pacer("open")

    def two_workers(self) -> None:
        """40,000/s of the mix from two processes, on the target's cores too."""
        job = self._job("mix", self.lengths.workers_s, rate=TWO_WORKERS_RATE, workers=2)
        window_s = self.lengths.workers_s - 3
        how = {"window_s": window_s, "cores": self._both, "nice": TWO_WORKERS_NICE}
        for number in range(self.lengths.fixed_rounds):
            self._one("two_workers", job, ENGINE, number, **how)

    def pace(self) -> None:
        """Latencies at 10,000/s of small requests."""
        found: dict[str, Any] = self.results.setdefault("pace", {})
        job = self._job("small", self.lengths.pace_s, rate=OPEN_RATE, arrivals=EVEN, keeps=False)
        able = [c for c in (ENGINE, *self._present("hey", "wrk2", "vegeta", "k6")) if c.can(job)]
        for number in range(self.lengths.rounds):
            self._pacer("pace")
            for contestant in _turned(able, number):
                sample = self._run(contestant, self._job_again(job), window_s=job.duration_s - 2)
                if sample is not None:
                    _keep(found, contestant, number, sample)
        self._say("pace done")

    def freeze(self) -> None:
        """2,000/s at a target that stands still one second in ten, and one that does not."""
        lengths = self.lengths
        # Connections are kept: those it would have to take anew after every stall, two thousand of
        # them, would be most of the queue that the truth leaves out.
        even = {"rate": FREEZE_RATE, "arrivals": EVEN}
        still = self._job("small", lengths.still_s, **even)
        self._one("still", still, ENGINE, window_s=lengths.still_s - 2)
        if "still" not in self.results:
            return
        p50_ms = self.results["still"][ENGINE.name][0]["latency_ms"]["p50"]
        job = self._job("small", lengths.freeze_s, **even)
        paced = replace(job, rate=FREEZE_RATE, per_user=FREEZE_RATE / CONNECTIONS)
        self._frozen(ENGINE, job, p50_ms)
        for contestant in self._present("hey", "wrk2", "vegeta", "k6"):
            self._frozen(contestant, job, p50_ms)
        self._frozen(STOCK[0], paced, p50_ms)

    def many(self) -> None:
        """More than ten thousand connections at once: is any made anew for a request?"""
        why = descriptors_missing(MANY)
        if why:
            self.results["many"] = {"not_measured": why}
            return
        how = {"window_s": self.lengths.many_s, "settle_s": self.lengths.many_s}
        job = self._job("small", 0.0, connections=MANY)
        for contestant in (ENGINE, OURS[2]):
            self._one(
                "many", job, contestant, is_ready=lambda c: c.connections >= 0.98 * MANY, **how
            )
        # Stock does not get to ten thousand, and not even two thousand, within half a minute.
        job = replace(job, connections=MANY_STOCK)
        self._one("many", job, STOCK[0], is_ready=lambda c: c.requests >= 2 * MANY_STOCK, **how)

    # ---- how --------------------------------------------------------------------------------

    def _pacer(self, scenario: str) -> None:
        """See how late this machine makes who sends nothing at all."""
        late_ms = pacer.on(self._generator, self.lengths.pacer_s)
        self.results.setdefault("pacer_ms", {}).setdefault(scenario, []).append(late_ms)

    def _frozen(self, contestant: Contestant, job: Job, p50_ms: float) -> None:
        times_s = [
            STALL_EVERY_S * number + STALL_EVERY_S / 2
            for number in range(int((job.duration_s + STALL_EVERY_S / 2) // STALL_EVERY_S))
        ]
        job = self._job_again(job)
        freezing: list[Any] = []
        began: list[float] = []

        def begin() -> None:
            began.append(time.time())
            freezing.append(self._nginx.freeze(STALL_S, times_s))

        # The window ends between two stalls: the target must be able to answer for itself.
        sample = self._run(contestant, job, window_s=2.0, on_ready=begin)
        for thread in freezing:
            thread.join()
        if sample is None:
            return
        start_t = sample.said.more.get("start_t") or began[0]
        schedule = Schedule(constant(FREEZE_RATE), EVEN, 0, job.duration_s)
        true = truth.percentiles_ms(
            truth.latencies_ms(
                (start_t + offset_s for offset_s in schedule.offsets_s()),
                self._nginx.stalls,
                p50_ms,
            )
        )
        found = self.results.setdefault("freeze", {})
        entry = {**sample.to_json(), "truth_ms": true, "planned": schedule_size(job)}
        found.setdefault(contestant.name, []).append(entry)
        self._say(f"freeze: {contestant.name} done")

    def _one(
        self,
        scenario: str,
        job: Job,
        contestant: Contestant,
        number: int = 0,
        **how: Any,
    ) -> None:
        if not contestant.can(job):
            return
        sample = self._run(contestant, self._job_again(job), **how)
        if sample is not None:
            _keep(self.results.setdefault(scenario, {}), contestant, number, sample)
            self._say(f"{scenario}: {contestant.name} done")

    def _run(self, contestant: Contestant, job: Job, **how: Any) -> Sample | None:
        """One run; None, and a problem, when it came to nothing: the others go on."""
        settings = {
            "cores": self._generator,
            "settle_s": self.lengths.settle_s,
            "window_s": self.lengths.window_s,
            **how,
        }
        where = f"{contestant.name}, {_what(job)}"
        try:
            sample = measure(self._nginx, contestant, job, **settings)
        except BenchError as error:
            # What it said last is of this machine, and for who sits before it.
            why, _, last = str(error).partition("\n")
            self._problem(f"{where}: {why}")
            self._say(last)
            return None
        if sample.disagreement():
            self._problem(f"{where}: {sample.disagreement()}")
        why = sample.said.more.get("why", {})
        if sample.said.failures or why:
            reasons = ", ".join(f"{n} {name}" for name, n in sorted(why.items()))
            self._problem(f"{where}: {reasons or f'{sample.said.failures} failures'}")
        folded = sample.said.more.get("locust_requests")
        if folded is not None and folded != sample.said.requests:
            self._problem(
                f"{where}: {folded} in Locust's statistics of {sample.said.requests} sent"
            )
        shutil.rmtree(job.folder, ignore_errors=True)
        return sample

    def _job(self, workload: str, duration_s: float, **more: Any) -> Job:
        job = Job(
            workload,
            self._nginx.tls_url if workload == "tls" else self._nginx.url,
            self._folder,
            duration_s,
            connections=more.pop("connections", CONNECTIONS),
            certificate=self._nginx.certificate if workload == "tls" else None,
            **more,
        )
        return self._job_again(job)

    def _job_again(self, job: Job) -> Job:
        """The same in a folder of its own."""
        self._runs += 1
        folder = self._folder / str(self._runs)
        folder.mkdir()
        return replace(job, folder=folder)

    def _present(self, *names: str) -> list[Contestant]:
        return [self._named[name] for name in names if name in self._named]

    def _problem(self, what: str) -> None:
        self.results["problems"].append(what)
        self._say(f"PROBLEM: {what}")

    def _say(self, what: str) -> None:
        print(what, file=sys.stderr, flush=True)


SCENARIOS: dict[str, Callable[[Bench], None]] = {
    **{
        workload: (lambda bench, workload=workload: bench.closed([workload]))  # type: ignore[misc]
        for workload in WORKLOADS
    },
    "open": Bench.open_mix,
    "pace": Bench.pace,
    "freeze": Bench.freeze,
    "many": Bench.many,
    # The last: where it is too much, the kernel delivers some of it seconds after its end.
    "two-workers": Bench.two_workers,
}


def run(bench: Bench, wanted: Sequence[str]) -> None:
    """The scenarios ``wanted``, the closed ones in rounds of all of them."""
    workloads = [name for name in wanted if name in WORKLOADS]
    if workloads:
        bench.closed(workloads)
    for name in wanted:
        if name not in WORKLOADS:
            SCENARIOS[name](bench)


def _what(job: Job) -> str:
    """A job in words."""
    how = f"at {job.rate:g}/s" if job.rate else f"on {job.connections} connections"
    return f"{TITLES[job.workload]} {how}"


def schedule_size(job: Job) -> int:
    """How many requests the schedule of an open job has."""
    return round((job.rate or 0.0) * job.duration_s)


def descriptors_missing(connections: int) -> str:
    """Why this machine does not let two processes hold so many connections, or ``""``."""
    needed = connections + 500
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < needed:
        return f"a process may open {most} files here, and {needed} are needed (ulimit -Hn)"
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    if high - low < connections * 1.1:
        return f"there are {high - low} local ports here (net.ipv4.ip_local_port_range)"
    if needed > CONNECTIONS_MAX:
        return f"the target takes {CONNECTIONS_MAX} connections"
    return ""


def _keep(found: dict[str, Any], contestant: Contestant, number: int, sample: Sample) -> None:
    found.setdefault(contestant.name, []).append({"round": number, **sample.to_json()})


def _turned(contestants: Sequence[Contestant], number: int) -> list[Contestant]:
    """In another order each round, so that nobody always follows the same."""
    at = number % len(contestants)
    return [*contestants[at:], *contestants[:at]]
