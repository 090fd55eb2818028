"""What is kept of a judged run: enough to compare later ones with it, and nothing to judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.evidence.model import Evidence
from harness.plan.model import Plan, Recovery
from harness.verdict.case import Case
from harness.verdict.model import Outcome, Verdict
from harness.verdict.recovery import outages

#: Figures of a phase that are kept, by their place among the client's figures of a verdict.
FIGURES = ("planned", "availability", "error_rate", "p50", "p95", "p99")


@dataclass(frozen=True)
class Repair:
    """A failure that was made, and in how many seconds the service was good again; ``high_s`` is
    None where it was not as long as it was watched."""

    fault: str
    low_s: float
    high_s: float | None


@dataclass(frozen=True)
class Figure:
    """One figure of one phase, somewhere in ``[low, high]``: a count, a share, or seconds."""

    phase: str
    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Judged:
    """One finding, by its outcome."""

    objective: str
    phase: str
    outcome: str


@dataclass(frozen=True)
class Record:
    """One run. ``complete``: no evidence was missing; ``traffic``: its rate in words.

    ``failures`` is how often the service stopped being good in the ``watched_s`` seconds in
    which nothing was done to it.
    """

    id: str
    plan: str
    plan_sha256: str
    traffic: str
    target: str
    service: str
    simulated: bool
    run: str
    folder: str
    started_t: float
    ended_t: float
    outcome: str
    exit_status: int
    complete: bool
    watched_s: int
    failures: int
    repairs: tuple[Repair, ...]
    figures: tuple[Figure, ...]
    findings: tuple[Judged, ...]

    def to_json(self) -> dict[str, Any]:
        """What a later run's ``plan.json`` says of this one; its findings are left out."""
        return {key: value for key, value in asdict(self).items() if key != "findings"}


def record_of(plan: Plan, evidence: Evidence, verdict: Verdict, folder: str) -> Record:
    """What to keep of a run: from its evidence, so that it can be told again at any time."""
    case = Case(plan, evidence)
    spans = [span for span in evidence.phases if span.end_t is not None]
    started_t = plan.recorded.get("started_t")
    if not isinstance(started_t, (int, float)):
        started_t = spans[0].start_t if spans else 0.0
    watched_s, failures = _by_itself(case)
    return Record(
        id=f"{plan.name}/{evidence.run}@{started_t:.3f}",
        plan=plan.name,
        plan_sha256=plan.sha256,
        traffic=plan.traffic.rate_words,
        target=str(case.target.get("name") or plan.target.service),
        service=plan.target.service,
        simulated=case.target.get("simulated") is True,
        run=evidence.run,
        folder=folder,
        started_t=float(started_t),
        ended_t=float(spans[-1].end_t or started_t) if spans else float(started_t),
        outcome=str(verdict.outcome),
        exit_status=int(verdict.exit_status),
        complete=any(
            f.objective == "evidence complete" and f.outcome is Outcome.PASS
            for f in verdict.findings
        ),
        watched_s=watched_s,
        failures=failures,
        repairs=tuple(_repairs(plan, verdict)),
        figures=tuple(_figures(verdict)),
        findings=tuple(Judged(f.objective, f.phase, str(f.outcome)) for f in verdict.findings),
    )


def _by_itself(case: Case) -> tuple[int, int]:
    """Seconds in which nothing was done to the service, and how often it failed in them."""
    watched_s = failures = 0
    for phase in case.plan.phases:
        if phase.kind in ("baseline", "cool-down"):
            seconds = case.seconds(phase.name)
            known_s, found = outages(case, seconds)
            watched_s += known_s
            failures += found
    return watched_s, failures


def _repairs(plan: Plan, verdict: Verdict) -> Iterator[Repair]:
    """Every recovery that is known; one that was never needed is none."""
    texts = {o.text for o in plan.objectives if isinstance(o, Recovery)}
    seen: set[str] = set()
    for finding in verdict.findings:
        fault, measured = finding.phase.partition(":")[2], finding.measured
        if finding.objective not in texts or finding.outcome is Outcome.UNKNOWN:
            continue
        if measured is None or measured.low is None or measured.high == 0 or fault in seen:
            continue
        seen.add(fault)
        yield Repair(fault, max(0.0, measured.low), measured.high)


def _figures(verdict: Verdict) -> Iterator[Figure]:
    for phase in verdict.phases:
        client = phase.get("client")
        if not isinstance(client, Mapping):
            continue
        said = {**client, **(client.get("latency_s") or {})}
        for name in FIGURES:
            value = said.get(name)
            if value is not None:
                low, high = (value, value) if isinstance(value, int) else value
                yield Figure(str(phase["phase"]), name, float(low), float(high))
