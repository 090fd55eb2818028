"""Figures from the bench's JSON: medians, ratios within a round, and the bounds that must hold.

Pure functions. A figure is None where it was not measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.bench.workloads import WORKLOADS

#: Names of contestants.
ENGINE, EVENT, FULL = "engine", "event", "full"
WEIGHTED = "weighted"

Results = Mapping[str, Any]


class Spread(NamedTuple):
    """Median of the rounds, and the least and greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        return cls(statistics.median(values), min(values), max(values)) if values else None


def by_round(
    results: Results, scenario: str, workload: str, name: str, key: str = "cpu_us"
) -> dict[int, float]:
    """round → a figure of one contestant. ``wrk`` has a mix of its own: see :func:`weighted`."""
    found = results.get(scenario, {})
    samples = (found.get(workload, {}) if workload else found).get(name, [])
    return {sample["round"]: sample[key] for sample in samples}


def cpu(results: Results, workload: str, name: str) -> dict[int, float]:
    """round → CPU µs per request, flat out."""
    found = by_round(results, "closed", workload, name)
    if not found and name == "wrk" and workload == "mix":
        return weighted(results, name)
    return found


def weighted(results: Results, name: str) -> dict[int, float]:
    """What the mix would cost, from the costs of its requests in the same round."""
    total = sum(WORKLOADS["mix"].values())
    parts = {request: cpu(results, request.name, name) for request in WORKLOADS["mix"]}
    rounds = set.intersection(*(set(part) for part in parts.values()))
    return {
        number: sum(part[number] * WORKLOADS["mix"][r] / total for r, part in parts.items())
        for number in sorted(rounds)
    }


def ratio(above: Mapping[int, float], below: Mapping[int, float]) -> Spread | None:
    """Of two contestants in the same rounds."""
    return Spread.of([above[n] / below[n] for n in sorted(set(above) & set(below))])


@dataclass(frozen=True)
class Bound:
    """Something that must hold: ``value`` at most (or at least) ``limit``.

    ``value`` None: not measured, because of ``why``. For a spread its median counts.
    """

    what: str
    limit: float
    value: Spread | float | None
    at_most: bool = True
    unit: str = ""
    why: str = ""

    @property
    def met(self) -> bool | None:
        """None where there is nothing to say."""
        if self.value is None:
            return None
        value = self.value.median if isinstance(self.value, Spread) else self.value
        return value <= self.limit if self.at_most else value >= self.limit


def bounds(results: Results) -> list[Bound]:
    """Every bound, in order, with what was measured."""
    missing = {tool["name"]: tool["get"] for tool in results.get("missing", [])}

    def between(above: str, below: str, workload: str, limit: float, at_most: bool):
        absent = [name for name in (above, below) if name in missing]
        titles = {EVENT: "ours (declared, event)", FULL: "ours (tasks)", ENGINE: "ours (engine)"}
        names = [titles.get(n, _TITLES.get(n, n)) for n in (above, below)]
        return Bound(
            f"{names[0]} / {names[1]}, {_WORKLOADS[workload]}",
            limit,
            ratio(cpu(results, workload, above), cpu(results, workload, below)),
            at_most,
            "×",
            f"{', '.join(absent)} not installed" if absent else "",
        )

    closed = []
    for ours in (EVENT, FULL):
        closed += [
            between("fast", ours, "mix", 5.0, False),
            between(ours, "hey", "small", 1.0, True),
            between("k6", ours, "mix", 4.0, False),
            between("vegeta", ours, "mix", 2.0, False),
        ]
    closed += [
        between("fast", ENGINE, "mix", 9.0, False),
        between(ENGINE, "wrk", "small", 1.3, True),
        between(ENGINE, "wrk", "large", 0.8, True),
        between(ENGINE, "wrk", "upload", 0.8, True),
        between(ENGINE, "wrk", "tls", 1.3, True),
    ]
    return [
        *closed,
        *_open_bounds(results),
        *_freeze_bounds(results),
        *_pace_bounds(results, missing),
        *_many_bounds(results),
        *_own_bounds(results),
    ]


_TITLES = {"fast": "FastHttpUser"}
_WORKLOADS = {
    "small": "GET 200 B",
    "large": "GET 64 KiB",
    "upload": "PUT 256 KiB",
    "mix": "mix",
    "tls": "TLS GET 200 B",
}


def _first(results: Results, scenario: str, name: str) -> Mapping[str, Any] | None:
    samples = results.get(scenario, {}).get(name)
    return samples[0] if samples else None


def _figure(sample: Mapping[str, Any] | None, figure: Callable[[Any], float]) -> float | None:
    return figure(sample) if sample else None


def _open_bounds(results: Results) -> list[Bound]:
    def of(scenario: str, figure: Callable[[Any], float]) -> Spread | None:
        return Spread.of([figure(s) for s in results.get(scenario, {}).get(ENGINE, [])])

    def unsent(sample: Mapping[str, Any]) -> float:
        return float(sample["planned"] - sample["sent"])

    return [
        Bound("10,000/s of the mix, planned − sent", 0, of("open", unsent)),
        Bound("10,000/s, cores used", 0.5, of("open", lambda s: s["cores"]), unit="cores"),
        Bound(
            "10,000/s, lateness p99",
            1.0,
            of("open", lambda s: s["lateness_ms"]["p99"]),
            unit="ms",
        ),
        Bound("40,000/s from two workers, planned − sent", 0, of("two_workers", unsent)),
    ]


def _freeze_bounds(results: Results) -> list[Bound]:
    frozen, still = _first(results, "freeze", ENGINE), _first(results, "still", ENGINE)

    def off(name: str) -> Callable[[Any], float]:
        return lambda s: abs(s["latency_ms"][name] / s["truth_ms"][name] - 1) * 100

    p50 = None
    if frozen and still:
        p50 = frozen["latency_ms"]["p50"] / still["latency_ms"]["p50"]
    return [
        Bound("frozen, p95 off the truth by", 10.0, _figure(frozen, off("p95")), unit="%"),
        Bound("frozen, p99 off the truth by", 2.0, _figure(frozen, off("p99")), unit="%"),
        Bound("frozen, max off the truth by", 2.0, _figure(frozen, off("max")), unit="%"),
        Bound("frozen, p50 / p50 without stalls", 2.0, p50, unit="×"),
    ]


def _pace_bounds(results: Results, missing: Mapping[str, str]) -> list[Bound]:
    pace = results.get("pace", {})

    def quantile(name: str, which: str) -> dict[int, float]:
        return {s["round"]: s["latency_ms"][which] for s in pace.get(name, [])}

    return [
        Bound(
            f"10,000/s, {which}: ours / {other}",
            0.3,
            ratio(quantile(ENGINE, which), quantile(other, which)),
            unit="×",
            why=f"{other} not installed" if other in missing else "",
        )
        for other in ("hey", "wrk2")
        for which in ("p50", "p99")
    ]


def _many_bounds(results: Results) -> list[Bound]:
    found = results.get("many", {})
    why = found.get("not_measured", "")
    return [
        Bound(
            f"new connections per request above 10,000, {title}",
            0.0,
            _figure(
                None if why else _first(results, "many", name),
                lambda s: s["new_connections"] / s["window_requests"],
            ),
            why=why,
        )
        for name, title in ((ENGINE, "engine"), (FULL, "tasks"))
    ]


def _own_bounds(results: Results) -> list[Bound]:
    recording = results.get("recording")
    cost = Spread.of([x / 2 for x in recording["request_us"]]) if recording else None
    return [Bound("recording a duration", 0.3, cost, unit="µs")]
