"""Who is measured: how each is started for a job, and what each says of it afterwards."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from harness.evidence import histogram
from harness.load.driver import free_port
from tests.bench.programs import Program
from tests.bench.workloads import UPLOAD, WORKLOADS, only

REPO = Path(__file__).resolve().parents[2]
TRAFFIC = REPO / "tests/bench/traffic"


@dataclass(frozen=True)
class Job:
    """One run to be made: closed with ``connections``, or open at ``rate`` (per second)."""

    workload: str
    url: str
    folder: Path
    duration_s: float
    connections: int = 100
    rate: float | None = None
    workers: int = 1
    certificate: Path | None = None
    #: of a closed model that paces itself: tasks per second and user
    per_user: float = 0.0
    arrivals: str = "poisson"
    #: a connection is kept for the whole run, as those of the other programs are
    keeps: bool = True

    @property
    def body(self) -> Path:
        """A file to be uploaded."""
        path = self.folder / "body"
        if not path.exists():
            path.write_bytes(b"z" * UPLOAD.body_bytes)
        return path

    def address(self) -> str:
        """URL of the one request of the workload."""
        request = only(self.workload)
        assert request is not None
        return self.url + request.path


@dataclass
class Said:
    """What a contestant says of its own run; None where it does not say.

    ``uncounted_max``: how many requests the target may have seen beyond those the contestant
    counts (they were in flight when it stopped). Latencies in ms from where it counts them.
    """

    requests: int | None = None
    failures: int = 0
    uncounted_max: int = 0
    latency_ms: dict[str, float] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)


class Contestant(Protocol):
    """A load generator. A closed one that ``can_be_told`` goes on until SIGTERM."""

    name: str
    can_be_told: ClassVar[bool]

    def can(self, job: Job) -> bool:
        """Whether it knows how to do that."""

    def commands(self, job: Job) -> list[tuple[list[str], Mapping[str, str]]]:
        """One command with its variables for each process."""

    def said(self, job: Job, output: str) -> Said:
        """What it says of its run. Raises ValueError when it says nothing."""


# ---- in Locust ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Declared:
    """Our engine with declared requests; ``listen``: Locust's event for each of them."""

    name: str
    listen: bool = False
    can_be_told: ClassVar[bool] = True

    def can(self, job: Job) -> bool:
        # What the event adds does not depend on what is sent.
        return not job.per_user and (not self.listen or job.workload in ("small", "mix"))

    def commands(self, job: Job) -> list[tuple[list[str], Mapping[str, str]]]:
        argv = [*_locust("declared.py", job), "-u", "1"]
        if job.workers > 1:
            port = str(free_port())
            argv += ["--processes", str(job.workers)]
            argv += ["--master-bind-port", port, "--master-port", port]
        return [
            (
                argv,
                {
                    **_common(job),
                    "BENCH_LISTEN": "1" if self.listen else "",
                    "CLOSED": "" if job.rate else str(job.connections),
                    "RATE": str(job.rate or ""),
                    "ARRIVALS": job.arrivals,
                    "DURATION": str(job.duration_s) if job.rate else "",
                    "HARNESS_RUN_DIR": str(job.folder),
                    "HARNESS_CONNECTION_AGE": "3600" if job.keeps else "",
                },
            )
        ]

    def said(self, job: Job, output: str) -> Said:
        tally = Tallied.read(sorted((job.folder / "tallies").glob("*.jsonl")))
        told = json.loads((job.folder / "told.json").read_text())
        return Said(
            requests=tally.sent,
            failures=tally.not_ok,
            latency_ms=tally.latency_ms(),
            more={
                **tally.more(),
                "locust_requests": told["requests"],
                "events": told["events"],
                "wrong": told["wrong"],
            },
        )


