"""Counts of the edge, cheap enough for every request, as text for Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0)
#: What becomes of a request: answered from the cache, after asking whether it changed, fetched
#: for the cache, passed on because it is not cached at all, or not answered by the origin.
RESULTS = ("hit", "refresh", "miss", "pass", "error")


class Metrics:
    """``edge_requests_total``, ``edge_request_duration_seconds``, ``edge_origin_errors_total``."""

    def __init__(self) -> None:
        self._buckets = {result: [0] * (len(BUCKETS_S) + 1) for result in RESULTS}
        self._sums_s = dict.fromkeys(RESULTS, 0.0)
        self._codes: dict[tuple[str, int], int] = {}
        self._origin_errors: dict[str, int] = {"busy": 0, "late": 0, "unreachable": 0, "5xx": 0}
        self._gauges: dict[str, Callable[[], float]] = {}

    def answered(self, result: str, code: int, duration_s: float) -> None:
        """One request was answered with status ``code`` after ``duration_s`` seconds."""
        key = (result, code)
        self._codes[key] = self._codes.get(key, 0) + 1
        self._buckets[result][bisect_left(BUCKETS_S, duration_s)] += 1
        self._sums_s[result] += duration_s

    def origin_error(self, kind: str) -> None:
        """The origin did not answer as it should: busy, late, unreachable, 5xx."""
        self._origin_errors[kind] += 1

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Expose ``read()`` as ``name`` at each scrape."""
        self._gauges[name] = read

    def count(self, result: str) -> int:
        """How many requests ended so."""
        return sum(n for (of, _), n in self._codes.items() if of == result)

    def render(self) -> bytes:
        """The exposition text."""
        lines = ["# TYPE edge_requests_total counter"]
        codes: Mapping[tuple[str, int], int] = {(r, 200): 0 for r in RESULTS} | self._codes
        for (result, code), n in codes.items():
            lines.append(f'edge_requests_total{{result="{result}",code="{code}"}} {n}')
        lines.append("# TYPE edge_origin_errors_total counter")
        for kind, n in self._origin_errors.items():
            lines.append(f'edge_origin_errors_total{{kind="{kind}"}} {n}')
        name = "edge_request_duration_seconds"
        lines.append(f"# TYPE {name} histogram")
        for result, counts in self._buckets.items():
            total = 0
            for bound, n in zip((*map(str, BUCKETS_S), "+Inf"), counts, strict=True):
                total += n
                lines.append(f'{name}_bucket{{result="{result}",le="{bound}"}} {total}')
            lines.append(f'{name}_sum{{result="{result}"}} {self._sums_s[result]:.6f}')
            lines.append(f'{name}_count{{result="{result}"}} {total}')
        for gauge, read in self._gauges.items():
            lines += [f"# TYPE {gauge} gauge", f"{gauge} {read():.6g}"]
        return ("\n".join(lines) + "\n").encode()
