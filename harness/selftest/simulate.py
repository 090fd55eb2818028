"""A plan and a world in, the run folder out that such a day would have left.

The folder is written in the same form as a real run's and read by the same reader, so a case
exercises reading and judging whole.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.evidence.journal import END, text_of
from harness.evidence.seal import SEAL, sealed
from harness.plan.model import Plan
from harness.selftest import deliveries, past
from harness.selftest.course import DELIVERIES, Course, Day
from harness.selftest.degradations import Degradations
from harness.selftest.deliveries import Deliveries
from harness.selftest.observers import BEGINS_S, Line, Observers, Scrapes
from harness.selftest.storage import Storage
from harness.selftest.traffic import Traffic
from harness.selftest.world import Truth, Watch, World

#: Wall and monotonic seconds at which the traffic of every simulated day begins.
T0 = 1_700_000_000.0
M0 = 5_000.0
#: How far a worker's clock may be from the master's.
CLOCK_BOUND_S = 0.05
#: Days of which the requests are kept.
_KEPT = 4


class Simulator:
    """Days of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._sent: dict[World, Traffic] = {}

    def write(self, world: World, folder: Path) -> Truth:
        """Write the run folder of a day; returns when things really happened.

        Raises PlanInvalid for a plan or world of which no day can be made.
        """
        return _Folder(Day(self._plan, world), self._traffic(world), folder).write()

    def _traffic(self, world: World) -> Traffic:
        """The day's requests. Many cases change only what is seen of them, so they are kept."""
        seen = world.as_traffic_sees_it()
        known = self._sent.pop(seen, None)
        if known is None and len(self._sent) == _KEPT:
            self._sent.pop(next(iter(self._sent)))
        # The last used is kept longest.
        self._sent[seen] = known or Traffic(Day(self._plan, seen))
        return self._sent[seen]


