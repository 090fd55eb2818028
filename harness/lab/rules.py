"""The Prometheus rules of the file service: the one source of them.

The lab gets them with short durations; ``dashboards/rules/service.yaml`` is the same with
production durations, written by ``python -m harness.lab.rules``. Series names follow
``level:metric:operation``; what users meet is read at the load balancer, because a pod that
hangs says nothing about itself.
"""

from __future__ import annotations

import sys
from typing import Any

#: Below this many requests per second a share says nothing.
TRAFFIC_FLOOR = 1
ERROR_SHARE = 0.01
SLOW_SHARE = 0.05
REPLICATION_LAG_S = 5
POD_CHURN = 3

_LB = 'envoy_http_conn_manager_prefix="ingress"'


def rules(*, time_scale: float = 1.0, window_s: int = 60) -> dict[str, Any]:
    """A Prometheus rule file as plain values.

    ``time_scale`` divides how long an alert's condition must hold; ``window_s`` is the window
    of the rates and should be at least four scrape intervals.
    """
    return {
        "groups": [
            {"name": "service-recording", "rules": _recording(window_s)},
            {"name": "service-alerts", "rules": _alerts(time_scale, window_s)},
        ]
    }


def _recording(window_s: int) -> list[dict[str, str]]:
    w = duration(window_s)
    answered = f"rate(envoy_http_downstream_rq_xx{{{_LB}}}[{w}])"
    errors = f'rate(envoy_http_downstream_rq_xx{{{_LB},envoy_response_code_class="5"}}[{w}])'
    # A bucket boundary lies exactly at 200 ms, so the share below it is exact.
    fast = f'rate(envoy_http_downstream_rq_time_bucket{{{_LB},le="200"}}[{w}])'
    timed = f"rate(envoy_http_downstream_rq_time_count{{{_LB}}}[{w}])"
    return [
        {"record": f"region:http_requests:rate{w}", "expr": f"sum by (region) ({answered})"},
        {"record": f"region:http_errors:rate{w}", "expr": f"sum by (region) ({errors})"},
        {
            "record": f"region:http_errors:ratio_rate{w}",
            "expr": f"region:http_errors:rate{w} / (region:http_requests:rate{w} > 0)",
        },
        {
            "record": f"region:http_requests_over_200ms:ratio_rate{w}",
            "expr": f"1 - sum by (region) ({fast}) / (sum by (region) ({timed}) > 0)",
        },
        {"record": "region_zone_app:up:sum", "expr": f"sum by (region, zone, app) ({_PODS_UP})"},
    ]


_PODS_UP = 'up{job="services"}'


def _alerts(time_scale: float, window_s: int) -> list[dict[str, Any]]:
    w = duration(window_s)
    busy = f"on (region) region:http_requests:rate{w} > {TRAFFIC_FLOOR}"

    def alert(
        name: str, expr: str, hold_s: float, severity: str, summary: str, description: str
    ) -> dict[str, Any]:
        return {
            "alert": name,
            "expr": expr,
            "for": duration(max(1, round(hold_s / time_scale))),
            "labels": {"severity": severity},
            "annotations": {"summary": summary, "description": description},
        }

    return [
        alert(
            "ServiceErrorRateHigh",
            f"region:http_errors:ratio_rate{w} > {ERROR_SHARE} and {busy}",
            30,
            "critical",
            "{{ $labels.region }}: {{ $value | humanizePercentage }} of the requests fail",
            f"More than {ERROR_SHARE:.0%} of the answers of the load balancer are 5xx.",
        ),
        alert(
            "ServiceLatencyHigh",
            f"region:http_requests_over_200ms:ratio_rate{w} > {SLOW_SHARE} and {busy}",
            30,
            "warning",
            "{{ $labels.region }}: {{ $value | humanizePercentage }} of the requests are slow",
            f"More than {SLOW_SHARE:.0%} of the requests take longer than 200 ms: p95 is above it.",
        ),
        alert(
            "RegionDown",
            'max by (region) (envoy_cluster_membership_healthy{envoy_cluster_name="gateway"}) == 0'
            ' or max by (region) (up{job="envoy"}) == 0',
            20,
            "critical",
            "{{ $labels.region }} serves nobody",
            "The load balancer has no healthy target, or does not answer itself.",
        ),
        alert(
            "ServiceDown",
            "region_zone_app:up:sum == 0",
            20,
            "critical",
            "{{ $labels.app }} is down in {{ $labels.zone }}",
            "Not one pod of it answers Prometheus there.",
        ),
        alert(
            "TargetDown",
            "up == 0",
            30,
            "warning",
            "{{ $labels.job }} {{ $labels.instance }} does not answer",
            "Prometheus has got no metrics from it for some time.",
        ),
        alert(
            "ReplicationLagHigh",
            f"max by (region) (store_replication_lag_seconds) > {REPLICATION_LAG_S}",
            30,
            "warning",
            "objects of {{ $labels.region }} are {{ $value | humanizeDuration }} behind",
            f"The oldest object not yet copied to the other region waits for over "
            f"{REPLICATION_LAG_S} s: losing the region now would lose it.",
        ),
        alert(
            "PodChurnHigh",
            "count by (zone, app) (count by (zone, app, pod) "
            f"(last_over_time({_PODS_UP}[{duration(window_s * 5)}])))"
            f" - count by (zone, app) ({_PODS_UP}) > {POD_CHURN}",
            10,
            "warning",
            "{{ $labels.app }} in {{ $labels.zone }} lost {{ $value }} pods",
            "Pods are being replaced again and again: they crash, or something kills them.",
        ),
    ]


def duration(seconds: float) -> str:
    """Prometheus duration of whole seconds: 60 → ``1m``, 90 → ``90s``."""
    whole = round(seconds)
    return f"{whole // 60}m" if whole % 60 == 0 else f"{whole}s"


HEADER = "# Written by `python -m harness.lab.rules > dashboards/rules/service.yaml`; edit there.\n"


def as_yaml() -> str:
    """The rule file with production durations, as it is in ``dashboards/rules/``."""
    from io import StringIO

    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = StringIO()
    yaml.dump(rules(), out)
    return HEADER + out.getvalue()


if __name__ == "__main__":
    sys.stdout.write(as_yaml())
