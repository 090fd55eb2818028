"""A target such as tests need: two regions, three clusters, everything named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.target.model import Cluster, Database, Region, Target

EAST = Region(
    name="us-east-1",
    health_check_id="hc-east",
    target_group_arn="arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/gw/1",
    bucket="files-us-east-1",
    vpc_id="vpc-east",
    subnets={"us-east-1a": ("subnet-a",), "us-east-1b": ("subnet-b",)},
    addresses=("127.108.1.1",),
)
WEST = Region(
    name="us-west-2",
    health_check_id="hc-west",
    target_group_arn=None,
    bucket="files-us-west-2",
    vpc_id=None,
    addresses=("127.108.3.1",),
)


def sample(**changes: Any) -> Target:
    """The target, with some fields changed."""
    target = Target(
        name="sample",
        simulated=True,
        time_scale=10.0,
        service_url="http://api.fileservice.lab:8080",
        primary="us-east-1",
        standby="us-west-2",
        account="123456789012",
        regions=(EAST, WEST),
        clusters=(
            Cluster("us-east-1a", "us-east-1a", "us-east-1", "us-east-1a", 2),
            Cluster("us-east-1b", "us-east-1b", "us-east-1", "us-east-1b", None),
            Cluster("us-west-2", "us-west-2", "us-west-2", "us-west-2a", 2),
        ),
        databases=(
            Database("files-db", "us-east-1", "us-east-1a"),
            Database("files-db-west", "us-west-2", "us-west-2a"),
        ),
        namespace="files",
        kubeconfig="/somewhere/kubeconfig",
        prometheus_url="http://127.108.0.90:9090",
        aws_endpoint_url="http://127.108.0.20:4566",
        dns_server="127.108.0.53:5353",
        hosted_zone_id="Z1",
        db_writer_host="db-writer.fileservice.lab",
        scrape_interval_s=1.0,
        environment={"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"},
        simulates=("Route 53",),
    )
    return replace(target, **changes)
