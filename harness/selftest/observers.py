"""What observers and Prometheus would have recorded of a simulated day."""

from __future__ import annotations

import bisect
import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from harness.selftest.alerting import Alerting
from harness.selftest.course import Course, Day, after
from harness.selftest.degradations import Degradations
from harness.selftest.deliveries import Deliveries
from harness.selftest.scaling import Autoscaling
from harness.selftest.traffic import Traffic
from harness.selftest.world import Blind

#: A subject that was not seen for so long is unknown.
UNKNOWN_AFTER_S = 3.5
BEGINS_S = -1.4
SCRAPED_AT_S = (0.31, 0.52, 0.77)
REQUESTS = "gateway_requests"
NEVER = float("inf")

#: (when, value): ascending
Changes = list[tuple[float, Any]]
#: (when, source, kind, data)
Line = tuple[float, str, str, dict[str, Any]]


class Observers:
    """Sightings of a day: each observer polls on a grid of its own."""

    def __init__(self, day: Day) -> None:
        self.day = day
        self.rng = random.Random(day.world.seed + 1)
        self.period_s, self.call_s = day.world.watch.period_s, day.world.watch.call_s
        self.alerting = Alerting(day)
        self.subjects = self._subjects()

    @property
    def names(self) -> list[str]:
        return list(self.subjects)

    def lines(self) -> Iterator[Line]:
        """Everything the observers wrote but their closing lines."""
        for name, subjects in self.subjects.items():
            source, first_s = f"watch/{name}", BEGINS_S + self.rng.random() * self.period_s
            count = int((self.day.end_s + 4.0) / self.period_s)
            polls = [first_s + number * self.period_s for number in range(count)]
            yield (
                BEGINS_S - 0.1,
                source,
                "watch.start",
                {"observer": name, "period_s": self.period_s, "subjects": self._named(name)},
            )
            for subject, changes in subjects.items():
                for at_s, value, uncertainty_s in self._sighted(name, subject, changes, polls):
                    data = {"subject": subject, "value": value, "uncertainty_s": uncertainty_s}
                    yield at_s, source, "sighting", data
            blind = [self.day.between(b) for b in self._blind(name)]
            failed = [at_s for at_s in polls if _within(at_s, blind)] if blind else []
            for beat in range(int((self.day.end_s + 3.0 - BEGINS_S) / 5.0) + 1):
                now_s = BEGINS_S + 5.0 * beat
                errors = bisect.bisect_left(failed, now_s)
                said = {
                    "polls": int(5.0 * beat / self.period_s),
                    "errors": errors,
                    "last_error": "timeout" if errors else None,
                }
                yield now_s, source, "watch.beat", said
        yield from self.alerting.told()

    def _named(self, observer: str) -> list[str]:
        """What it is known of an observer beforehand that it will see."""
        found = observer in ("alerts", "alertmanager")
        found |= observer.startswith(("deliveries-", "autoscalers-"))
        return [] if found else sorted(self.subjects[observer])

    def _sighted(
        self, observer: str, subject: str, changes: Changes, polls: list[float]
    ) -> Iterator[tuple[float, Any, float]]:
        """(when, value, uncertainty): a change is seen by the first poll that begins after it."""
        blind = [self.day.between(b) for b in (*self._blind(observer), *self._blind("", subject))]
        if blind:
            polls = [began_s for began_s in polls if not _within(began_s, blind)]
        seen: dict[int, Any] = {}
        for at_s, value in changes:
            index = bisect.bisect_left(polls, at_s)
            if index < len(polls):
                seen[index] = value  # the later of two changes between polls is what is seen
        for index, value in seen.items():
            before_s = polls[index - 1] if index else polls[index] - self.period_s
            now_s = polls[index] + self.call_s
            yield now_s, value, round(now_s - before_s, 6)
        for start_s, end_s in blind:
            begun = bool(changes) and changes[0][0] < start_s
            if end_s - start_s > UNKNOWN_AFTER_S and begun:
                yield start_s + UNKNOWN_AFTER_S, "unknown", UNKNOWN_AFTER_S + self.period_s
                index = bisect.bisect_left(polls, end_s)
                value = next((v for at_s, v in reversed(changes) if at_s <= end_s), None)
                if index < len(polls) and index not in seen and value is not None:
                    yield polls[index] + self.call_s, value, round(polls[index] - start_s, 6)

    def _blind(self, observer: str, subject: str = "") -> list[Blind]:
        wanted = (observer, subject)
        return [b for b in self.day.world.watch.blind if (b.observer, b.subject) == wanted]

    # ---- what is true of each subject ------------------------------------------------------

    def _subjects(self) -> dict[str, dict[str, Changes]]:
        """observer → subject → what is true of it, from when on."""
        day = self.day
        first, second, _ = day.zones
        host = urlsplit(day.plan.target.service).hostname or ""
        found: dict[str, dict[str, Changes]] = {
            "dns": {f"dns:{host}": self._dns()},
            f"health_check-{day.primary}": {f"health_check:{day.primary}": self._health()},
            f"targets-{day.primary}": {
                f"targets:{first}": self._targets(first),
                f"targets:{second}": self._targets(second),
            },
            f"databases-{day.primary}": {"db:files-db": self._database()},
            f"databases-{day.standby}": {"db:files-db-west": self._standby_database()},
        }
        found[f"pods-{first}"] = {f"pods:{first}/file": self._pods(first)}
        found[f"nodes-{first}"] = {f"nodes:{first}": self._nodes()}
        found["clock"] = {"clock:prometheus": self._offsets()}
        found["machine"] = {"machine:generator": self._machine()}
        delivered = Deliveries(day).subjects()
        if delivered:
            found[f"deliveries-{first}"] = delivered
        for observer, pods in Degradations(day).pods().items():
            found.setdefault(observer, {}).update(pods)
        for observer, scaled in Autoscaling(day).observers().items():
            found.setdefault(observer, {}).update(scaled)
        return found | self.alerting.observers()

    def _faults(self, *kinds: str) -> list[Course]:
        return [fault for fault in self.day.faults if fault.kind in kinds and fault.hits]

    def _dns(self) -> Changes:
        changes = _always([self.day.primary])
        for fault in self._faults("region"):
            over_s = after(fault.landed_s, self.day.world.region.dns_s)
            if over_s < NEVER:
                changes.append((over_s, [self.day.standby]))
                back_s = after(fault.undo_done_s, self.day.world.back.dns_s)
                changes.append((back_s, [self.day.primary]))
        return _that_happen(changes)

    def _health(self) -> Changes:
        changes = _always("healthy")
        for fault in self._faults("region"):
            red_s = after(fault.landed_s, self.day.world.region.red_s)
            if red_s < NEVER:
                changes.append((red_s, "unhealthy"))
                green_s = after(fault.undo_done_s, self.day.world.back.green_s)
                changes.append((green_s, "healthy"))
        return _that_happen(changes)

    def _targets(self, zone: str) -> Changes:
        changes = _always(_healthy(2))
        for fault in self._faults("zone", "region"):
            if fault.kind == "zone":
                if zone != self.day.zones[0]:
                    continue
                away_s = after(fault.landed_s, self.day.world.zone.turned_away_s)
                back_s = fault.undo_done_s + self.day.world.zone.back_s
            else:
                away_s, back_s = fault.landed_s + 1.0, fault.undo_done_s + 1.0
            if away_s < back_s:
                changes += [(away_s, _healthy(0)), (back_s, _healthy(2))]
        return _that_happen(changes)

    def _nodes(self) -> Changes:
        changes = _always({"ready": 2, "total": 2})
        for fault in self._faults("zone", "region"):
            lost_s = after(fault.landed_s, self.day.world.zone.nodes_s)
            if lost_s < fault.undo_done_s:
                changes.append((lost_s, {"ready": 0, "total": 2}))
                changes.append((fault.undo_done_s + 1.0, {"ready": 2, "total": 2}))
        return _that_happen(changes)

    def _pods(self, cluster: str) -> Changes:
        uids = [f"{cluster}-file-{n}" for n in range(2)]
        changes = _always(_pods(uids))
        for fault in self._faults("pods"):
            uids = uids[1:]
            changes.append((fault.landed_s + self.day.world.pods.gone_s, _pods(uids)))
            uids = [*uids, f"{cluster}-file-of-{fault.name}"]
            replaced_s = after(fault.landed_s, self.day.world.pods.replaced_s)
            changes.append((replaced_s, _pods(uids)))
        return _that_happen(changes)

    def _database(self) -> Changes:
        first, second, _ = self.day.zones
        changes = _always(_db("primary", first))
        for fault in self._faults("zone"):
            changes.append(
                (after(fault.landed_s, self.day.world.zone.db_moved_s), _db("primary", second))
            )
        return _that_happen(changes)

    def _standby_database(self) -> Changes:
        standby = self.day.zones[2]
        changes = _always(_db("replica", standby))
        for fault in self._faults("region"):
            promoted_s = after(fault.landed_s, self.day.world.region.promoted_s)
            if promoted_s < NEVER:
                changes.append((promoted_s, _db("primary", standby)))
                back_s = after(fault.undo_done_s, self.day.world.back.db_s)
                changes.append((back_s, _db("replica", standby)))
        return _that_happen(changes)

    def _offsets(self) -> Changes:
        prometheus = self.day.world.prometheus
        if not prometheus.offset_seen:
            return []
        changes = _always(round(prometheus.offset_s, 1))
        if prometheus.offset_steps_s:
            stepped = round(prometheus.offset_s + prometheus.offset_steps_s, 1)
            changes.append((offset_steps_at(self.day), stepped))
        return changes

    def _machine(self) -> Changes:
        machine = self.day.world.machine
        changes = _always(_idle(machine.idle))
        for start_s, end_s in map(self.day.between, machine.busy):
            changes += [(start_s, _idle(machine.busy_idle)), (end_s, _idle(machine.idle))]
        return sorted(changes, key=lambda change: change[0])