@dataclass(frozen=True)
class Tasks:
    """Plain Locust tasks on a base class: each user waits for its answer."""

    name: str
    base: str
    can_be_told: ClassVar[bool] = True

    def can(self, job: Job) -> bool:
        if self.base == "http" and job.workload not in ("small", "mix"):
            return False
        return job.workers == 1 and (job.rate is None or job.per_user > 0)

    def commands(self, job: Job) -> list[tuple[list[str], Mapping[str, str]]]:
        users = str(job.connections)
        at_once = str(min(job.connections, 3000))
        argv = [*_locust("tasks.py", job), "-u", users, "-r", at_once]
        if job.rate:
            # Locust takes whole seconds.
            argv += ["-t", f"{round(job.duration_s)}s"]
        more = {"BENCH_BASE": self.base, "BENCH_PER_USER": str(job.per_user or "")}
        return [(argv, {**_common(job), **more})]

    def said(self, job: Job, output: str) -> Said:
        told = json.loads((job.folder / "told.json").read_text())
        return Said(
            requests=told["requests"],
            failures=max(told["failures"], told["wrong"]),
            uncounted_max=job.connections,
            latency_ms={k: told[f"{k}_ms"] for k in ("p50", "p95", "p99", "max")},
            more={"events": told["events"], "wrong": told["wrong"]},
        )


def _locust(file: str, job: Job) -> list[str]:
    argv = [sys.executable, "-m", "locust", "-f", str(TRAFFIC / file)]
    return [*argv, "--headless", "--only-summary", "--host", job.url]


def _common(job: Job) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(REPO), os.environ.get("PYTHONPATH", ""))))
    return {
        "PYTHONPATH": path,
        "BENCH_WORKLOAD": job.workload,
        "BENCH_TOLD": str(job.folder / "told.json"),
        # Ours verifies who it talks to; the others are made not to.
        "SSL_CERT_FILE": str(job.certificate or ""),
    }


@dataclass
class Tallied:
    """The tallies of one run, its workers added up."""

    planned: int = 0
    sent: int = 0
    not_sent: int = 0
    in_flight: int = 0
    not_ok: int = 0
    #: outcome and error of all that did not go well → how many
    why: Counter[str] = field(default_factory=Counter)
    start_t: float = 0.0
    latency: histogram.Histogram = field(default_factory=dict)
    service: histogram.Histogram = field(default_factory=dict)
    lateness: histogram.Histogram = field(default_factory=dict)

    @classmethod
    def read(cls, files: Iterable[Path]) -> Tallied:
        """Raises ValueError for a tally without its end."""
        whole = cls()
        for file in files:
            ended = False
            for line in map(json.loads, file.read_text().splitlines()):
                whole._take(line)
                ended |= line["kind"] == "tally.end"
            if not ended:
                raise ValueError(f"{file.name} has no end")
        return whole

    def _take(self, line: dict[str, Any]) -> None:
        if line["kind"] == "tally.start":
            self.start_t = line["start_t"]
        elif line["kind"] == "tally.end":
            for name in ("planned", "sent", "not_sent", "in_flight"):
                setattr(self, name, getattr(self, name) + line[name])
        elif line["kind"] == "tally":
            self.lateness = _sum(self.lateness, line["lateness"])
            for second in line["seconds"].values():
                for cell in second["cells"]:
                    if cell["outcome"] != "ok":
                        self.why[f"{cell['outcome']} {cell['error']}".strip()] += cell["n"]
                    if cell["outcome"] != "not_sent":
                        self.latency = _sum(self.latency, cell["latency"])
                        self.service = _sum(self.service, cell["service"])
                        self.not_ok += cell["n"] if cell["outcome"] != "ok" else 0

    def latency_ms(self) -> dict[str, float]:
        return quantiles_ms(self.latency)

    def more(self) -> dict[str, Any]:
        return {
            "planned": self.planned,
            "sent": self.sent,
            "not_sent": self.not_sent,
            "in_flight": self.in_flight,
            "start_t": self.start_t,
            "why": dict(self.why),
            "lateness_ms": quantiles_ms(self.lateness),
            "service_ms": quantiles_ms(self.service),
        }


