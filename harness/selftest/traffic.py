"""The requests of a simulated day, one by one: what clients counted, stored and saw.

Every arrival of the schedule is drawn with its fate; tallies, ledger, marks and the gateways' own
counts are all added up from those, so that they agree where the world does not say otherwise.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from harness.evidence import histogram
from harness.plan.model import Plan
from harness.plan.rates import Curve
from harness.selftest.course import Day, State
from harness.selftest.degradations import Degradations
from harness.selftest.deliveries import Deliveries, Window, old_pods
from harness.selftest.world import Canary, Trouble, World

#: Failures in which nothing answered at all.
SILENT = frozenset({"timeout", "connection"})
WRITES = frozenset({"upload", "image"})
#: What needs a database that can be written to.
CHANGES = WRITES | {"delete"}
#: What a gateway takes less than the client waits.
_ON_THE_WAY_S = 0.001
#: Latencies come in so many steps, which keeps histograms short.
_STEPS = 16


@dataclass
class Cell:
    """Counts of one second, operation, place and outcome."""

    n: int = 0
    latency: histogram.Histogram = field(default_factory=dict)
    below: int = 0


class Served(NamedTuple):
    """One answer of a gateway: when it was given, by which zone, to what, and how."""

    at_s: float
    zone: str
    op: str
    code: str


@dataclass(frozen=True)
class Stored:
    """One upload, as the client saw it."""

    name: str
    op: str
    planned_s: float
    ack_s: float
    outcome: str
    region: str


class Fate(NamedTuple):
    """What became of one request."""

    outcome: str
    error: str
    zone: str
    latency_s: float


_index_of = lru_cache(maxsize=1024)(histogram.index_of)


def _record(into: histogram.Histogram, value_s: float) -> None:
    index = _index_of(round(value_s * 1e6))
    into[index] = into.get(index, 0) + 1


class Traffic:
    """All requests of a day. ``planned`` and ``cells`` are by worker and second, ``pods`` says when
    each pod answered in the zone that versions are delivered to."""

    def __init__(self, day: Day) -> None:
        self.day = day
        self.world: World = day.world
        self.plan: Plan = day.plan
        self.rng = random.Random(day.world.seed)
        self.planned: list[dict[int, int]] = []
        self.late: list[dict[int, histogram.Histogram]] = []
        self.cells: list[dict[int, dict[tuple[str, str, str, str], Cell]]] = []
        for _ in range(self.world.generator.workers):
            self.planned.append(defaultdict(int))
            self.late.append(defaultdict(dict))
            self.cells.append(defaultdict(dict))
        self.answers: list[Served] = []
        self.stored: list[Stored] = []
        #: tallies as they were written, by file
        self.written: dict[str, str] = {}
        #: upload → when its delete was acknowledged
        self.deleted: dict[str, float] = {}
        self.pods: dict[str, list[float]] = {}
        self._versions = self._delivered()
        self._degradations = Degradations(day)
        #: successes: when, operation, zone
        self.successes: list[tuple[float, str, str]] = []
        self.threshold_s = min(self.plan.thresholds_s, default=0.2)
        self._send()
        self.answers.sort()

    def _send(self) -> None:
        states = [(at_s, self.day.state_at(at_s)) for at_s in self.day.changes_s()]
        troubles = [(*self.day.between(t), t) for t in self.world.service.trouble]
        operations = list(self.plan.traffic.mix)
        weights = list(itertools.accumulate(self.plan.traffic.mix.values()))
        stalls = [self.day.between(window) for window in self.world.generator.stalls]
        generator, chance = self.world.generator, self.rng.random
        leaves_out = generator.not_sent_share or generator.forgotten_share
        goes_silent = generator.killed_s is not None or bool(stalls)
        index = 0
        for number, at_s in enumerate(self._arrivals()):
            worker = number % generator.workers
            if goes_silent and self._silent(worker, at_s, stalls):
                continue
            second = int(at_s + self._drift_s(worker))
            self.planned[worker][second] += 1
            op = operations[bisect.bisect(weights, chance() * weights[-1])]
            left_out = self._left_out() if leaves_out else ""
            if left_out == "forgotten":
                continue
            if left_out:
                self._count(worker, second, op, Fate("not_sent", left_out, "", 0.0))
                continue
            late_s = self._late_s() if generator.late_share else generator.late_s
            _record(self.late[worker][second], late_s)
            while index + 1 < len(states) and states[index + 1][0] <= at_s:
                index += 1
            state = states[index][1]
            zone = state.zones[number % len(state.zones)]
            version = self._version(number, at_s, zone) if self._versions else None
            fate = self._fate(at_s, op, zone, state, troubles, late_s, version)
            self._count(worker, second, op, fate)
            self._after(at_s, op, fate)

    def _delivered(self) -> dict[str, list[Window]]:
        """service → who meets which version of it, where versions are delivered at all."""
        made = Deliveries(self.day)
        for service in made.services:
            self.pods.update({pod: [] for pod in old_pods(service)})
        return {service: made.windows(service) for service in made.services}

    def _version(self, number: int, at_s: float, zone: str) -> Canary | None:
        """What is delivered of the gateway that a request meets, if any; counts it at its pods."""
        met = None
        if zone != self.day.zones[0]:
            return None
        for service, windows in self._versions.items():
            pod = old_pods(service)[number // 2 % 2]
            for window in windows:
                if window.start_s <= at_s < window.end_s:
                    if self.rng.random() * 100 < window.share:
                        pod, met = window.pod, window.version or met
                    break
            self.pods.setdefault(pod, []).append(at_s)
        return met

    def _arrivals(self) -> Iterator[float]:
        rate = self.plan.traffic.rate * self.world.generator.speed
        # Until a second after the last phase, so that its last second is whole.
        end_s, at_s, number = int(self.day.end_s) + 2, 0.0, 0
        even = self.plan.traffic.arrivals != "poisson"
        curve = self.plan.traffic.curve
        if isinstance(curve, Curve) and not curve.is_constant:
            yield from self._shaped(curve, end_s, even)
            return
        while True:
            at_s = (number + 0.5) / rate if even else at_s + self.rng.expovariate(rate)
            number += 1
            if at_s >= end_s:
                return
            yield at_s

    def _shaped(self, curve: Curve, end_s: float, even: bool) -> Iterator[float]:
        """As many as the curve says: it is followed, and what is due comes so much later."""
        due, at_s, number = 0.0, 0.0, 0
        while at_s < end_s:
            due = number + 0.5 if even else due + self.rng.expovariate(1.0)
            number += 1
            at_s = curve.instant_s(due / self.world.generator.speed)
            if at_s < end_s:
                yield at_s

    def _silent(self, worker: int, at_s: float, stalls: list[tuple[float, float]]) -> bool:
        generator = self.world.generator
        if worker == 0 and generator.killed_s is not None and at_s >= generator.killed_s:
            return True
        return any(start <= at_s < end for start, end in stalls)

    def _drift_s(self, worker: int) -> float:
        """What the worker's time is off by: workers stray to either side."""
        return -self.world.generator.drift_s if worker % 2 else self.world.generator.drift_s

    def _late_s(self) -> float:
        """By how much the generator sends a request late; clients count latency from the plan."""
        generator = self.world.generator
        late = self.rng.random() < generator.late_share
        return generator.late_by_s if late else generator.late_s

    def _left_out(self) -> str:
        generator = self.world.generator
        if generator.not_sent_share and self.rng.random() < generator.not_sent_share:
            return generator.not_sent_why
        if generator.forgotten_share and self.rng.random() < generator.forgotten_share:
            return "forgotten"
        return ""

    def _fate(
        self,
        at_s: float,
        op: str,
        zone: str,
        state: State,
        troubles: list[tuple[float, float, Trouble]],
        late_s: float,
        version: Canary | None,
    ) -> Fate:
        service, chance = self.world.service, self.rng.random() * _STEPS
        latency_s = late_s + service.latency_s * (0.5 + int(chance) / _STEPS)
        # What is left of the draw after the step is as even as the draw.
        if chance % 1.0 < service.slow_share:
            latency_s += service.slow_s
        if zone in state.dead:
            outcome = "unsure" if op in WRITES else "failed"
            return Fate(outcome, "timeout", "", self.plan.traffic.timeout_s)
        if state.failing and zone == self.day.zones[0] and self.rng.random() < state.failing:
            return Fate("failed", "connection", "", latency_s)
        if not state.writes and op in CHANGES:
            return Fate("failed", "http-503", zone, latency_s)
        if service.error_share and self.rng.random() < service.error_share:
            return Fate("failed", "http-500", zone, latency_s)
        for start_s, end_s, trouble in troubles:
            if not start_s <= at_s < end_s or trouble.zone not in ("", zone):
                continue
            if trouble.op not in ("", op) or self.rng.random() >= trouble.share:
                continue
            latency_s += trouble.latency_s
            if trouble.degraded:
                return Fate("degraded", trouble.degraded, zone, latency_s)
            if trouble.error:
                silent = trouble.error in SILENT
                outcome = "unsure" if trouble.error == "timeout" and op in WRITES else "failed"
                return Fate(outcome, trouble.error, "" if silent else zone, latency_s)
        if op in self._degradations.operations:
            found = self._degradations.fate(at_s, self.rng.random())
            if found is not None:
                return Fate(*found, zone, latency_s)
        if version is not None and version.op in ("", op):
            latency_s += version.latency_s
            if version.error and self.rng.random() < version.error_share:
                return Fate("failed", version.error, zone, latency_s)
        return Fate("ok", "", zone, latency_s)

    def _count(self, worker: int, second: int, op: str, fate: Fate) -> None:
        outcome, error, zone, latency_s = fate
        key = (op, zone, outcome, error)
        cells = self.cells[worker][second]
        cell = cells.get(key)
        if cell is None:
            cell = cells[key] = Cell()
        cell.n += 1
        if outcome == "ok":
            _record(cell.latency, latency_s)
            cell.below += latency_s <= self.threshold_s

    def _after(self, at_s: float, op: str, fate: Fate) -> None:
        """What an answered or unanswered request leaves beside its count."""
        outcome, error, zone, latency_s = fate
        done_s = at_s + latency_s
        if zone:
            code = error.removeprefix("http-") if error.startswith("http-") else "200"
            self.answers.append(Served(done_s - _ON_THE_WAY_S, zone, op, code))
        if outcome == "ok":
            self.successes.append((done_s, op, zone))
        if op in WRITES:
            name = f"sim-{len(self.stored):05}"
            stored = "acked" if outcome == "ok" else outcome
            self.stored.append(Stored(name, op, at_s, done_s, stored, self.region_of(zone)))
        elif op == "delete" and outcome == "ok":
            self._delete(at_s, done_s)

    def _delete(self, at_s: float, done_s: float) -> None:
        """The first upload that is there, long since."""
        for stored in self.stored[len(self.deleted) :]:
            known = stored.outcome == "acked" and stored.name not in self.deleted
            if known and stored.ack_s < at_s - 1.0:
                self.deleted[stored.name] = done_s
                return

    def region_of(self, zone: str) -> str:
        """The region of a zone; empty for none."""
        return zone[:-1]

    # ---- as the generator writes it ----------------------------------------------------------

    def tally(self, worker: int, second: int) -> dict[str, Any]:
        """One second of a worker's tally line."""
        cells = []
        for (op, zone, outcome, error), cell in self.cells[worker][second].items():
            cells.append(
                {
                    "op": op,
                    "region": self.region_of(zone),
                    "zone": zone,
                    "outcome": outcome,
                    "error": error,
                    "n": cell.n,
                    "bytes": 1000 * cell.n,
                    "latency": {str(index): n for index, n in cell.latency.items()},
                    "service": {},
                    "below": {f"{self.threshold_s:g}": cell.below} if cell.latency else {},
                }
            )
        return {"planned": self.planned[worker][second], "cells": cells}

    def sums(self, worker: int) -> dict[str, int]:
        """What the worker says at its end. What it forgot it does not say either."""
        planned = sum(self.planned[worker].values())
        counted = [
            (key[2], cell.n) for cells in self.cells[worker].values() for key, cell in cells.items()
        ]
        not_sent = sum(n for outcome, n in counted if outcome == "not_sent")
        bodies = sum(
            cell.n
            for cells in self.cells[worker].values()
            for (op, _, outcome, _), cell in cells.items()
            if op == "download" and outcome == "ok"
        )
        return {
            "planned": planned,
            "sent": planned - not_sent,
            "not_sent": not_sent,
            "in_flight": 0,
            "bodies": bodies,
            "verified": int(bodies * self.world.generator.verified),
        }

    @cached_property
    def marks(self) -> list[tuple[float, str, dict[str, Any]]]:
        """``mark.region`` and ``mark.first_write``: a region's first after a second without."""
        found: list[tuple[float, str, dict[str, Any]]] = []
        current = ""
        seen: dict[str, float] = {}
        written: dict[str, float] = {}
        for at_s, op, zone in sorted(self.successes):
            region = self.region_of(zone)
            if region != current:
                if at_s - seen.get(region, -9.0) >= 1.0:
                    data = {"from": current, "to": region, "op": op}
                    found.append((at_s, "mark.region", data))
                current = region
            seen[region] = at_s
            if op in WRITES:
                if at_s - written.get(region, -9.0) >= 1.0:
                    found.append((at_s, "mark.first_write", {"region": region, "op": op}))
                written[region] = at_s
        return found
