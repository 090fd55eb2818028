"""A small game day in memory: a service at 50 arrivals a second loses a pod, a zone and its
primary region and comes back each time. Every switch is one way for the day to go wrong.

Offsets are seconds after ``T0``. Phases begin on whole seconds and a fault is made half a
second into its phase; everything else is in :data:`STORY`, so a test can say what it expects.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.evidence import histogram
from harness.evidence.journal import END
from harness.evidence.lines import sequence_gaps
from harness.evidence.model import (
    Event,
    Evidence,
    Lateness,
    LedgerEntry,
    Readback,
    Series,
    SeriesLine,
    TallyCell,
    TallySecond,
    WorkerTally,
)
from harness.evidence.run import evidence_from
from harness.plan.model import Plan
from harness.plan.reader import parse_plan

T0 = 1_700_000_000
RATE = 50
EAST, WEST = "us-east-1", "us-west-2"
A, B, C = "us-east-1a", "us-east-1b", "us-west-2a"
REPO = Path(__file__).resolve().parents[2]
PLAN = """\
version: 1
name: small
description: Lose a pod, a zone and the primary region.
target: {service: "http://files.lab:8080", primary: us-east-1, standby: us-west-2}
traffic:
  locustfile: locustfiles/mixed.py
  rate: 50/s
  arrivals: even
  seed: 7
  mix: {download: 48, upload: 2}
  timeout: 5s
baseline: 40s
faults:
  - {name: pod, experiment: experiments/pods/kill-file-pods.json, hold: 5s, recovery: 6s}
  - {name: zone, experiment: experiments/zones/lose-us-east-1a.json, hold: 15s, recovery: 10s}
  - {name: region, experiment: experiments/region/lose-us-east-1.json, hold: 20s, recovery: 20s}
cool_down: 10s
objectives:
  - availability: at least 99.9 %
    in: [baseline, "recovery:region", cool-down]
  - availability: at least 75 %
    in: ["fault:zone", "fault:region"]
  - latency: p95 below 200ms
    in: [baseline, "recovery:pod", cool-down]
  - error rate: below 1 %
    in: [baseline, cool-down]
  - throughput: at least 95 % of planned
    in: [baseline, cool-down]
  - recovery: within 8s
    of: [pod, zone, region]
  - failover: within 12s
    of: [region]
  - failback: within 12s
    of: [region]
  - durability: no upload lost or altered
    rpo: 5s
    of: [region]
  - agreement: client and Prometheus within 2 %
    in: [baseline]
