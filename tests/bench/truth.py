"""What the percentiles of an open load are when its target stands still now and then."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tests.bench.target import Stall


def latencies_ms(
    planned_t: Iterable[float], stalls: Sequence[Stall], service_ms: float
) -> list[float]:
    """Of arrivals at these wall instants: what is left of the stall each falls into, and then
    the service time of a target that keeps up. The queue after a stall is left out."""
    ordered = sorted(stalls)
    found = []
    at = 0
    for t in sorted(planned_t):
        while at < len(ordered) and ordered[at].to_t <= t:
            at += 1
        waits = at < len(ordered) and ordered[at].from_t <= t
        found.append(service_ms + ((ordered[at].to_t - t) * 1000 if waits else 0.0))
    return found


def percentiles_ms(latencies: Iterable[float]) -> dict[str, float]:
    """p50, p95, p99 (nearest rank) and max. Raises ValueError when there are none."""
    ordered = sorted(latencies)
    if not ordered:
        raise ValueError("no latencies")
    names = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {
        name: ordered[max(0, math.ceil(round(q * len(ordered), 6)) - 1)]
        for name, q in names.items()
    }