def quantiles_ms(counts: Mapping[int, int]) -> dict[str, float]:
    """p50, p95, p99 and max, each the middle of its bucket."""
    found = {}
    for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
        interval = histogram.quantile_us(counts, q)
        if interval is not None:
            found[name] = round((interval.low + interval.high) / 2000, 4)
    return found


def _sum(counts: histogram.Histogram, more: Mapping[str, int]) -> histogram.Histogram:
    for index, n in histogram.from_json(more).items():
        counts[index] = counts.get(index, 0) + n
    return counts


# ---- others ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wrk:
    """wrk; with ``paced``, wrk2, which sends at a rate."""

    program: Program
    name: str = "wrk"
    paced: bool = False
    can_be_told: ClassVar[bool] = False

    def can(self, job: Job) -> bool:
        # Its script copies an upload's body for each request: a mix of its own would cost more
        # than it must. See scenarios.weighted.
        return only(job.workload) is not None and bool(job.rate) == self.paced

    def commands(self, job: Job) -> list[tuple[list[str], Mapping[str, str]]]:
        argv = [str(self.program.path), "-t1", f"-c{job.connections}"]
        argv += [f"-d{max(1, round(job.duration_s))}s", "--latency"]
        if self.paced:
            argv += [f"-R{job.rate:.0f}"]
        request = only(job.workload)
        if request is not None and request.body_bytes:
            script = job.folder / "put.lua"
            script.write_text(
                f'wrk.method = "{request.method}"\n'
                f'wrk.body = string.rep("z", {request.body_bytes})\n'
            )
            argv += ["-s", str(script)]
        return [([*argv, job.address()], self.program.environment)]

    def said(self, job: Job, output: str) -> Said:
        found = re.search(r"(\d+) requests in", output)
        if found is None:
            raise ValueError(output[-300:])
        wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
        errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
        failures = (int(wrong[1]) if wrong else 0) + (
            sum(map(int, errors.groups()[:3])) if errors else 0
        )
        latency = {
            f"p{int(float(p))}" if float(p) < 100 else "max": float(value) * _UNIT_MS[unit]
            for p, value, unit in re.findall(r"(\d+(?:\.\d+)?)%\s+([\d.]+)(us|ms|s|m)\b", output)
        }
        if "max" not in latency:
            top = re.search(r"Latency\s+\S+\s+\S+\s+([\d.]+)(us|ms|s|m)\b", output)
            if top:
                latency["max"] = float(top[1]) * _UNIT_MS[top[2]]
        return Said(int(found[1]), failures, job.connections, latency)


_UNIT_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class H2load:
    """h2load, made to speak HTTP/1.1."""

    program: Program
    name: str = "h2load"
    can_be_told: ClassVar[bool] = False

    def can(self, job: Job) -> bool:
        return only(job.workload) is not None and job.rate is None

    def commands(self, job: Job) -> list[tuple[list[str], Mapping[str, str]]]:
        argv = [str(self.program.path), "--h1", "-t1", f"-c{job.connections}"]
        argv += [f"--duration={max(1, round(job.duration_s))}"]
        request = only(job.workload)
        if request is not None and request.body_bytes:
            argv += ["-d", str(job.body), "-H", f":method: {request.method}"]
        return [([*argv, job.address()], self.program.environment)]

    def said(self, job: Job, output: str) -> Said:
        found = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", output)
        if found is None:
            raise ValueError(output[-300:])
        return Said(int(found[1]), int(found[3]) + int(found[4]), job.connections)


