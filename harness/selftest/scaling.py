"""A surge on a simulated day: how the autoscalers of the first two zones took it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.plan.model import Scaling
from harness.plan.rates import Curve
from harness.selftest.course import Day, after
from harness.selftest.world import Autoscaler

#: Pods before the surge, and the most there may be.
BEFORE, MOST = 1, 6
#: The load follows the traffic so much later: it is a mean of what was before.
_LAG_S = 1.0
#: Pods of a new size are there, not yet ready, so much after they were asked for.
_MADE_S = 0.2
#: Pods that the surge is meant to need: its load is so many times the target of one.
_PODS_OF_LOAD = 2.7
_NEVER = float("inf")

Changes = list[tuple[float, Any]]


class Autoscaling:
    """Autoscalers and pods of the service that the plan says is scaled; none where it says none."""

    def __init__(self, day: Day) -> None:
        self.day = day
        self.service = next((o.service for o in day.plan.objectives if isinstance(o, Scaling)), "")
        curve = day.plan.traffic.curve
        self.surge_s = (isinstance(curve, Curve) and curve.surge_s) or (_NEVER, _NEVER)

    def observers(self) -> dict[str, dict[str, Changes]]:
        """observer → subject → (from when, what is true of it)."""
        if not self.service:
            return {}
        found: dict[str, dict[str, Changes]] = {}
        for zone in self.day.zones[:2]:
            scaled = self.day.world.autoscaler
            if scaled.zone not in ("", zone):
                scaled = Autoscaler()
            subject = f"{zone}/{self.service}"
            if scaled.there:
                found[f"autoscalers-{zone}"] = {f"hpa:{subject}": list(self._seen(scaled))}
            else:
                found[f"autoscalers-{zone}"] = {}
            found[f"pods-{zone}"] = {f"pods:{subject}": list(self._pods(zone, scaled))}
        return found

    def _sizes(self, scaled: Autoscaler) -> list[tuple[float, int]]:
        """(from when, how many are asked for), in order."""
        start_s, end_s = self.surge_s
        steps = [(-_NEVER, scaled.before)]
        asked_s = after(start_s, scaled.asks_s)
        if asked_s < _NEVER:
            steps.append((asked_s, scaled.pods))
            for at_s, count in (
                (after(start_s, scaled.given_up_s), scaled.before),
                (after(end_s, scaled.takes_s), scaled.left),
                (after(end_s, scaled.again_s), scaled.pods),
            ):
                if at_s < _NEVER:
                    steps.append((at_s, count))
        return sorted(steps, key=lambda step: step[0])

    def _sized(self, scaled: Autoscaler) -> Iterator[tuple[float, int, int]]:
        """(from when, pods there, pods ready), in order: more take their time, fewer go at once."""
        ready = scaled.before
        yield -_NEVER, ready, ready
        for (_, before), (at_s, count) in zip(
            self._sizes(scaled), self._sizes(scaled)[1:], strict=False
        ):
            yield at_s + _MADE_S, count, min(ready, count)
            ready = min(ready, count)
            ready_s = at_s + max(_MADE_S, after(0.0, scaled.ready_s))
            if count > before and ready_s < _NEVER:
                ready = count
                yield ready_s, count, count

    def _pods(self, zone: str, scaled: Autoscaler) -> Iterator[tuple[float, Any]]:
        for at_s, total, ready in self._sized(scaled):
            uids = [f"{zone}-{self.service}-{n}" for n in range(total)]
            yield at_s, {"ready": ready, "total": total, "uids": uids}

    def _seen(self, scaled: Autoscaler) -> Iterator[tuple[float, Any]]:
        start_s, end_s = (at_s + _LAG_S for at_s in self.surge_s)
        sizes, pods = self._sizes(scaled), list(self._sized(scaled))
        moments = {start_s, end_s, *(s for s, _ in sizes), *(p[0] for p in pods)}
        # Nobody measures twice the same: the value moves a little all day.
        moments |= {float(second) for second in range(int(self.day.end_s))}
        for at_s in sorted(moments):
            desired = [count for from_s, count in sizes if from_s <= at_s][-1]
            current = [ready for from_s, _, ready in pods if from_s <= at_s][-1]
            load = self._load(at_s) * scaled.says if start_s <= at_s < end_s else self._load(at_s)
            each = load / current * (1 + 0.01 * (int(at_s) % 3)) if at_s > -_NEVER else load
            yield (
                at_s,
                {
                    "scales": self.service,
                    "kind": "Deployment",
                    "least": BEFORE,
                    "most": MOST,
                    "current": current,
                    "desired": desired,
                    "active": not scaled.why,
                    "why": scaled.why,
                    "limited": "DesiredWithinRange",
                    "tolerance": 0.1,
                    "metrics": [
                        {
                            "name": "http_requests_per_second",
                            "value": None if scaled.why else round(each, 3),
                            "target": round(self._peak() / _PODS_OF_LOAD, 3),
                        }
                    ],
                },
            )

    def _load(self, at_s: float) -> float:
        """What all pods of one of the two zones have to do at a moment."""
        curve = self.day.plan.traffic.curve
        return curve.rate_at(at_s - _LAG_S) / 2 if isinstance(curve, Curve) else 0.0

    def _peak(self) -> float:
        return self.day.plan.traffic.rate / 2
