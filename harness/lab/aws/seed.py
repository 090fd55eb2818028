"""The account the lab starts with: what a platform team would have built with Terraform.

Built by calling moto's backends in process, because the same over HTTP is the slowest
step of a lab's start. Everything that can carry tags carries ``chaos=allowed``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.lab import layout as lab
from harness.lab.layout import Layout, Region, Zone

ACCOUNT = "123456789012"
NODES_PER_ZONE = 2
#: Passing checks in a row before a load balancer takes a target back.
HEALTHY_THRESHOLD = 3
ZONE_DOMAIN = "fileservice.lab"
#: The primary is healthy while the writer's name leads into it, so DNS returns only after
#: the database did; the standby is healthy while it could take over.
PRIMARY_HEALTH_PATH = "/health/region"
STANDBY_HEALTH_PATH = "/health"
TAGS = {"chaos": "allowed", "project": "fileservice"}
#: The writer, its replica in the second zone, its replica in the other region.
PRIMARY_DB, ZONE_REPLICA_DB, REGION_REPLICA_DB = (zone.db_instance for zone in lab.ZONES)


@dataclass(frozen=True)
class SeedConfig:
    """What the seed depends on. Intervals and TTLs are AWS ones, before ``time_scale``."""

    base: int
    time_scale: float = 1.0
    service_ttl_s: int = 20
    db_ttl_s: int = 5
    check_interval_s: int = 10
    failure_threshold: int = 3
    target_interval_s: int = 10
    kube_scheme: str = "http"

    @property
    def layout(self) -> Layout:
        return Layout(self.base)

    def write(self, path: Path) -> Path:
        """Save as the JSON file that ``harness.lab.aws.server --seed`` reads."""
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def read(cls, path: Path) -> SeedConfig:
        return cls(**json.loads(path.read_text()))


def db_address(instance: str, region: str) -> str:
    """Endpoint name of an RDS instance; the lab's DNS answers for it."""
    return f"{instance}.{region}.rds.{ZONE_DOMAIN}"


def lb_address(name: str, region: str) -> str:
    """DNS name of a load balancer; the lab's DNS answers for it."""
    return f"{name}.{region}.elb.{ZONE_DOMAIN}"


def tag_list(**more: str) -> list[dict[str, str]]:
    """The tags everything carries, and ``more``, as AWS lists."""
    return [{"Key": k, "Value": v} for k, v in {**TAGS, **more}.items()]


def backend(service: str, region: str) -> Any:
    """moto's backend of ``service``; global services live under the region ``aws``."""
    from moto.backends import get_backend

    return get_backend(service)[ACCOUNT][region]


def seed(config: SeedConfig) -> dict[str, Any]:
    """Build the account and return :func:`describe`'s answer. Call once per process."""
    regions = {r.name: _network(config, r) for r in config.layout.regions}
    for region in config.layout.regions:
        _load_balancer(config, region, regions[region.name])
        _cache(config, region)
    _databases(config)
    _buckets(config)
    health_checks = {r.name: _health_check(config, r) for r in config.layout.regions}
    hosted_zone = _records(config, health_checks)
    for name, region in regions.items():
        region["health_check_id"] = health_checks[name]
    return describe(config, regions, hosted_zone)


def _network(config: SeedConfig, region: Region) -> dict[str, Any]:
    """VPC, a subnet per zone, nodes and EKS clusters of a region."""
    ec2 = backend("ec2", region.name)
    vpc = ec2.create_vpc(f"127.{config.base}.0.0/16", tags=tag_list(Name=f"files-{region.name}"))
    image = ec2.register_image(name="files-node")
    found: dict[str, Any] = {"vpc_id": vpc.id, "bucket": region.bucket, "zones": {}}
    for zone in config.layout.zones_in(region.name):
        subnet = ec2.create_subnet(
            vpc.id, f"127.{config.base}.{zone.octet}.0/24", availability_zone=zone.name
        )
        subnet.add_tags({**TAGS, "Name": f"files-{zone.name}", "AZ_FAILURE": "True"})
        nodes = [_node(config, ec2, image.id, subnet.id, zone, i) for i in range(NODES_PER_ZONE)]
        _cluster(config, zone, subnet.id)
        found["zones"][zone.name] = {
            "cluster": zone.cluster,
            "subnets": [subnet.id],
            "instances": nodes,
        }
    return found