def offset_steps_at(day: Day) -> float:
    """When Prometheus's clock is set, if it is: half-way through the first phase."""
    start_s, end_s = next(iter(day.spans.values()))
    return (start_s + end_s) / 2


def _always(value: Any) -> Changes:
    return [(BEGINS_S, value)]


def _that_happen(changes: Changes) -> Changes:
    return sorted((c for c in changes if c[0] < NEVER), key=lambda change: change[0])


def _within(at_s: float, spans: list[tuple[float, float]]) -> bool:
    return any(start_s <= at_s < end_s for start_s, end_s in spans)


def _healthy(n: int) -> dict[str, int]:
    return {"healthy": n, "total": 2}


def _pods(uids: list[str]) -> dict[str, Any]:
    return {"ready": len(uids), "total": len(uids), "uids": uids}


def _db(role: str, zone: str) -> dict[str, Any]:
    return {"role": role, "status": "available", "zone": zone, "source": None}


def _idle(share: float) -> dict[str, Any]:
    return {"idle": share, "waiting": None, "cpus": 2}


class Scrapes:
    """The gateways' counters as Prometheus has them, one gateway a zone."""

    def __init__(self, day: Day, traffic: Traffic) -> None:
        self.day, self.traffic = day, traffic
        self.prometheus = day.world.prometheus

    def series(self, t0: float) -> dict[str, Any]:
        """The content of ``gateway_requests.json``."""
        said = self.prometheus
        counted: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for at_s, zone, op, code in self.traffic.answers:
            counted[zone, op, code].append(at_s)
        scrapes = {zone: self._instants(number, zone) for number, zone in enumerate(self.day.zones)}
        result = []
        for (zone, op, code), instants in sorted(counted.items()):
            labels = {"op": op, "code": code, "instance": f"gateway-{zone}", "zone": zone}
            points = self._points(zone, instants, scrapes[zone], t0)
            result.append({"labels": labels, "points": points})
            if said.doubled:
                result.append({"labels": labels | {"replica": "b"}, "points": points})
        return {
            "name": REQUESTS,
            "query": 'http_requests_total{service="gateway"}',
            "step_s": said.scrape_s,
            "start": t0 + BEGINS_S,
            "end": t0 + self.day.end_s + 3.0,
            "status": "error" if said.error else "success",
            "warnings": [said.warning] if said.warning else [],
            "fetched_t": t0 + self.day.end_s + 4.0,
            "error": said.error or None,
            "result": [] if said.error or said.empty else result,
        }

    def _instants(self, number: int, zone: str) -> list[float]:
        """When the gateway of a zone was scraped: not while it was cut off."""
        every_s = self.prometheus.scrape_s
        missed = [self.day.between(window) for window in self.prometheus.missed]
        for fault in self.day.faults:
            hit = {"zone": self.day.zones[:1], "region": self.day.zones[:2]}.get(fault.kind, ())
            if fault.hits and zone in hit:
                missed.append((fault.landed_s, fault.undo_done_s))
        first_s = (SCRAPED_AT_S[number % 3] - 1.0) * every_s
        count = int((self.day.end_s + 3.0 - first_s) / every_s) + 1
        instants = (first_s + n * every_s for n in range(count))
        return [at_s for at_s in instants if not _within(at_s, missed)]

    def _points(
        self, zone: str, instants: list[float], scrapes: list[float], t0: float
    ) -> list[list[Any]]:
        said = self.prometheus
        factor = said.counts if said.counts_zone in ("", zone) else 1.0
        resets = [self.day.between(w)[0] for w in said.reset] if zone == self.day.zones[0] else []
        begun_at = [(reset_s, bisect.bisect_right(instants, reset_s)) for reset_s in resets]
        stepped_s = offset_steps_at(self.day)
        points = []
        for at_s in scrapes:
            count = bisect.bisect_right(instants, at_s)
            if not count and not said.value:
                continue  # a label set appears with its first count
            begun = max((n for reset_s, n in begun_at if reset_s < at_s), default=0)
            text = said.value or str(round(factor * (count - begun)))
            offset_s = said.offset_s + (said.offset_steps_s if at_s >= stepped_s else 0.0)
            points.append([round(t0 + at_s + offset_s, 3), text])
        return sorted(points)
