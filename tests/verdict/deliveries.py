"""A small day on which one version is delivered: scripted sightings, traffic and counters.

Offsets are seconds after ``T0``. The version is delivered half a second into its phase and taken
back at its end; a test changes the script, then judges.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.evidence import histogram
from harness.evidence.journal import END
from harness.evidence.lines import sequence_gaps
from harness.evidence.model import (
    Event,
    Evidence,
    Lateness,
    Series,
    SeriesLine,
    TallyCell,
    TallySecond,
    WorkerTally,
)
from harness.evidence.run import evidence_from
from harness.plan.model import Plan
from harness.plan.reader import parse_plan
from tests.verdict.build import REPO, T0

RATE = 100
#: where the delivery and its end lie
MADE, TAKEN_BACK, END_OF_RECOVERY = 20.5, 60, 80
OLD, NEW = "aaaa", "bbbb"
OLD_PODS = ["gateway-aaaa-1", "gateway-aaaa-2"]
NEW_PODS = ["gateway-bbbb-1"]
ROLLOUT, DEPLOYMENT = "rollout:us-east-1a/gateway", "deployment:us-east-1a/file"
OBSERVER = "watch/deliveries-us-east-1a"
PLAN = """\
version: 1
name: delivery
description: A version is delivered.
target: {service: "http://files.lab:8080", primary: us-east-1, standby: us-west-2}
traffic:
  locustfile: locustfiles/mixed.py
  rate: 100/s
  arrivals: even
  seed: 7
  mix: {download: 1}
  timeout: 5s
baseline: 20s
faults:
  - {name: new, experiment: experiments/delivery/bad-canary-errors.json, hold: 40s, recovery: 20s}
objectives:
  - availability: at least 99 %
    in: ["fault:new"]
  - OBJECTIVE
    of: [new]
"""


def plan(objective: str) -> Plan:
    return parse_plan(PLAN.replace("OBJECTIVE", objective), REPO / "delivery.yaml")


def rollout(**changes: Any) -> dict[str, Any]:
    """A Rollout at rest, changed so."""
    value = {
        "strategy": "canary",
        "observed": True,
        "phase": "Healthy",
        "message": None,
        "abort": False,
        "step": 2,
        "weight": 0,
        "current": OLD,
        "stable": OLD,
        "active": None,
        "wanted": 2,
        "ready": 2,
        "pods": {OLD: OLD_PODS},
    }
    return {**value, **changes}


def trying(weight: float, **changes: Any) -> dict[str, Any]:
    """A Rollout with the new version up."""
    pods = {OLD: OLD_PODS, NEW: NEW_PODS}
    return rollout(current=NEW, weight=weight, phase="Progressing", pods=pods, **changes)


def bad_canary() -> dict[float, Any]:
    """Tried at 20 % from 26 on, given up at 36; taken back at 60, gone at 66."""
    gone = {"abort": True, "message": "RolloutAborted: it fails"}
    return {
        -1.0: rollout(),
        21.0: trying(0),
        26.0: trying(20),
        36.0: trying(0, **gone),
        61.0: rollout(pods={OLD: OLD_PODS, NEW: NEW_PODS}),
        66.0: rollout(),
    }


def good_canary() -> dict[float, Any]:
    """Tried at 20 % from 26 on, at 50 % from 36, everybody's from 46."""
    done = rollout(current=NEW, stable=NEW, pods={OLD: OLD_PODS, NEW: NEW_PODS})
    return {
        -1.0: rollout(),
        21.0: trying(0),
        26.0: trying(20),
        36.0: trying(50),
        46.0: {**done, "weight": 100},
        61.0: rollout(pods={OLD: OLD_PODS, NEW: NEW_PODS}),
        66.0: rollout(),
    }


