"""The load balancer of one region: a real Envoy in front of the gateway pods.

Endpoints come from a file that is replaced in one step (EDS), health from active checks and
from outlier ejection. The settings that are not obvious say why they are there: each one
was needed for a lost zone to leave the rotation within a few seconds.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.lab import binaries, proc
from harness.lab.part import Part, http_get, write_atomically

CLUSTER = "gateway"
STAT_PREFIX = "ingress"
METRICS_PATH = "/stats/prometheus"
#: The ``filter`` parameter of :data:`METRICS_PATH`: only what rules and reports read.
METRICS_FILTER = (
    rf"^http\.{STAT_PREFIX}\.downstream_rq_(\dxx|total|time|active)$"
    rf"|^cluster\.{CLUSTER}\.(upstream_rq_(\dxx|total|retry|retry_success|timeout|time"
    r"|pending_failure_eject)|upstream_cx_connect_fail|membership_(healthy|total)"
    r"|outlier_detection\.ejections_active|health_check\.(failure|success))$"
)
#: Upper bounds of the latency histograms, in ms. 200 is exact: an objective is judged there.
BUCKETS_MS = (1, 2.5, 5, 10, 25, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 2500, 5000, 10000)

#: Short, so that the network model can fill the accept queue of a region that is a black hole.
_BACKLOG = 64
#: Uploads up to this size can be sent again to another host when the first refuses.
_BUFFER_BYTES = 4 * 1024 * 1024
_TYPE = "type.googleapis.com/envoy"


@dataclass(frozen=True)
class HealthCheck:
    """How the load balancer asks its targets; durations in seconds, thresholds in answers."""

    path: str = "/health"
    interval_s: float = 1.0
    timeout_s: float = 0.8
    unhealthy_threshold: int = 2
    healthy_threshold: int = 1


@dataclass(frozen=True)
class Timeouts:
    """How long the load balancer waits, in seconds."""

    connect_s: float = 0.5
    route_s: float = 5.0
    #: Per attempt of a GET or HEAD, which may then be tried on another host.
    read_attempt_s: float = 1.5


class Envoy(Part):
    """Envoy of ``region`` at ``host:port``, its admin interface at ``host:admin_port``.

    ``sticky`` is a seeded defect: a load balancer that keeps sending to the dead zone. It
    checks nothing, ejects nothing, tries nowhere else and never forgets an endpoint.
    """

    def __init__(
        self,
        region: str,
        host: str,
        port: int,
        admin_port: int,
        data_dir: Path,
        log: Path,
        *,
        health_check: HealthCheck | None = None,
        timeouts: Timeouts | None = None,
        sticky: bool = False,
    ) -> None:
        super().__init__(f"envoy-{region}", [(host, port), (host, admin_port)], log)
        self.region = region
        self.host = host
        self.port = port
        self.admin_port = admin_port
        self.data_dir = data_dir.absolute()
        self.sticky = sticky
        self.health_check = health_check or HealthCheck()
        self.timeouts = timeouts or Timeouts()
        #: What :meth:`host_health` last answered.
        self.last_health: dict[tuple[str, int], bool] = {}
        self._endpoints: list[tuple[str, int, str]] = []
        self._weights: dict[tuple[str, int], int] = {}

    def set_endpoints(
        self,
        endpoints: Sequence[tuple[str, int, str]],
        weights: Mapping[tuple[str, int], int] | None = None,
    ) -> None:
        """Balance over these ``(ip, port, zone)``; takes effect within some milliseconds.

        ``weights``: by address, where they do not all get the same share.
        """
        wanted = sorted(set(endpoints) | (set(self._endpoints) if self.sticky else set()))
        shares = dict(weights or {})
        if (wanted, shares) != (self._endpoints, self._weights):
            self._endpoints, self._weights = wanted, shares
            self._write_endpoints()

    async def host_health(self, timeout_s: float = 1.0) -> dict[tuple[str, int], bool]:
        """Whether Envoy sends traffic to each ``(ip, port)``.

        Raises ``OSError``, ``TimeoutError`` or ``aiohttp.ClientError`` when it does not say;
        :attr:`last_health` then keeps the answer before.
        """
        path = "/clusters?format=json"
        _, body = await http_get(self.host, self.admin_port, path, timeout_s=timeout_s)
        found: dict[tuple[str, int], bool] = {}
        for cluster in json.loads(body).get("cluster_statuses", ()):
            if cluster["name"] == CLUSTER:
                for host in cluster.get("host_statuses", ()):
                    address = host["address"]["socket_address"]
                    found[address["address"], address["port_value"]] = _in_rotation(host)
        self.last_health = found
        return found

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._write_endpoints()
        config = self.data_dir / "envoy.json"
        write_atomically(config, json.dumps(self.config(), indent=1))
        argv = [str(binaries.envoy()), "--config-path", str(config)]
        argv += ["--concurrency", "1", "--log-level", "warning"]
        # Hot restart shares memory by id: two regions on one machine would collide.
        argv += ["--disable-hot-restart"]
        return proc.spawn(argv, log=self.log)

    async def _is_ready(self) -> bool:
        status, _ = await http_get(self.host, self.admin_port, "/ready", timeout_s=1.0)
        return status == 200

    def _write_endpoints(self) -> None:
        write_atomically(self._endpoints_file, json.dumps(self._assignment(), indent=1))

    @property
    def _endpoints_file(self) -> Path:
        # A folder of its own: Envoy watches it for the rename.
        return self.data_dir / "endpoints" / f"{CLUSTER}.json"

    # ---- configuration -------------------------------------------------------------------

    def _assignment(self) -> dict[str, Any]:
        zones = sorted({zone for _, _, zone in self._endpoints})
        localities = [
            {
                "locality": {"region": self.region, "zone": zone},
                "lb_endpoints": [
                    {"endpoint": {"address": _address(ip, port)}, **self._weight(ip, port)}
                    for ip, port, of in self._endpoints
                    if of == zone
                ],
            }
            for zone in zones
        ]
        resource = {
            "@type": f"{_TYPE}.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": CLUSTER,
            "endpoints": localities,
        }
        return {"resources": [resource]}

    def _weight(self, ip: str, port: int) -> dict[str, int]:
        """Equal weights are none: Envoy then compares two hosts, else it goes round by weight."""
        if len(set(self._weights.values())) < 2:
            return {}
        return {"load_balancing_weight": self._weights.get((ip, port), 1)}

    def config(self) -> dict[str, Any]:
        """The whole static configuration."""
        return {
            "node": {"id": self.name, "cluster": self.region},
            "admin": {"address": _address(self.host, self.admin_port)},
            # Histograms are only brought up to date when flushed; the default is 5 s.
            "stats_flush_interval": "0.5s",
            "stats_config": {
                "histogram_bucket_settings": [
                    {"match": {"suffix": "rq_time"}, "buckets": list(BUCKETS_MS)}
                ]
            },
            "static_resources": {"listeners": [self._listener()], "clusters": [self._cluster()]},
        }

    def _listener(self) -> dict[str, Any]:
        return {
            "name": STAT_PREFIX,
            "address": _address(self.host, self.port),
            "tcp_backlog_size": _BACKLOG,
            # One accept queue, whatever the number of workers: a black hole must fill it.
            "enable_reuse_port": False,
            "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
            "filter_chains": [{"filters": [_typed(_HTTP_FILTER, self._http_manager())]}],
        }

    def _http_manager(self) -> dict[str, Any]:
        router = {"suppress_envoy_headers": True}
        return {
            "stat_prefix": STAT_PREFIX,
            "codec_type": "HTTP1",
            "use_remote_address": True,
            "skip_xff_append": True,
            # Who served says so itself in its headers.
            "server_header_transformation": "PASS_THROUGH",
            "generate_request_id": False,
            "stream_idle_timeout": "15s",
            "route_config": {
                "name": "routes",
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": self._routes()}],
            },
            "http_filters": [_typed(_ROUTER, router)],
        }

    def _routes(self) -> list[dict[str, Any]]:
        """Routes, first match wins."""
        route_s = _seconds(self.timeouts.route_s)
        region_health = {
            "match": {"path": "/health/region"},
            "route": {"cluster": CLUSTER, "timeout": "1s"},
        }
        reads = {
            "match": {"prefix": "/", "headers": [_method_is("GET|HEAD")]},
            "route": {"cluster": CLUSTER, "timeout": route_s},
        }
        rest = {"match": {"prefix": "/"}, "route": {"cluster": CLUSTER, "timeout": route_s}}
        if not self.sticky:
            # Answers what the region as a whole can do, so one slow pod must not decide it.
            region_health["route"]["retry_policy"] = _retry(_SAFE_TO_REPEAT, 3, attempt_s=0.25)
            attempt_s = self.timeouts.read_attempt_s
            reads["route"]["retry_policy"] = _retry(_SAFE_TO_REPEAT, 2, attempt_s=attempt_s)
            rest["route"]["retry_policy"] = _retry(_NEVER_REACHED, 3)
        return [region_health, reads, rest]

    def _cluster(self) -> dict[str, Any]:
        cluster: dict[str, Any] = {
            "name": CLUSTER,
            "type": "EDS",
            "eds_cluster_config": {
                "eds_config": {
                    "resource_api_version": "V3",
                    "path_config_source": {
                        "path": str(self._endpoints_file),
                        "watched_directory": {"path": str(self._endpoints_file.parent)},
                    },
                }
            },
            "connect_timeout": _seconds(self.timeouts.connect_s),
            "lb_policy": "LEAST_REQUEST",
            # By weight alone while weights differ: a slow version must get its share all the same.
            "least_request_lb_config": {
                "active_request_bias": {"default_value": 0.0, "runtime_key": "lb.bias"}
            },
            # 0: with every host unhealthy answer 503 at once. The default, 50 %, would send
            # traffic to a dead zone as soon as half of the hosts are gone.
            "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
            "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
            "upstream_connection_options": {
                "tcp_keepalive": {
                    "keepalive_probes": 2,
                    "keepalive_time": 5,
                    "keepalive_interval": 1,
                }
            },
        }
        if not self.sticky:
            cluster |= self._ejection()
        return cluster

    def _ejection(self) -> dict[str, Any]:
        check = self.health_check
        interval = _seconds(check.interval_s)
        return {
            # Without it a removed endpoint stays for as long as its health check passes.
            "ignore_health_on_host_removal": True,
            # Requests in flight to a host that just failed its check end at once.
            "close_connections_on_host_health_failure": True,
            "health_checks": [
                {
                    "http_health_check": {"path": check.path},
                    "interval": interval,
                    # The default, 60 s, holds until the first request.
                    "no_traffic_interval": interval,
                    "timeout": _seconds(check.timeout_s),
                    "unhealthy_threshold": check.unhealthy_threshold,
                    "healthy_threshold": check.healthy_threshold,
                }
            ],
            "outlier_detection": {
                # What a target does to a connection (refuses, times out, resets) says sooner
                # than what it answers that it is dead: a 503 may be the database's fault, and
                # ejecting every target for that would make a short outage longer.
                "split_external_local_origin_errors": True,
                "consecutive_local_origin_failure": 3,
                "enforcing_consecutive_local_origin_failure": 100,
                "enforcing_local_origin_success_rate": 0,
                "consecutive_gateway_failure": 10,
                "enforcing_consecutive_gateway_failure": 100,
                "consecutive_5xx": 20,
                "enforcing_success_rate": 0,
                "interval": "0.5s",
                "base_ejection_time": "2s",
                "max_ejection_time": "4s",
                # One of the two zones.
                "max_ejection_percent": 50,
                # A pod can answer /health and still fail: a passing check must not undo this.
                "successful_active_health_check_uneject_host": False,
            },
        }


_HTTP_FILTER = (
    "envoy.filters.network.http_connection_manager",
    "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
)
_ROUTER = ("envoy.filters.http.router", "extensions.filters.http.router.v3.Router")
_OTHER_HOST = (
    "envoy.retry_host_predicates.previous_hosts",
    "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
)
#: The request surely had no effect.
_NEVER_REACHED = "connect-failure,refused-stream,reset-before-request"
#: For reads, which may be repeated.
_SAFE_TO_REPEAT = f"{_NEVER_REACHED},gateway-error,reset"


def _typed(kind: tuple[str, str], config: dict[str, Any]) -> dict[str, Any]:
    name, proto = kind
    return {"name": name, "typed_config": {"@type": f"{_TYPE}.{proto}", **config}}


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _seconds(duration_s: float) -> str:
    return f"{duration_s:.3f}s"


def _method_is(regex: str) -> dict[str, Any]:
    return {"name": ":method", "string_match": {"safe_regex": {"regex": regex}}}


def _retry(on: str, times: int, *, attempt_s: float | None = None) -> dict[str, Any]:
    policy: dict[str, Any] = {
        "retry_on": on,
        "num_retries": times,
        "retry_host_predicate": [_typed(_OTHER_HOST, {})],
        "host_selection_retry_max_attempts": 5,
        "retry_back_off": {"base_interval": "0.010s", "max_interval": "0.050s"},
    }
    if attempt_s is not None:
        policy["per_try_timeout"] = _seconds(attempt_s)
    return policy


def _in_rotation(host: dict[str, Any]) -> bool:
    """True when none of Envoy's reasons to leave a host out holds."""
    status = host.get("health_status", {})
    failed = any(value is True for key, value in status.items() if key.startswith("failed_"))
    return not failed and status.get("eds_health_status", "HEALTHY") == "HEALTHY"
