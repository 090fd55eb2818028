"""What is known, on a simulated day, of the time before it: runs, and incidents."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from harness.plan.model import Mtbf, Mttr, Plan, Regression
from harness.selftest.world import Past, World

_DAY_S = 86_400.0
#: Prometheus is asked minute by minute; here more seldom, which tells as much of long incidents.
STEP_S = 300.0
#: Places of the runs between the best and the worst, over and over.
_DIFFERS = (0.0, 0.6, -0.4, 1.0, -1.0, 0.3, -0.7)


def runs(plan: Plan, world: World, t0: float) -> list[dict[str, Any]]:
    """What ``plan.json`` remembers of the runs before, the oldest first: one a day; nothing where
    no objective asks for them."""
    past = world.past
    if not any(isinstance(objective, (Mtbf, Mttr, Regression)) for objective in plan.objectives):
        return []
    found = []
    for number in range(past.runs):
        began_t = t0 - (past.runs - number) * _DAY_S
        differs = past.spread * _DIFFERS[number % len(_DIFFERS)]
        red = number < past.red
        repair_s = past.repair_s * (1 + differs)
        # All failures in one run or spread over them: their sum is what counts.
        failures = past.failures // past.runs + (number < past.failures % past.runs)
        p95_s = past.p95_s * (1 + differs)
        figures = {"planned": (1200, 1200), "availability": (1, 1), "error_rate": (0, 0),
                   "p95": (p95_s * 0.999, p95_s * 1.001)}  # fmt: skip
        found.append(
            {
                "id": f"{plan.name}/{number}@{began_t:.3f}",
                "plan": plan.name,
                "plan_sha256": plan.sha256,
                "traffic": plan.traffic.rate_words,
                "target": "simulated",
                "service": plan.target.service,
                "simulated": True,
                "run": str(number),
                "folder": f"runs/{plan.name}/{number}",
                "started_t": began_t,
                "ended_t": began_t + past.watched_s,
                "outcome": "fail" if red else "pass",
                "exit_status": 99 if red else 0,
                "complete": past.runs - number > past.incomplete,
                "watched_s": int(past.watched_s),
                "failures": failures,
                "repairs": [{"fault": "zone", "low_s": repair_s - 0.5, "high_s": repair_s}],
                "figures": [
                    {"phase": "baseline", "name": name, "low": low, "high": high}
                    for name, (low, high) in figures.items()
                ],
            }
        )
    return found


def incidents(plan: Plan, world: World, t0: float, begin_s: float) -> list[dict[str, Any]]:
    """The series of incidents that the plan asks for."""
    said, end_t, found = world.prometheus, t0 + begin_s, []
    for name, (query, over_s) in plan.past_queries.items():
        points = _points(world.past, over_s, end_t - over_s, said.value)
        found.append(
            {
                "name": name,
                "query": query,
                "step_s": STEP_S,
                "start": end_t - over_s,
                "end": end_t,
                "status": "error" if said.error else "success",
                "warnings": [said.warning] if said.warning else [],
                "fetched_t": t0,
                "error": said.error or None,
                "result": [] if said.error or said.empty else [{"labels": {}, "points": points}],
            }
        )
    return found


@lru_cache(maxsize=4)
def _points(past: Past, over_s: float, start_t: float, value: str) -> list[tuple[float, str]]:
    """Whether an incident lasted, instant by instant."""
    every_s = over_s / max(1, past.incidents)
    points = []
    for n in range(math.floor(over_s / STEP_S) + 1):
        since_s = n * STEP_S
        # The middle of each of as many stretches as there were incidents.
        lasts = past.incidents > 0 and 0 <= since_s % every_s - every_s / 2 < past.incident_s
        if since_s >= past.missing_days * _DAY_S:
            points.append((round(start_t + since_s, 3), value or str(int(lasts))))
    return points
