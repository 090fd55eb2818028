"""Prometheus exposition cheap enough to sit in every request.

A registry holds plain dictionaries; text is made only when scraped. The labels
that never change in a process (region, zone, pod, version) are rendered once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0)
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_Labels = tuple[tuple[str, str], ...]


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Metrics:
    """Counters, gauges and one histogram of request durations, all with constant labels."""

    def __init__(self, constant: Mapping[str, str]) -> None:
        self._constant = ",".join(f'{k}="{_escape(v)}"' for k, v in constant.items())
        self._counters: dict[str, dict[_Labels, float]] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self._requests: dict[tuple[str, str, int], int] = {}
        self._durations: dict[tuple[str, str], tuple[list[int], list[float]]] = {}

    def inc(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add ``amount`` to the counter ``name`` with ``labels``."""
        series = self._counters.setdefault(name, {})
        key = tuple(labels.items())
        series[key] = series.get(key, 0) + amount

    def counter(self, name: str) -> None:
        """Declare a counter so that it is exposed as 0 before its first event."""
        self._counters.setdefault(name, {}).setdefault((), 0)

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Expose ``read()`` as a gauge at each scrape."""
        self._gauges[name] = read

    def observe(self, service: str, op: str, code: int, duration_s: float) -> None:
        """Count one answered request and the time it took, in seconds."""
        key = (service, op, code)
        self._requests[key] = self._requests.get(key, 0) + 1
        entry = self._durations.get((service, op))
        if entry is None:
            entry = ([0] * (len(BUCKETS_S) + 1), [0.0])
            self._durations[(service, op)] = entry
        entry[0][bisect_left(BUCKETS_S, duration_s)] += 1
        entry[1][0] += duration_s

    def render(self) -> bytes:
        """The exposition text."""
        lines: list[str] = []
        for name, series in self._counters.items():
            lines.append(f"# TYPE {name} counter")
            lines += [f"{name}{self._labels(labels)} {value:g}" for labels, value in series.items()]
        for name, read in self._gauges.items():
            lines += [f"# TYPE {name} gauge", f"{name}{self._labels(())} {read():.6g}"]
        self._render_requests(lines)
        return ("\n".join(lines) + "\n").encode()

    def _labels(self, labels: _Labels) -> str:
        own = ",".join(f'{k}="{_escape(v)}"' for k, v in labels)
        both = ",".join(part for part in (own, self._constant) if part)
        return f"{{{both}}}" if both else ""

    def _render_requests(self, lines: list[str]) -> None:
        lines.append("# TYPE http_requests_total counter")
        for (service, op, code), count in self._requests.items():
            labels = self._labels((("service", service), ("op", op), ("code", str(code))))
            lines.append(f"http_requests_total{labels} {count}")
        name = "http_request_duration_seconds"
        lines.append(f"# TYPE {name} histogram")
        for (service, op), (counts, total) in self._durations.items():
            pair = (("service", service), ("op", op))
            cumulative = 0
            for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), counts, strict=True):
                cumulative += count
                lines.append(f"{name}_bucket{self._labels((*pair, ('le', bound)))} {cumulative}")
            lines.append(f"{name}_sum{self._labels(pair)} {total[0]:.6f}")
            lines.append(f"{name}_count{self._labels(pair)} {cumulative}")
