"""The WSGI application: moto, the lab's private addresses, and the change signal."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from harness.clock import Clock
from harness.lab.aws import overrides
from harness.lab.aws.requests import Requests, Truth
from harness.lab.aws.seed import SeedConfig, backend, seed
from harness.lab.aws.state import snapshot

PRIVATE_PREFIX = "/_lab/"
MAX_WAIT_S = 60.0
METRIC_PERIOD_S = 5.0

Environ = Mapping[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class StateFeed:
    """The current state with a version that grows when it changes, and waiting for that."""

    def __init__(self, read: Callable[[], dict[str, Any]]) -> None:
        self._read = read
        self._changed = threading.Condition()
        self._state = read()
        self.version = 1

    @property
    def state(self) -> dict[str, Any]:
        return self._state

    def refresh(self) -> None:
        """Read again; a new version if anything differs."""
        with self._changed:
            state = self._read_steadily()
            if state != self._state:
                self._state = state
                self.version += 1
                self._changed.notify_all()

    def _read_steadily(self) -> dict[str, Any]:
        """Another thread may be changing what is read: then its own refresh follows."""
        for _ in range(5):
            try:
                return self._read()
            except (RuntimeError, KeyError):
                continue
        return self._state

    def wait(self, after: int, wait_s: float) -> dict[str, Any]:
        """``{"version", "state"}`` once the version is above ``after``, or after ``wait_s``."""
        with self._changed:
            self._changed.wait_for(lambda: self.version > after, min(wait_s, MAX_WAIT_S))
            return {"version": self.version, "state": self._state}


class AwsApp:
    """WSGI: ``/_lab/state``, ``/_lab/truth``, ``/_lab/seed``; everything else is AWS."""

    def __init__(self, config: SeedConfig, clock: Clock) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._config = config
        self._clock = clock
        self._requests = Requests()
        self._truth = Truth()
        self._known_targets: set[str] = set()
        self._truth_lock = threading.Lock()
        self._metrics: dict[tuple[str, str], tuple[float, float]] = {}
        self._seed = seed(config)
        regions = [r.name for r in config.layout.regions]
        self._feed = StateFeed(lambda: snapshot(regions, self._requests))
        overrides.install(
            overrides.Lab(
                config,
                self._requests,
                self._truth,
                lambda: self._feed.state,
                lambda: self._feed.version,
                clock,
            )
        )
        self._aws = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "").startswith(PRIVATE_PREFIX):
            return self._private(environ, start_response)
        try:
            return self._aws(environ, start_response)
        finally:
            # Before the caller has its answer: what it changed can be seen by then.
            self._feed.refresh()

    def _private(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        route = (environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix(PRIVATE_PREFIX))
        try:
            if route == ("GET", "state"):
                query = parse_qs(environ.get("QUERY_STRING", ""))
                after, wait_s = int(_one(query, "after")), float(_one(query, "wait_s"))
                return _reply(start_response, self._feed.wait(after, wait_s))
            if route == ("GET", "seed"):
                return _reply(start_response, self._seed)
            if route == ("PUT", "truth"):
                size = int(environ.get("CONTENT_LENGTH") or 0)
                self.put_truth(json.loads(environ["wsgi.input"].read(size)))
                return _reply(start_response, {"version": self._feed.version})
        except (ValueError, KeyError, TypeError) as error:
            return _reply(start_response, {"error": repr(error)}, "400 Bad Request")
        return _reply(start_response, {"error": "no such address"}, "404 Not Found")

    def put_truth(self, report: Mapping[str, Any]) -> None:
        """Take the supervisor's report (see ``harness.lab.aws.client.AwsState.put_truth``)."""
        with self._truth_lock:
            self._truth.update(report)
            if "targets" in report:
                self._known_targets = overrides.register_targets(
                    self._config, self._truth, self._known_targets
                )
                self._feed.refresh()
            self._publish_metrics()

    def _publish_metrics(self) -> None:
        """CloudWatch: ``HealthCheckStatus`` and ``ReplicaLag``, on change or each few seconds."""
        for check, healthy in self._truth.healthy().items():
            self._metric("AWS/Route53", "HealthCheckStatus", "HealthCheckId", check, healthy)
        for name, entry in self._truth.databases().items():
            if entry.get("lag_s") is not None:
                place = self._seed["databases"].get(name, {}).get("region", "us-east-1")
                lag_s = entry["lag_s"]
                self._metric("AWS/RDS", "ReplicaLag", "DBInstanceIdentifier", name, lag_s, place)

    def _metric(
        self,
        namespace: str,
        name: str,
        dimension: str,
        subject: str,
        value: float,
        region: str = "us-east-1",
    ) -> None:
        now = self._clock.wall_s()
        last_value, last_t = self._metrics.get((name, subject), (None, 0.0))
        if value == last_value and now - last_t < METRIC_PERIOD_S:
            return
        if now - last_t < 1.0 and name == "ReplicaLag":
            return
        self._metrics[name, subject] = (value, now)
        datum = {
            "MetricName": name,
            "Dimensions": [{"Name": dimension, "Value": subject}],
            "Value": float(value),
            # moto compares with instants that carry no zone and mean UTC.
            "Timestamp": datetime.fromtimestamp(now, UTC).replace(tzinfo=None),
            "Unit": "Seconds" if name == "ReplicaLag" else "None",
        }
        backend("cloudwatch", region).put_metric_data(namespace, [datum])


def _one(query: Mapping[str, list[str]], name: str) -> str:
    return query.get(name, ["0"])[0]


def _reply(start_response: StartResponse, value: Any, status: str = "200 OK") -> Iterable[bytes]:
    body = json.dumps(value).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [body]