def _node(
    config: SeedConfig, ec2: Any, image: str, subnet: str, zone: Zone, index: int
) -> dict[str, str]:
    ip = f"127.{config.base}.{zone.octet}.{240 + index}"
    tags = {
        **TAGS,
        "Name": f"{zone.cluster}-node-{index}",
        "AZ_FAILURE": "True",
        "eks:cluster-name": zone.cluster,
        f"kubernetes.io/cluster/{zone.cluster}": "owned",
    }
    reservation = ec2.run_instances(
        image,
        1,
        None,
        [],
        instance_type="m5.large",
        is_instance_type_default=False,
        region_name=zone.region,
        placement=zone.name,
        subnet_id=subnet,
        private_ip=ip,
        tags={"instance": tags},
    )
    instance = reservation.instances[0]
    return {
        "id": instance.id,
        "private_ip": ip,
        "provider_id": f"aws:///{zone.name}/{instance.id}",
    }


def _cluster(config: SeedConfig, zone: Zone, subnet: str) -> None:
    cluster = backend("eks", zone.region).create_cluster(
        name=zone.cluster,
        role_arn=f"arn:aws:iam::{ACCOUNT}:role/eks",
        resources_vpc_config={"subnetIds": [subnet]},
        tags=dict(TAGS),
    )
    cluster.endpoint = f"{config.kube_scheme}://{config.layout.kube(zone.cluster)}:{lab.KUBE_PORT}"


def _load_balancer(config: SeedConfig, region: Region, found: dict[str, Any]) -> None:
    """Load balancer, listener and target group; the supervisor registers the gateway pods."""
    elb = backend("elbv2", region.name)
    subnets = [s for zone in found["zones"].values() for s in zone["subnets"]]
    balancer = elb.create_load_balancer(
        region.lb_name, [], subnets, loadbalancer_type="application", tags=tag_list()
    )
    balancer.dns_name = lb_address(region.lb_name, region.name)
    balancer.state = "active"
    group = elb.create_target_group(
        f"{region.lb_name}-gateway",
        protocol="HTTP",
        port=str(lab.POD_PORT),
        vpc_id=found["vpc_id"],
        target_type="ip",
        healthcheck_protocol="HTTP",
        healthcheck_path="/health/ready",
        healthcheck_interval_seconds=config.target_interval_s,
        healthcheck_timeout_seconds=5,
        healthy_threshold_count=str(HEALTHY_THRESHOLD),
        unhealthy_threshold_count="2",
        tags=tag_list(),
    )
    action = {"Type": "forward", "TargetGroupArn": group.arn}
    elb.create_listener(balancer.arn, "HTTP", str(lab.LB_PORT), "", None, [action])
    found["load_balancer_arn"] = balancer.arn
    found["load_balancer_dns"] = balancer.dns_name
    found["target_group_arn"] = group.arn
    found["target_group_name"] = group.name


def _cache(config: SeedConfig, region: Region) -> None:
    """A Redis replication group per region, a member in each zone."""
    from inspect import signature

    create = backend("elasticache", region.name).create_replication_group
    arguments = dict.fromkeys(signature(create).parameters)
    zones = [z.name for z in config.layout.zones_in(region.name)]
    arguments |= {
        "replication_group_id": f"files-redis-{region.name}",
        "replication_group_description": "sessions and rate limits",
        "automatic_failover_enabled": len(zones) > 1,
        "multi_az_enabled": len(zones) > 1,
        "num_cache_clusters": len(zones),
        "preferred_cache_cluster_azs": zones,
        "cache_node_type": "cache.t3.small",
        "engine": "redis",
        "port": lab.REDIS_PORT,
        "tags": tag_list(),
    }
    create(**arguments)


def _databases(config: SeedConfig) -> None:
    primary, zone_replica, region_replica = config.layout.zones
    backend("rds", primary.region).create_db_instance(
        {
            "db_instance_identifier": primary.db_instance,
            "db_instance_class": "db.m5.large",
            "engine": "postgres",
            "engine_version": "16.3",
            "port": lab.DB_PORT,
            "db_name": "files",
            "allocated_storage": 20,
            "master_username": "lab",
            "master_user_password": "lab",
            "multi_az": True,
            "availability_zone": primary.name,
            "tags": tag_list(AZ_FAILURE="True"),
        }
    )
    _replica(zone_replica, primary.db_instance)
    arn = f"arn:aws:rds:{primary.region}:{ACCOUNT}:db:{primary.db_instance}"
    _replica(region_replica, arn)


def _replica(zone: Zone, source: str) -> None:
    replica = backend("rds", zone.region).create_db_instance_read_replica(
        {
            "db_instance_identifier": zone.db_instance,
            "source_db_instance_identifier": source,
            "availability_zone": zone.name,
            "multi_az": False,
            "tags": tag_list(AZ_FAILURE="True"),
        }
    )
    replica.replicas = []