"""
#: phase → offsets of its start and end
PHASES = {
    "baseline": (0, 40),
    "fault:pod": (40, 45),
    "recovery:pod": (45, 51),
    "fault:zone": (51, 66),
    "recovery:zone": (66, 76),
    "fault:region": (76, 96),
    "recovery:region": (96, 116),
    "cool-down": (116, 126),
}
LAST = 126
TARGETS = {"pod": "file-1 uid-1", "zone": "subnet-a", "region": "subnet-a subnet-b"}
OBSERVERS = ("dns", "health_check", "targets", "databases", "pods", "nodes")


@functools.cache
def plan(*changes: tuple[str, str]) -> Plan:
    """The plan above with each ``(old, new)`` replaced in its text."""
    text = PLAN
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return parse_plan(text, REPO / "small.yaml")


@dataclass
class Day:
    """The day as it went; change a switch, or what :meth:`build` filled in, then judge."""

    dns_fails_over: bool = True
    db_promoted: bool = True
    pods_replaced: bool = True
    balancer_turns_away: bool = True
    landed: bool = True
    undone: bool = True
    stopped: str | None = None
    #: offsets of more seconds in which nothing succeeds
    outage: range = range(0)
    latency_s: float = 0.010
    late_s: float = 0.0005

    events: list[Event] = field(default_factory=list)
    seconds: dict[int, TallySecond] = field(default_factory=dict)
    ledger: list[LedgerEntry] = field(default_factory=list)
    readbacks: dict[str, Readback] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    tally_end: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self._conductor()
        self._chaos()
        self._observers()
        self._marks()
        for offset in range(LAST):
            self._second(offset)
        planned = RATE * LAST
        self.tally_end = {"planned": planned, "sent": planned, "not_sent": 0, "in_flight": 0}
        self.series["gateway_requests"] = self._requests()

    # ---- what is said ----------------------------------------------------------------------

    def say(self, source: str, offset: float, kind: str, **data: Any) -> None:
        seq = sum(1 for event in self.events if event.source == source)
        line = len(self.events) + 1
        self.events.append(Event(source, seq, T0 + offset, offset, kind, data, line))

    def see(self, observer: str, offset: float, subject: str, value: Any) -> None:
        self.say(
            f"watch/{observer}",
            offset,
            "sighting",
            subject=subject,
            value=value,
            uncertainty_s=0.25,
        )

    def _conductor(self) -> None:
        self.say("conductor", -2, "run.start", run="r", plan="small", observers=list(OBSERVERS))
        for name, (start, end) in PHASES.items():
            fault = name.partition(":")[2] or None
            self.say("conductor", start, "phase.start", phase=name, fault=fault)
            self.say("conductor", end, "phase.end", phase=name, fault=fault)
        self.say("conductor", LAST + 3, "run.end", stopped=self.stopped)
        self.say("load", -1, "load.start", workers=1, rate=RATE)
        self.say("load", LAST + 1, "load.end", exit_code=0, workers_ended=1)

    def _chaos(self) -> None:
        for fault, target in TARGETS.items():
            start, end = PHASES[f"fault:{fault}"]
            source, undo = f"chaos/{fault}", f"{fault}-1"
            self.say("chaos-driver", start, "experiment.start", fault=fault)
            self.say("chaos-driver", end, "experiment.end", fault=fault, outcome="passed")
            self.say(
                source,
                start + 0.5,
                "fault.start",
                fault=fault,
                action=f"lose_{fault}",
                targets=[target],
                undo=undo,
            )
            made = {"call_start_t": T0 + start + 0.5, "call_end_t": T0 + start + 0.55}
            self.say(source, start + 0.55, "fault.made", fault=fault, **made)
            self.say(source, start + 0.6, "fault.readback", fault=fault, holds=self.landed)
            self.say(source, end - 0.4, "undo.start", fault=fault, undo=undo)
            self.say(source, end - 0.3, "undo.done", fault=fault, undo=undo)
            self.say(
                source, end - 0.2, "undo.readback", fault=fault, undo=undo, restored=self.undone
            )

    def _observers(self) -> None:
        for observer in OBSERVERS:
            self.say(f"watch/{observer}", -1.5, "watch.start", observer=observer, period_s=0.25)
            for offset in range(0, LAST + 3, 5):
                self.say(f"watch/{observer}", offset, "watch.beat", polls=20, errors=0)
        pods, file_a = "pods", f"pods:{A}/file"
        both, one = ["uid-1", "uid-2"], ["uid-2"]
        self.see(pods, -1, file_a, {"ready": 2, "total": 2, "uids": both})
        self.see(pods, 41, file_a, {"ready": 1, "total": 1, "uids": one})
        if self.pods_replaced:
            self.see(pods, 44, file_a, {"ready": 2, "total": 2, "uids": ["uid-2", "uid-3"]})
        for zone in (A, B, C):
            self.see("targets", -1, f"targets:{zone}", {"healthy": 2, "total": 2})
            self.see("nodes", -1, f"nodes:{zone}", {"ready": 2, "total": 2})
        self.see("nodes", 53, f"nodes:{A}", {"ready": 0, "total": 2})
        self.see("nodes", 67, f"nodes:{A}", {"ready": 2, "total": 2})
        if self.balancer_turns_away:
            self.see("targets", 53.5, f"targets:{A}", {"healthy": 0, "total": 2})
            self.see("targets", 67, f"targets:{A}", {"healthy": 2, "total": 2})
        self._database_and_dns()

    def _database_and_dns(self) -> None:
        def database(offset: float, name: str, role: str, zone: str) -> None:
            self.see("databases", offset, f"db:{name}", {"role": role, "zone": zone})

        database(-1, "files", "primary", A)
        database(-1, "files-west", "replica", C)
        database(57, "files", "primary", B)
        if self.db_promoted:
            database(80.5, "files-west", "primary", C)
            database(97, "files-west", "replica", C)
        dns, check = "dns:files.lab", f"health_check:{EAST}"
        self.see("dns", -1, dns, [EAST])
        for offset, value in ((-1, "healthy"), (78.5, "unhealthy"), (97, "healthy")):
            self.see("health_check", offset, check, value)
        if self.dns_fails_over:
            self.see("dns", 79.5, dns, [WEST])
            self.see("dns", 98.5, dns, [EAST])

    def _marks(self) -> None:
        self.say("load/w0", 0.1, "mark.region", **{"from": "", "to": EAST})
        if self.dns_fails_over:
            self.say("load/w0", 80.1, "mark.region", **{"from": EAST, "to": WEST})
            if self.db_promoted:
                self.say("load/w0", 81.1, "mark.first_write", region=WEST)
            self.say("load/w0", 99.1, "mark.region", **{"from": WEST, "to": EAST})

    # ---- what traffic saw --------------------------------------------------------------------

    def served_by(self, offset: int) -> tuple[str, ...]:
        """Zones that serve, each an equal share; an empty one stands for failures."""
        if offset in self.outage:
            return ("",)
        if 52 <= offset < (54 if self.balancer_turns_away else 66):
            return (B, "")
        if 54 <= offset < 68:
            return (B,)
        if 77 <= offset < (80 if self.dns_fails_over else 96):
            return ("",)
        if 80 <= offset < 99 and self.dns_fails_over:
            return (C,)
        return (A, B)

    def _second(self, offset: int) -> None:
        zones = self.served_by(offset)
        cells = [self.cell("download", zone, 48 // len(zones)) for zone in zones]
        writable = self.db_promoted or zones != (C,)
        cells.append(self.cell("upload", zones[0] if writable else "", 2))
        self.seconds[offset] = TallySecond(T0 + offset, RATE, tuple(cells))
        self._upload(offset, zones[0][:-1] if writable else "")

    def cell(self, op: str, zone: str, n: int, *, error: str = "timeout") -> TallyCell:
        latency = {histogram.index_of(int(self.latency_s * 1e6)): n}
        below = {"0.2": n if self.latency_s <= 0.2 else 0}
        if not zone:
            return TallyCell(op, "", "", "failed", error, n, 0, {}, {}, {})
        return TallyCell(op, zone[:-1], zone, "ok", "", n, 9, latency, latency, below)

    def _upload(self, offset: int, region: str) -> None:
        for half in ("", "b"):
            self._stored(f"obj-{offset:03}{half}", T0 + offset + 0.25, region)

    def _stored(self, name: str, t: float, region: str) -> None:
        outcome, ack_t = ("acked", t + 0.01) if region else ("failed", None)
        self.ledger.append(
            LedgerEntry("write", name, "upload", "ab", 9, t, outcome, ack_t, region, t + 0.01)
        )
        if region:
            self.readbacks[name] = Readback(name, "present", EAST, "")

    def _requests(self) -> Series:
        """The gateways' counters, scraped 0.3 s into each second."""
        points: dict[str, list[tuple[float, str]]] = {A: [], B: [], C: []}
        counted = dict.fromkeys(points, 0)
        for offset in range(-1, LAST + 3):
            for zone in points:
                # Scraped when three tenths of the second's answers have been given.
                cells = self.seconds[offset].cells if offset in self.seconds else ()
                begun = round(0.3 * sum(cell.n for cell in cells if cell.zone == zone))
                points[zone].append((T0 + offset + 0.3, str(counted[zone] + begun)))
            second = self.seconds.get(offset)
            for cell in second.cells if second else ():
                if cell.zone:
                    counted[cell.zone] += cell.n
        lines = tuple(counter(zone, points[zone]) for zone in points)
        return Series(
            name="gateway_requests",
            query="http_requests_total",
            step_s=1.0,
            start=T0 - 1.0,
            end=T0 + LAST + 3.0,
            status="success",
            warnings=(),
            fetched_t=T0 + LAST + 4.0,
            error="",
            result=lines,
        )

    # ---- changes a test makes ------------------------------------------------------------------

    def without(self, wrong: Callable[[Event], bool]) -> Day:
        """The day with some events never written (their numbers are not missing)."""
        kept = [event for event in self.events if not wrong(event)]
        self.events = []
        for event in kept:
            self.say(event.source, event.t - T0, event.kind, **event.data)
        return self

    def read_back(self, name: str, result: str) -> Day:
        self.readbacks[name] = Readback(name, result, EAST, "")
        return self

    def change_requests(self, **changes: Any) -> Day:
        found = self.series["gateway_requests"]
        self.series["gateway_requests"] = dataclasses.replace(found, **changes)
        return self

    def change_points(
        self, change: Callable[[float, float], str | None], lines: tuple[int, ...] = (0, 1, 2)
    ) -> Day:
        """Each point ``(offset, value)`` of some counters becomes the text given, or is lost."""
        result = list(self.series["gateway_requests"].result)
        for index in lines:
            changed = [(t, change(t - T0, float(v))) for t, v in result[index].points]
            points = tuple((t, v) for t, v in changed if v is not None)
            result[index] = dataclasses.replace(result[index], points=points)
        return self.change_requests(result=tuple(result))

    # ---- as evidence -----------------------------------------------------------------------------

    def lines(self) -> list[Event]:
        """The history with every source's closing line."""
        ends = []
        for source in sorted({event.source for event in self.events}):
            n = sum(1 for event in self.events if event.source == source)
            ends.append(Event(source, n, T0 + LAST + 3.0, 0.0, END, {"count": n}, 0))
        return [*self.events, *ends]

    def evidence(self, lines: list[Event] | None = None) -> Evidence:
        lines = self.lines() if lines is None else lines
        late = histogram.index_of(int(self.late_s * 1e6))
        tally = WorkerTally(
            worker="w0",
            start={"worker": "w0", "rate": RATE, "start_t": T0 + 0.0},
            seconds=tuple(self.seconds.values()),
            lateness=tuple(
                Lateness(T0 + offset + 1.0, {late: second.planned})
                for offset, second in self.seconds.items()
            ),
            end=self.tally_end,
        )
        history = sorted((e for e in lines if e.kind != END), key=lambda e: (e.t, e.line))
        return evidence_from(
            run="r",
            events=history,
            tallies=[tally],
            ledger=self.ledger,
            readbacks=list(self.readbacks.values()),
            series=self.series,
            gaps=sequence_gaps(lines, "history.jsonl"),
        )


def counter(zone: str, points: list[tuple[float, str]]) -> SeriesLine:
    """One pod's counter of downloads answered with 200."""
    labels = {"op": "download", "code": "200", "instance": f"gateway-{zone}", "zone": zone}
    return SeriesLine(labels, tuple(points))