@dataclass(frozen=True)
class Hey:
    """hey; a rate is shared among its workers (``-q``)."""

    program: Program
    name: str = "hey"
    can_be_told: ClassVar[bool] = False

    def can(self, job: Job) -> bool:
        return only(job.workload) is not None

    def commands(self, job: Job) -> list[tuple[list[str], Mapping[str, str]]]:
        argv = [str(self.program.path), "-z", f"{job.duration_s:g}s", "-c", str(job.connections)]
        argv += ["-cpus", "1"]
        if job.rate:
            argv += ["-q", f"{job.rate / job.connections:g}"]
        request = only(job.workload)
        if request is not None and request.body_bytes:
            argv += ["-m", request.method, "-D", str(job.body)]
        return [([*argv, job.address()], self.program.environment)]

    def said(self, job: Job, output: str) -> Said:
        statuses = {int(s): int(n) for s, n in re.findall(r"\[(\d{3})\]\s+(\d+) responses", output)}
        if not statuses:
            raise ValueError(output[-300:])
        latency = {
            f"p{p}": float(value) * 1000
            for p, value in re.findall(r"(\d+)%+ in ([\d.]+) secs", output)
        }
        slowest = re.search(r"Slowest:\s+([\d.]+)", output)
        if slowest:
            latency["max"] = float(slowest[1]) * 1000
        # Requests cut off at the end are errors to it; it was told to stop.
        return Said(
            sum(statuses.values()),
            sum(n for status, n in statuses.items() if status != 200),
            job.connections,
            latency,
        )


@dataclass(frozen=True)
class Vegeta:
    """vegeta; closed with as many workers as connections and no rate."""

    program: Program
    name: str = "vegeta"
    can_be_told: ClassVar[bool] = False

    def can(self, job: Job) -> bool:
        return job.workers == 1 and not job.per_user

    def commands(self, job: Job) -> list[tuple[list[str], Mapping[str, str]]]:
        targets = job.folder / "targets.txt"
        targets.write_text("\n".join(_vegeta_targets(job)))
        argv = [str(self.program.path), "attack", f"-targets={targets}", "-insecure"]
        argv += [f"-duration={job.duration_s:g}s", f"-output={job.folder / 'results.bin'}"]
        argv += [f"-connections={job.connections}", f"-workers={job.connections}"]
        argv += [f"-rate={job.rate:.0f}"] if job.rate else ["-rate=0"]
        if not job.rate:
            argv += [f"-max-workers={job.connections}"]
        return [(argv, self.program.environment)]

    def said(self, job: Job, output: str) -> Said:
        import subprocess

        results = str(job.folder / "results.bin")
        done = subprocess.run(
            [str(self.program.path), "report", "-type=json", results],
            capture_output=True,
            timeout=120,
            check=False,
        )
        report = json.loads(done.stdout)
        latency = {k: report["latencies"][f"{n}"] / 1e6 for k, n in _VEGETA_NAMES.items()}
        ok = report["status_codes"].get("200", 0)
        return Said(report["requests"], report["requests"] - ok, job.connections, latency)


_VEGETA_NAMES = {"p50": "50th", "p95": "95th", "p99": "99th", "max": "max"}