def _buckets(config: SeedConfig) -> None:
    s3 = backend("s3", "aws")
    names = {r.name: r.bucket for r in config.layout.regions}
    for region, name in names.items():
        s3.create_bucket(name, region)
        s3.put_bucket_versioning(name, "Enabled")
        s3.put_bucket_tagging(name, dict(TAGS))
    for name in names.values():
        other = next(n for n in names.values() if n != name)
        rule = {
            "ID": f"to-{other}",
            "Status": "Enabled",
            "Priority": "1",
            "Filter": {"Prefix": ""},
            "DeleteMarkerReplication": {"Status": "Enabled"},
            "Destination": {"Bucket": f"arn:aws:s3:::{other}"},
        }
        role = f"arn:aws:iam::{ACCOUNT}:role/replication"
        s3.put_bucket_replication(name, {"Role": role, "Rule": [rule]})


def _health_check(config: SeedConfig, region: Region) -> str:
    route53 = backend("route53", "aws")
    check = route53.create_health_check(
        region.health_check_ref,
        {
            "ip_address": config.layout.lb(region.name),
            "port": lab.LB_PORT,
            "type": "HTTP",
            "resource_path": PRIMARY_HEALTH_PATH
            if region.name == lab.PRIMARY_REGION
            else STANDBY_HEALTH_PATH,
            "request_interval": config.check_interval_s,
            "failure_threshold": config.failure_threshold,
        },
    )
    tags = tag_list(Name=region.health_check_ref, region=region.name)
    route53.change_tags_for_resource("healthcheck", check.id, tags, [])
    return str(check.id)


def _records(config: SeedConfig, health_checks: Mapping[str, str]) -> str:
    route53 = backend("route53", "aws")
    zone = route53.create_hosted_zone(f"{ZONE_DOMAIN}.", private_zone=False)
    route53.change_tags_for_resource("hostedzone", zone.resource_id, tag_list(), [])
    primary, standby = config.layout.regions
    sets = [
        {
            "Name": f"{lab.SERVICE_HOST}.",
            "Type": "A",
            "SetIdentifier": region.name,
            "Failover": role,
            "TTL": config.service_ttl_s,
            "HealthCheckId": health_checks[region.name],
            "ResourceRecords": [{"Value": config.layout.lb(region.name)}],
        }
        for region, role in ((primary, "PRIMARY"), (standby, "SECONDARY"))
    ]
    sets.append(
        {
            "Name": f"{lab.DB_WRITER_HOST}.",
            "Type": "CNAME",
            "TTL": config.db_ttl_s,
            "ResourceRecords": [{"Value": db_address(PRIMARY_DB, lab.PRIMARY_REGION)}],
        }
    )
    sets.append(
        {
            "Name": f"{lab.EDGE_HOST}.",
            "Type": "A",
            "TTL": config.service_ttl_s,
            "ResourceRecords": [{"Value": config.layout.edge}],
        }
    )
    changes = [{"Action": "UPSERT", "ResourceRecordSet": s} for s in sets]
    route53.change_resource_record_sets(zone.resource_id, changes)
    return str(zone.resource_id)


def describe(
    config: SeedConfig, regions: Mapping[str, dict[str, Any]], hosted_zone: str
) -> dict[str, Any]:
    """Everything a target file needs, as served at ``GET /_lab/seed``.

    ``{"account", "hosted_zone_id", "time_scale", "ttl_s": {"service", "db"},
    "regions": {name: {"vpc_id", "bucket", "health_check_id", "load_balancer_arn",
    "load_balancer_dns", "target_group_arn", "target_group_name",
    "zones": {name: {"cluster", "subnets": [id], "instances": [{"id", "private_ip",
    "provider_id"}]}}}}, "databases": {id: {"region", "zone", "endpoint", "port"}},
    "rds_endpoints": {id: name}, "caches": {region: replication group id}}``
    """
    databases = {
        z.db_instance: {
            "region": z.region,
            "zone": z.name,
            "endpoint": db_address(z.db_instance, z.region),
            "port": lab.DB_PORT,
        }
        for z in config.layout.zones
    }
    return {
        "account": ACCOUNT,
        "hosted_zone_id": hosted_zone,
        "time_scale": config.time_scale,
        "ttl_s": {"service": config.service_ttl_s, "db": config.db_ttl_s},
        "regions": dict(regions),
        "databases": databases,
        "rds_endpoints": {name: d["endpoint"] for name, d in databases.items()},
        "caches": {r.name: f"files-redis-{r.name}" for r in config.layout.regions},
    }