def blue_green() -> dict[float, Any]:
    """Up at 30, everybody's at once from 31 on."""
    both = {OLD: OLD_PODS, NEW: NEW_PODS}
    blue = rollout(strategy="blueGreen", weight=None, active=OLD)
    return {
        -1.0: blue,
        21.0: {**blue, "current": NEW},
        30.0: {**blue, "current": NEW, "pods": both},
        31.0: {**blue, "current": NEW, "pods": both, "active": NEW},
        31.5: {**blue, "current": NEW, "pods": both, "active": NEW, "stable": NEW},
        61.0: blue,
    }


def deployment(**changes: Any) -> dict[str, Any]:
    value = {
        "observed": True,
        "revision": "1",
        "wanted": 2,
        "updated": 2,
        "available": 2,
        "total": 2,
        "least": 2,
    }
    return {**value, **changes}


def rolling_update() -> dict[float, Any]:
    """One pod after the other, from 21 to 35."""
    return {
        -1.0: deployment(),
        21.0: deployment(revision="2", updated=1, total=3),
        28.0: deployment(revision="2", updated=2, total=3),
        35.0: deployment(revision="2"),
        61.0: deployment(revision="3"),
    }


@dataclass
class Delivery:
    """``course``: offset → what was seen then. ``weights``: offset → percentage of the requests
    that the new version serves from then on. ``failing``: seconds → arrivals that fail."""

    course: dict[float, Any] = field(default_factory=bad_canary)
    weights: dict[float, float] = field(default_factory=lambda: {26: 20.0, 36: 0.0})
    failing: dict[int, int] = field(default_factory=dict)
    error: str = "500"
    outcome: str = "failed"
    subject: str = ROLLOUT
    uncertainty_s: float = 0.5
    #: offset → uncertainty of that sighting, where it is another
    looked_away: dict[float, float] = field(default_factory=dict)
    #: Prometheus's clock is ahead by that much, which was measured
    ahead_s: float = 0.0
    #: a beat every five seconds, but for these
    silent: range = range(0)
    status: str = "success"
    step_s: float = 1.0
    #: where in each second Prometheus's points lie
    scraped_s: float = 0.0
    #: how long the call that delivers it takes, and when it is taken back
    call_s: float = 0.0
    taken_back: float = TAKEN_BACK
    points: dict[str, dict[int, str]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        counted = dict.fromkeys([*OLD_PODS, *NEW_PODS], 0.0)
        for offset in range(-3, END_OF_RECOVERY + 3):
            weight = [w for at, w in sorted(self.weights.items()) if at < offset] or [0.0]
            counted[NEW_PODS[0]] += RATE * weight[-1] / 100
            for pod in OLD_PODS:
                counted[pod] += RATE * (1 - weight[-1] / 100) / 2
            for pod, value in counted.items():
                if pod in OLD_PODS or offset >= 24:
                    self.points.setdefault(pod, {})[offset] = f"{value:g}"

    def evidence(self) -> Evidence:
        events = list(self._events())
        sources = sorted({source for source, *_ in events})
        for source in sources:
            count = sum(1 for s, *_ in events if s == source)
            events.append((source, END_OF_RECOVERY + 3, END, {"count": count}))
        numbered: list[Event] = []
        for line, (source, offset, kind, data) in enumerate(events, 1):
            seq = sum(1 for event in numbered if event.source == source)
            numbered.append(Event(source, seq, T0 + offset, offset, kind, data, line))
        planned = RATE * END_OF_RECOVERY
        end = {"planned": planned, "sent": planned, "not_sent": 0, "in_flight": 0}
        late = Lateness(float(T0), {histogram.index_of(500): planned})
        start = {"worker": "w0", "rate": RATE}
        return evidence_from(
            run="r",
            events=numbered,
            tallies=[WorkerTally("w0", start, tuple(self._seconds()), (late,), end)],
            ledger=[],
            readbacks=[],
            series={"requests_by_pod": self._series()},
            gaps=sequence_gaps(numbered, "history.jsonl"),
        )

    def _events(self) -> Any:
        observers = [OBSERVER.partition("/")[2]]
        yield "conductor", -2, "run.start", {"run": "r", "observers": observers}
        phases = {"baseline": (0, 20), "fault:new": (20, 60), "recovery:new": (60, 80)}
        for name, (start, end) in phases.items():
            fault = name.partition(":")[2] or None
            yield "conductor", start, "phase.start", {"phase": name, "fault": fault}
            yield "conductor", end, "phase.end", {"phase": name, "fault": fault}
        yield "conductor", END_OF_RECOVERY + 2, "run.end", {"stopped": None}
        yield "load", -1, "load.start", {"workers": 1, "rate": RATE}
        yield "load/w0", 0, "mark.region", {"from": "", "to": "us-east-1"}
        yield "load", END_OF_RECOVERY + 1, "load.end", {"exit_code": 0, "workers_ended": 1}
        yield from self._chaos()
        yield OBSERVER, -1.5, "watch.start", {"observer": observers[0], "period_s": 0.5}
        for offset in range(-1, END_OF_RECOVERY + 3):
            if offset % 5 == 0 and offset not in self.silent:
                yield OBSERVER, offset, "watch.beat", {"polls": 10, "errors": 0}
        for offset, value in sorted(self.course.items()):
            sighting = {"subject": self.subject, "value": value}
            uncertainty_s = self.looked_away.get(offset, self.uncertainty_s)
            yield OBSERVER, offset, "sighting", {**sighting, "uncertainty_s": uncertainty_s}
        if self.ahead_s:
            said = {"subject": "clock:prometheus", "value": self.ahead_s, "uncertainty_s": 0.1}
            yield "watch/clock", -1, "watch.start", {"observer": "clock", "period_s": 10.0}
            yield "watch/clock", -1, "sighting", said
            for offset in range(0, END_OF_RECOVERY + 3, 5):
                yield "watch/clock", offset, "watch.beat", {"polls": 1, "errors": 0}

    def _chaos(self) -> Any:
        source, fault = "chaos/new", {"fault": "new"}
        yield "chaos-driver", 20, "experiment.start", fault
        yield "chaos-driver", 60, "experiment.end", {**fault, "outcome": "passed"}
        start = {"action": "deliver", "targets": [self.subject], "undo": "new-1"}
        yield source, MADE, "fault.start", {**fault, **start}
        made = {"call_start_t": T0 + MADE, "call_end_t": T0 + MADE + self.call_s}
        yield source, MADE, "fault.made", {**fault, **made}
        yield source, MADE, "fault.readback", {**fault, "holds": True}
        for kind in ("undo.start", "undo.done", "undo.readback"):
            data = {"undo": "new-1", "restored": True}
            yield source, self.taken_back, kind, {**fault, **data}

    def _seconds(self) -> Any:
        for offset in range(END_OF_RECOVERY):
            bad = self.failing.get(offset, 0)
            latency = {histogram.index_of(9000): RATE - bad}
            cells = [
                TallyCell(
                    "download", "us-east-1", "us-east-1a", "ok", "", RATE - bad, 9, latency,
                    latency, {},
                )
            ]  # fmt: skip
            if bad:
                zone = ("us-east-1", "us-east-1a")
                how = (self.outcome, self.error)
                cells.append(TallyCell("download", *zone, *how, bad, 0, {}, {}, {}))
            yield TallySecond(T0 + offset, RATE, tuple(cells))

    def _series(self) -> Series:
        begun = T0 + self.scraped_s + self.ahead_s
        lines = tuple(
            SeriesLine(
                {"service": "gateway", "pod": pod},
                tuple((begun + offset, value) for offset, value in sorted(points.items())),
            )
            for pod, points in self.points.items()
        )
        return Series(
            name="requests_by_pod",
            query="sum by (service, pod) (http_requests_total)",
            step_s=self.step_s,
            start=T0 - 3.0,
            end=T0 + END_OF_RECOVERY + 3.0,
            status=self.status,
            warnings=(),
            fetched_t=T0 + END_OF_RECOVERY + 4.0,
            error="",
            result=lines,
        )
