"""What a client of the lab needs: kubeconfig, endpoints, ids. Written as a target file.

The same keys describe a real cloud (docs/target-example.yaml); the lab is only one more target.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from harness.lab import layout as names
from harness.lab.assembly import Parts
from harness.lab.aws.seed import NODES_PER_ZONE
from harness.lab.health import CONNECT_TIMEOUT_S, MIN_TIMEOUT_S
from harness.lab.kube.cluster import kubeconfig
from harness.lab.part import write_atomically

SIMULATES = (
    "Kubernetes API of three clusters; pods are processes",
    "Argo Rollouts: canary with analysis, blue/green; Envoy shares by weight",
    "AWS API (moto) joined to the processes: network ACLs, instances, RDS, Route 53",
    "CloudFront: one edge with a cache for downloads and images, outside every region",
    "DNS with Route 53 failover and health checks; AWS intervals divided by the time scale",
    "Envoy for the load balancers; PostgreSQL, Redis, NATS and Prometheus are the real programs",
    "zone and region loss as black holes: processes stopped, connections time out",
)
#: Planned arrivals a second that the services carry beside a generator on two cores.
ORIGIN_RATE_MAX = 400.0
NOT_SIMULATED = (
    "Elasticsearch, EFS, Glacier, TLS, IAM and Kubernetes RBAC",
    "network latency between zones and regions, and partial packet loss",
    "the time an EKS node or an RDS instance takes: a lab time is not a production time",
)


def write_target_file(state_dir: Path, parts: Parts, time_scale: float) -> None:
    """Write ``target.yaml`` and ``kubeconfig`` into ``state_dir``."""
    kubeconfig_path = state_dir / "kubeconfig"
    write_atomically(kubeconfig_path, yaml.safe_dump(kubeconfig(list(parts.clusters.values()))))
    write_atomically(
        state_dir / "target.yaml",
        yaml.safe_dump(_document(parts, time_scale, kubeconfig_path), sort_keys=False),
    )


def _document(parts: Parts, time_scale: float, kubeconfig_path: Path) -> dict[str, Any]:
    layout, seed = parts.layout, parts.seed
    aws_url = f"http://{layout.aws}:{names.AWS_PORT}"
    return {
        "name": "lab",
        "simulated": True,
        "time_scale": time_scale,
        "service_url": f"http://{names.SERVICE_HOST}:{names.LB_PORT}",
        "edge_url": f"http://{names.EDGE_HOST}:{names.EDGE_PORT}",
        "origin_rate_max": ORIGIN_RATE_MAX,
        "primary": names.PRIMARY_REGION,
        "standby": names.STANDBY_REGION,
        "account": seed["account"],
        "regions": [_region(parts, r) for r in layout.regions],
        "clusters": [
            {
                "name": z.cluster,
                "context": z.cluster,
                "region": z.region,
                "zone": z.name,
                "nodes": NODES_PER_ZONE,
            }
            for z in layout.zones
        ],
        "databases": [
            {"instance": z.db_instance, "region": z.region, "zone": z.name} for z in layout.zones
        ],
        "namespace": names.NAMESPACE,
        "kubeconfig": str(kubeconfig_path.resolve()),
        "prometheus_url": f"http://{layout.prometheus}:{names.PROMETHEUS_PORT}",
        "alertmanager_url": f"http://{layout.alertmanager}:{names.ALERTMANAGER_PORT}"
        if parts.alertmanager
        else None,
        "alert_receivers": _receivers(parts) if parts.alertmanager else None,
        "aws_endpoint_url": aws_url,
        "dns_server": f"{layout.dns}:{names.DNS_PORT}",
        "hosted_zone_id": seed["hosted_zone_id"],
        "db_writer_host": names.DB_WRITER_HOST,
        "scrape_interval_s": 1.0,
        # As the lab's checkers really wait: a second at least, however much time is scaled.
        "check_connect_s": max(CONNECT_TIMEOUT_S, MIN_TIMEOUT_S * time_scale),
        "environment": {
            "KUBECONFIG": str(kubeconfig_path.resolve()),
            "AWS_ENDPOINT_URL": aws_url,
            # Object data is in the region's store; bucket settings are in the API above.
            "AWS_ENDPOINT_URL_S3": f"http://{layout.store(names.PRIMARY_REGION)}:{names.STORE_PORT}",
            "AWS_ACCESS_KEY_ID": "lab",
            "AWS_SECRET_ACCESS_KEY": "lab",
            "AWS_DEFAULT_REGION": names.PRIMARY_REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        },
        "simulates": list(SIMULATES),
        "not_simulated": list(NOT_SIMULATED),
    }


def _receivers(parts: Parts) -> dict[str, Any]:
    """Where Alertmanager delivers to, for who wants to be told."""
    to = parts.delivery
    found = {"http": to.http, "smtp": to.smtp, "token": to.token}
    return {**found, "receivers": dict(names.RECEIVERS)}


def _region(parts: Parts, region: names.Region) -> dict[str, Any]:
    found = parts.seed["regions"][region.name]
    return {
        "name": region.name,
        "health_check_id": found["health_check_id"],
        "target_group_arn": found["target_group_arn"],
        "bucket": found["bucket"],
        "vpc_id": found["vpc_id"],
        "subnets": {zone: list(z["subnets"]) for zone, z in found["zones"].items()},
        "addresses": [parts.layout.lb(region.name)],
    }
