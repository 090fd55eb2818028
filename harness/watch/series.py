"""Prometheus's side of the run, saved whole into the run folder.

Each range is kept as Prometheus answered it, values as strings (NaN stays NaN),
warnings included. A query that failed is saved with its error: a file that says why
there is nothing is evidence, a missing file would be a gap nobody can explain.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.clock import Clock
from harness.errors import EvidenceError, Where
from harness.evidence.run import write_atomic
from harness.secrets import redact
from harness.target.connect import prometheus
from harness.target.model import Target

if TYPE_CHECKING:
    from harness.target.prometheus import PrometheusReader

#: Prometheus refuses a range of more points per series than this.
POINTS_MAX = 11_000
#: Seconds one range query may take.
QUERY_DEADLINE_S = 10.0

#: Months before a run are looked at minute by minute.
PAST_STEP_S = 60.0
#: Length of the pieces in which samples are asked for.
SAMPLES_PIECE_S = 600.0

#: name → query; what the judge and the report read.
SERIES: dict[str, str] = {
    "gateway_requests": 'http_requests_total{service="gateway"}',
    "gateway_latency_bucket": (
        'http_request_duration_seconds_bucket{service="gateway",le=~"0.2|\\\\+Inf"}'
    ),
    # What each pod served: which version users met. Requests of users only.
    "requests_by_pod": (
        'sum by (service, pod) (http_requests_total{op!~"health|metrics|other|synthetic|token"})'
    ),
    "envoy_responses": 'envoy_http_downstream_rq_xx{envoy_http_conn_manager_prefix="ingress"}',
    "up": "up",
    "store_replication_pending": "store_replication_pending",
    "alerts": "ALERTS",
}
#: Counters that are compared with the clients' counts: kept as scraped, each with its instant.
AS_SCRAPED = frozenset({"gateway_requests", "gateway_latency_bucket"})


@dataclass(frozen=True)
class Fetched:
    """One series file."""

    name: str
    query: str
    step_s: float
    start: float
    end: float
    status: str
    warnings: list[str]
    fetched_t: float
    error: str | None
    result: list[dict[str, Any]]


def fetch_series(
    target: Target,
    run_dir: Path,
    clock: Clock,
    *,
    start: float | None = None,
    end: float | None = None,
    table: Mapping[str, str] = SERIES,
    own: Mapping[str, str] = MappingProxyType({}),
    past: Mapping[str, tuple[str, float]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Save every query of ``table`` and of the plan's ``own`` from ``start`` to ``end`` (wall
    seconds); returns the index.

    ``past`` has expressions (name → PromQL, seconds) that are asked for the time before ``start``:
    their greatest value within each minute.

    ``start`` defaults to the ``run.start`` in the run's history, ``end`` to now. The step
    is the scrape interval. Calling it again replaces the files. Raises EvidenceError
    when the run has no start; a failing query is recorded, not raised.
    """
    start = _run_start(run_dir) if start is None else start
    end = clock.wall_s() if end is None else end
    reader = prometheus(target, timeout_s=QUERY_DEADLINE_S, clock=clock)
    try:
        entries = [
            _save(fetch(reader, name, query, start, end, target.scrape_interval_s, clock), run_dir)
            for name, query in {**table, **own}.items()
        ]
        for name, (query, over_s) in past.items():
            within = f"max_over_time(({query})[{PAST_STEP_S:g}s:{_resolution_s(target):g}s])"
            before = fetch(reader, name, within, start - over_s, start, PAST_STEP_S, clock)
            entries.append(_save(before, run_dir))
    finally:
        reader.close()
    index = {"series": entries}
    write_atomic(run_dir / "series" / "index.json", _encode(index))
    return index


def _resolution_s(target: Target) -> float:
    """How closely the time before a run is looked at: by scrapes, within reason."""
    return min(PAST_STEP_S, max(15.0, target.scrape_interval_s))


def fetch(
    reader: PrometheusReader,
    name: str,
    query: str,
    start: float,
    end: float,
    step_s: float,
    clock: Clock,
) -> Fetched:
    """The range of one query, asked in pieces small enough for Prometheus.

    One of :data:`AS_SCRAPED` is a plain selector, of which the samples are kept.
    """
    from harness.target.prometheus import PrometheusGap

    merged: dict[str, dict[str, Any]] = {}
    warnings: list[str] = []
    status, error = "success", None
    try:
        if name in AS_SCRAPED:
            answers = (reader.samples(query, *piece) for piece in samples_pieces(start, end))
        else:
            answers = (reader.range(query, *p, step_s) for p in pieces(start, end, step_s))
        for answer in answers:
            warnings += [w for w in answer.warnings if w not in warnings]
            for series in answer.result:
                key = json.dumps(series["labels"], sort_keys=True)
                kept = merged.setdefault(key, {"labels": series["labels"], "points": []})
                last_t = kept["points"][-1][0] if kept["points"] else -math.inf
                kept["points"] += [point for point in series["points"] if point[0] > last_t]
    except PrometheusGap as gap:
        status, error = "error", f"{gap.reason}: {gap.detail}"
    result = [merged[key] for key in sorted(merged)]
    return Fetched(name, query, step_s, start, end, status, warnings, clock.wall_s(), error, result)


def pieces(start: float, end: float, step_s: float) -> Iterator[tuple[float, float]]:
    """``(start, end)`` of consecutive ranges on one grid, each of ≤ :data:`POINTS_MAX` points."""
    points = max(0, math.floor((end - start) / step_s + 1e-9)) + 1
    for first in range(0, points, POINTS_MAX):
        last = min(points, first + POINTS_MAX) - 1
        yield round(start + first * step_s, 3), round(start + last * step_s, 3)


def samples_pieces(start: float, end: float) -> Iterator[tuple[float, float]]:
    """``(start, end)`` of consecutive pieces; what lies on an edge may be in both."""
    count = max(1, math.ceil((end - start) / SAMPLES_PIECE_S))
    for index in range(count):
        first = start + index * SAMPLES_PIECE_S
        yield round(first, 3), round(min(end, first + SAMPLES_PIECE_S), 3)


def _run_start(run_dir: Path) -> float:
    history = run_dir / "history.jsonl"
    try:
        with history.open(encoding="utf-8") as lines:
            for line in lines:
                if '"run.start"' in line:
                    return float(json.loads(line)["t"])
    except (OSError, ValueError, KeyError) as error:
        raise EvidenceError(
            f"the history cannot be read: {error}", where=Where(str(history))
        ) from error
    raise EvidenceError("the history has no run.start", where=Where(str(history)))


def _save(fetched: Fetched, run_dir: Path) -> dict[str, Any]:
    document = _encode(asdict(fetched))
    file = f"{fetched.name}.json"
    write_atomic(run_dir / "series" / file, document)
    return {
        "name": fetched.name,
        "file": file,
        "query": fetched.query,
        "step_s": fetched.step_s,
        "start": fetched.start,
        "end": fetched.end,
        "sha256": hashlib.sha256(document).hexdigest(),
    }


def _encode(document: Any) -> bytes:
    """As it is written: redacted before its digest is taken."""
    return (redact(json.dumps(document, separators=(",", ":"))) + "\n").encode()