def _vegeta_targets(job: Job) -> list[str]:
    """Targets in turn, each as often as its share of ten."""
    shares = WORKLOADS[job.workload]
    least = min(shares.values())
    lines = []
    for request, share in shares.items():
        body = f"@{job.body}\n" if request.body_bytes else ""
        lines += [f"{request.method} {job.url}{request.path}\n{body}"] * (share // least)
    return lines


_K6_SCRIPT = """
import http from 'k6/http';
const requests = {requests};
const body = 'z'.repeat({body_bytes});
const total = requests.reduce((sum, r) => sum + r.share, 0);
export const options = {{
  insecureSkipTLSVerify: true, discardResponseBodies: true, summaryTrendStats:
  ['med', 'p(95)', 'p(99)', 'max'], scenarios: {{ bench: {scenario} }},
}};
export default function () {{
  let left = Math.random() * total;
  const r = requests.find(r => (left -= r.share) < 0) || requests[0];
  http.request(r.method, r.url, r.body ? body : null);
}}
export function handleSummary(data) {{ return {{ {out}: JSON.stringify(data) }}; }}
"""


@dataclass(frozen=True)
class K6:
    """k6, with a script."""

    program: Program
    name: str = "k6"
    can_be_told: ClassVar[bool] = False

    def can(self, job: Job) -> bool:
        return job.workers == 1 and not job.per_user

    def commands(self, job: Job) -> list[tuple[list[str], Mapping[str, str]]]:
        duration = f"{job.duration_s:g}s"
        scenario: dict[str, Any] = {
            "executor": "constant-vus",
            "vus": job.connections,
            "duration": duration,
        }
        if job.rate:
            scenario = {
                "executor": "constant-arrival-rate",
                "rate": round(job.rate),
                "timeUnit": "1s",
                "duration": duration,
                "preAllocatedVUs": job.connections,
                "maxVUs": 2500,
            }
        requests = [
            {
                "method": r.method,
                "url": job.url + r.path,
                "share": share,
                "body": bool(r.body_bytes),
            }
            for r, share in WORKLOADS[job.workload].items()
        ]
        script = job.folder / "script.js"
        script.write_text(
            _K6_SCRIPT.format(
                requests=json.dumps(requests),
                body_bytes=UPLOAD.body_bytes,
                scenario=json.dumps(scenario),
                out=json.dumps(str(job.folder / "summary.json")),
            )
        )
        return [([str(self.program.path), "run", "--quiet", str(script)], self.program.environment)]

    def said(self, job: Job, output: str) -> Said:
        metrics = json.loads((job.folder / "summary.json").read_text())["metrics"]
        times = metrics["http_req_duration"]["values"]
        failed = metrics.get("http_req_failed", {}).get("values", {}).get("passes", 0)
        names = {"p50": "med", "p95": "p(95)", "p99": "p(99)", "max": "max"}
        return Said(
            int(metrics["http_reqs"]["values"]["count"]),
            int(failed),
            job.connections,
            {name: times[of] for name, of in names.items()},
        )


@dataclass(frozen=True)
class Autocannon:
    """autocannon, of npm."""

    program: Program
    name: str = "autocannon"
    can_be_told: ClassVar[bool] = False

    def can(self, job: Job) -> bool:
        return only(job.workload) is not None

    def commands(self, job: Job) -> list[tuple[list[str], Mapping[str, str]]]:
        argv = [str(self.program.path), "-j", "-c", str(job.connections)]
        argv += ["-d", str(max(1, round(job.duration_s)))]
        if job.rate:
            argv += ["-R", f"{job.rate:.0f}"]
        request = only(job.workload)
        if request is not None and request.body_bytes:
            argv += ["-m", request.method, "-i", str(job.body)]
        environment = {**self.program.environment, "NODE_TLS_REJECT_UNAUTHORIZED": "0"}
        return [([*argv, job.address()], environment)]

    def said(self, job: Job, output: str) -> Said:
        line = next((x for x in output.splitlines() if x.startswith("{")), "")
        if not line:
            raise ValueError(output[-300:])
        report = json.loads(line)
        latency = {
            "p50": report["latency"]["p50"],
            "p95": report["latency"]["p97_5"],
            "p99": report["latency"]["p99"],
            "max": report["latency"]["max"],
        }
        failures = report["errors"] + report["non2xx"]
        return Said(report["requests"]["total"], failures, job.connections, latency)


OURS: tuple[Contestant, ...] = (
    Declared("engine"),
    Declared("event", listen=True),
    Tasks("full", "harness"),
)
STOCK: tuple[Contestant, ...] = (
    Tasks("fast", "fast"),
    Tasks("http", "http"),
)


def others(found: Mapping[str, Program]) -> list[Contestant]:
    """The contestants whose program was found."""
    make = {
        "wrk": Wrk,
        "wrk2": lambda program: Wrk(program, "wrk2", paced=True),
        "h2load": H2load,
        "hey": Hey,
        "vegeta": Vegeta,
        "k6": K6,
        "autocannon": Autocannon,
    }
    return [make[name](program) for name, program in found.items()]