class _Folder:
    def __init__(self, day: Day, traffic: Traffic, folder: Path) -> None:
        self.day, self.traffic, self.folder = day, traffic, folder
        self.world = day.world
        self.observers = Observers(day)
        self.deliveries = Deliveries(day)
        self.storage = Storage(day, traffic)
        self.steps = [(day.between(step)[0], step.by_s) for step in self.world.conductor.clock]
        self.workers = [f"w{n}" for n in range(day.world.generator.workers)]

    def write(self) -> Truth:
        for name in ("tallies", "ledger", "series"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        plan = self.day.plan.with_recorded(
            run="simulated",
            target_description=self._target(),
            history={"runs": past.runs(self.day.plan, self.world, T0)},
        )
        (self.folder / "plan.json").write_text(json.dumps(plan.to_json()))
        self._journal("history.jsonl", self._history())
        for number, worker in enumerate(self.workers):
            self._tallies(f"tallies/{worker}.jsonl", number)
            written = self.storage.ledger(T0) if number == 0 else ()
            self._journal(f"ledger/{worker}.jsonl", written, f"ledger/{worker}")
        self._journal("ledger/readback.jsonl", self.storage.readback(), "readback")
        self._series()
        if self.world.conductor.seals:
            (self.folder / SEAL).write_bytes(sealed(self.folder))
        for name in self.world.conductor.tampered:
            path = self.folder / name
            path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
        return self.day.truth()

    def _target(self) -> dict[str, Any]:
        day, (first, _, standby) = self.day, self.day.zones
        return {
            "name": "simulated",
            "simulated": True,
            "service_url": day.plan.target.service,
            "primary": day.primary,
            "standby": day.standby,
            "scrape_interval_s": self.world.prometheus.scrape_s,
            "clusters": [{"name": zone, "zone": zone} for zone in day.zones],
            "databases": {
                "files-db": {"region": day.primary, "zone": first},
                "files-db-west": {"region": day.standby, "zone": standby},
            },
        }

    # ---- journals ------------------------------------------------------------------------

    def _journal(self, name: str, lines: Iterable[Line], *also: str) -> None:
        """Write lines in order of time, numbered by source, each source closed; ``also`` those
        that may have written nothing."""
        watch = self.world.watch
        silent = [(s.source, *self.day.between(s)) for s in watch.silent]
        sources: dict[str, list[str]] = defaultdict(list)
        sources.update({source: [] for source in also if source not in watch.absent})
        written: list[str] = []
        ends_s = self.day.end_s + 3.5
        for at_s, source, kind, data in sorted(lines, key=lambda line: line[0]):
            if source in watch.absent or (silent and _cut(silent, source, at_s)):
                continue
            ends_s = max(ends_s, at_s)
            text = self._text(source, len(sources[source]), at_s, kind, data)
            sources[source].append(text)
            written.append(text)
        for source, mine in sources.items():
            if source in watch.torn and mine:
                written.remove(mine[len(mine) // 2])
            if source not in watch.unclosed and source not in self._killed():
                count = len(mine)
                written.append(self._text(source, count, ends_s, END, {"count": count}))
        (self.folder / name).write_text("".join(f"{text}\n" for text in written))

    def _text(self, source: str, seq: int, at_s: float, kind: str, data: dict[str, Any]) -> str:
        t, m = round(self._wall(at_s), 6), round(M0 + at_s, 6)
        return text_of({"source": source, "seq": seq, "t": t, "m": m, "kind": kind, **data})

    def _wall(self, at_s: float) -> float:
        """What the harness's own clock says then."""
        return T0 + at_s + sum(by_s for from_s, by_s in self.steps if at_s >= from_s)

    def _killed(self) -> tuple[str, ...]:
        """Sources of a worker that was killed: they end without a word."""
        killed = self.world.generator.killed_s is not None
        return ("load/w0", "tally/w0", "ledger/w0") if killed else ()

    # ---- the history -----------------------------------------------------------------------

    def _history(self) -> Iterator[Line]:
        yield from self._conductor()
        yield from self._load()
        for fault in self.day.faults:
            yield from self._chaos(fault)
        yield from self.observers.lines()

    def _conductor(self) -> Iterator[Line]:
        world, plan = self.world.conductor, self.day.plan
        started = {"run": "simulated", "plan": plan.name, "target": "simulated"}
        yield (
            BEGINS_S - 0.5,
            "conductor",
            "run.start",
            {
                **started,
                "observers": self.observers.names,
                "readbacks": [phase.name for phase in plan.phases if phase.fault],
                "sealed": True,
                "receivers": list(self.observers.alerting.receivers),
            },
        )
        for phase in plan.phases:
            if phase.name not in world.skipped:
                start_s, end_s = self.day.spans[phase.name]
                data = {"phase": phase.name, "fault": phase.fault}
                yield start_s, "conductor", "phase.start", data
                yield end_s, "conductor", "phase.end", data
        if world.ends:
            yield self.day.end_s + 3.4, "conductor", "run.end", {"stopped": world.stopped or None}

    def _load(self) -> Iterator[Line]:
        generator, rate = self.world.generator, self.day.plan.traffic.rate
        workers = len(self.workers)
        yield -1.0, "load", "load.start", {"workers": workers, "rate": rate}
        marks = self.traffic.marks
        for at_s, kind, data in marks:
            if generator.killed_s is None or at_s < generator.killed_s:
                yield at_s, "load/w0", kind, data
        for worker in self.workers[1:]:
            yield marks[0][0] + 0.01, f"load/{worker}", *marks[0][1:]
        if workers > 1:
            yield from self._fleet()
        ended = workers - (generator.killed_s is not None)
        data = {"exit_code": 0 if ended == workers else -9, "workers_ended": ended}
        yield self.day.end_s + 2.5, "load", "load.end", data

    def _fleet(self) -> Iterator[Line]:
        generator = self.world.generator
        yield -0.9, "fleet", "fleet.start", {"workers": len(self.workers)}
        for number, worker in enumerate(self.workers):
            yield (
                -0.5,
                "fleet",
                "worker.clock",
                {
                    "worker": worker,
                    "drift_s": generator.drift_s * (-1) ** number,
                    "uncertainty_s": generator.drift_uncertainty_s,
                    "bound_s": CLOCK_BOUND_S,
                    "wall_offset_s": generator.wall_offset_s * (-1) ** number,
                },
            )
        if generator.worker_lost:
            data = {"worker": "w1", "why": "not heard of for 2.6 s"}
            yield self.day.end_s / 2, "fleet", "worker.lost", data

    def _chaos(self, fault: Course) -> Iterator[Line]:
        chaos, name = self.world.chaos_of(fault.name), fault.name
        start_s, end_s = self.day.spans[f"fault:{name}"]
        driver, source, undo = f"chaos-driver/{name}", f"chaos/{name}", f"{name}-1"
        yield start_s + 0.1, driver, "experiment.start", {"fault": name}
        because = chaos.because or "the hypothesis held before and after"
        data = {"fault": name, "outcome": chaos.outcome, "because": because}
        yield end_s - 0.05, driver, "experiment.end", data
        if not chaos.made:
            return
        action, targets = (
            f"lose_{fault.kind}",
            {
                "pods": [f"file-0 {self.day.zones[0]}-file-0"],
                "zone": ["subnet-a"],
                "region": ["subnet-a", "subnet-b"],
            }.get(fault.kind, []),
        )
        if fault.kind in DELIVERIES:
            action, targets = "deliver", [self.deliveries.subject(fault)]
        elif fault.kind == "service":
            action, targets = "stop_service", Degradations(self.day).targets()
        about = {"fault": name, "action": action, "targets": targets, "undo": undo}
        yield fault.call_start_s - 0.01, source, "fault.start", about
        called = {
            "fault": name,
            "call_start_t": round(self._wall(fault.call_start_s), 6),
            "call_end_t": round(self._wall(fault.call_end_s), 6),
        }
        yield fault.call_end_s, source, "fault.made", called
        if chaos.holds is not None:
            seen = {"fault": name, "holds": chaos.holds, "observed": targets}
            yield fault.call_end_s + 0.03, source, "fault.readback", seen
        if chaos.undo_recorded:
            data = {"fault": name, "undo": undo}
            yield fault.undo_start_s, source, "undo.start", data
            yield fault.undo_done_s, source, "undo.done", data
        if chaos.restored is not None:
            gone = {"fault": name, "undo": undo, "restored": chaos.restored, "observed": targets}
            yield fault.undo_done_s + 0.05, source, "undo.readback", gone

    # ---- what the generators counted -----------------------------------------------------------

    def _tallies(self, name: str, number: int) -> None:
        """The journal of what was counted: the same for all who see the same requests."""
        written, path = self.traffic.written, self.folder / name
        if self.steps or self.world.watch != Watch():
            self._journal(name, self._tally(number))
        elif name in written:
            path.write_text(written[name])
        else:
            self._journal(name, self._tally(number))
            written[name] = path.read_text()

    def _tally(self, number: int) -> Iterator[Line]:
        traffic, worker = self.day.plan.traffic, self.workers[number]
        source = f"tally/{worker}"
        yield (
            -0.3,
            source,
            "tally.start",
            {
                "thresholds_s": list(self.day.plan.thresholds_s),
                "worker": worker,
                "rate": traffic.rate,
                "arrivals": traffic.arrivals,
                "seed": traffic.seed,
                "start_t": T0,
                "workers": len(self.workers),
            },
        )
        for second in sorted(self.traffic.planned[number]):
            late = self.traffic.late[number].get(second, {})
            yield (
                second + 1.0,
                source,
                "tally",
                {
                    "seconds": {str(int(T0) + second): self.traffic.tally(number, second)},
                    "lateness": {str(index): n for index, n in late.items()},
                    "in_flight": 0,
                },
            )
        if source not in self._killed():
            yield self.day.end_s + 2.2, source, "tally.end", self.traffic.sums(number)

    # ---- Prometheus ------------------------------------------------------------------------

    def _series(self) -> None:
        found: list[dict[str, Any]] = []
        if self.world.prometheus.recorded:
            found.append(Scrapes(self.day, self.traffic).series(T0))
            if self.traffic.pods:
                found.append(deliveries.series(self.day, self.traffic.pods, T0, BEGINS_S))
            found += Degradations(self.day).series(T0, BEGINS_S)
            found += past.incidents(self.day.plan, self.world, T0, BEGINS_S)
        entries = []
        for series in found:
            name, raw = series["name"], json.dumps(series).encode()
            (self.folder / "series" / f"{name}.json").write_bytes(raw)
            sha256 = hashlib.sha256(raw).hexdigest()
            entries.append({"name": name, "file": f"{name}.json", "sha256": sha256})
        (self.folder / "series" / "index.json").write_text(json.dumps({"series": entries}))


def _cut(silent: list[tuple[str, float, float]], source: str, at_s: float) -> bool:
    return any(source == s and start_s <= at_s < end_s for s, start_s, end_s in silent)
