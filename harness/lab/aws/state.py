"""What callers of the AWS API asked for, read from moto's memory as plain JSON.

Kept apart from moto's answers: its internals change between releases, so every touch
of them is here, in ``seed`` and in ``overrides``, and moto is pinned exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.lab.aws.requests import Requests
from harness.lab.aws.seed import backend

_EVERYWHERE = ("0.0.0.0/0",)
_ALL_PORTS = (0, 1, None)


def snapshot(regions: Iterable[str], requests: Requests) -> dict[str, Any]:
    """The lab-relevant state of the account; ids as the API gives them.

    - ``subnets``: ``{id, vpc, region, zone, denied}``; default VPCs are left out
    - ``instances``: ``{id, region, zone, state}``
    - ``databases``: ``{id, region, zone, status, source, multi_az, promotions, promoted,
      failovers, reboots}``; ``source`` is an instance id; counted are calls of
      PromoteReadReplica and of RebootDBInstance with and without ForceFailover
    - ``health_checks``: ``{id, ref, ip, port, fqdn, path, type, search, interval_s,
      threshold, inverted, disabled, children, health_threshold}``
    - ``records``: ``{zone_id, zone, name, type, ttl_s, values, set_id, failover,
      health_check_id, weight, policy, alias}``
    - ``target_groups``: ``{arn, name, region, deregistered}``
    - ``buckets``: ``{name, region, versioning, replication}``: names replicated to
    - ``caches``: ``{id, region, status, failovers}``
    """
    names = list(regions)
    return {
        "subnets": [s for r in names for s in _subnets(r)],
        "instances": [i for r in names for i in _instances(r)],
        "databases": [d for r in names for d in _databases(r, requests)],
        "health_checks": _health_checks(),
        "records": _records(),
        "target_groups": [t for r in names for t in _target_groups(r)],
        "buckets": _buckets(),
        "caches": [c for r in names for c in _caches(r, requests)],
    }


def denies_all(entries: Iterable[Any], *, egress: bool) -> bool:
    """Whether a network ACL's rules let nothing through in one direction.

    Rules are read in order of number, as AWS does: the first that covers all TCP
    traffic decides; an earlier rule that allows part of it means not all is denied;
    no rule at all is the implicit deny.
    """
    for rule in sorted((e for e in entries if bool(e.egress) == egress), key=_number):
        allows = str(rule.rule_action).lower() == "allow"
        if allows and _concerns_tcp(rule):
            return False
        if not allows and _concerns_tcp(rule) and _covers_all(rule):
            return True
    return True


def _number(rule: Any) -> int:
    return int(rule.rule_number)


def _concerns_tcp(rule: Any) -> bool:
    return str(rule.protocol).lower() in ("-1", "all", "6", "tcp")


def _covers_all(rule: Any) -> bool:
    every_port = str(rule.protocol) in ("-1", "all") or (
        _int(rule.port_range_from, 0) in _ALL_PORTS
        and _int(rule.port_range_to, 65535) in (65535, None)
    )
    return rule.cidr_block in _EVERYWHERE and every_port


def _int(value: Any, default: int) -> int:
    return default if value in (None, "") else int(value)


def _subnets(region: str) -> list[dict[str, Any]]:
    ec2 = backend("ec2", region)
    acl_of = {a.subnet_id: acl for acl in _all(ec2.network_acls) for a in acl.associations}
    found = []
    for by_zone in _all(ec2.subnets):
        for subnet in _all(by_zone):
            if ec2.vpcs[subnet.vpc_id].is_default in (True, "true"):
                continue
            acl = acl_of.get(subnet.id)
            entries = list(acl.network_acl_entries) if acl else []
            denied = denies_all(entries, egress=False) or denies_all(entries, egress=True)
            found.append(
                {
                    "id": subnet.id,
                    "vpc": subnet.vpc_id,
                    "region": region,
                    "zone": subnet.availability_zone,
                    "denied": acl is not None and denied,
                }
            )
    return found


def _instances(region: str) -> list[dict[str, Any]]:
    return [
        {"id": i.id, "region": region, "zone": i.placement.zone, "state": i.state}
        for reservation in _all(backend("ec2", region).reservations)
        for i in list(reservation.instances)
    ]


def _databases(region: str, requests: Requests) -> list[dict[str, Any]]:
    return [
        {
            "id": d.db_instance_identifier,
            "region": region,
            "zone": d.availability_zone,
            "status": d.status,
            "source": instance_of(d.source_db_instance_identifier),
            "multi_az": bool(d.multi_az),
            "promotions": (count := requests.count("promote", d.db_instance_identifier)),
            "promoted": count > 0 and d.source_db_instance_identifier is None,
            "failovers": requests.count("failover", d.db_instance_identifier),
            "reboots": requests.count("reboot", d.db_instance_identifier),
        }
        for d in _all(backend("rds", region).databases)
    ]


def instance_of(name_or_arn: str | None) -> str | None:
    """Instance id from the id or ARN that names a replica's source."""
    return name_or_arn.rpartition(":")[2] if name_or_arn else None


def _health_checks() -> list[dict[str, Any]]:
    return [
        {
            "id": c.id,
            "ref": c.caller_reference,
            "ip": c.ip_address,
            "port": int(c.port),
            "fqdn": c.fqdn,
            "path": c.resource_path or "/",
            "type": c.type_,
            "search": c.search_string,
            "interval_s": int(c.request_interval),
            "threshold": int(c.failure_threshold),
            "inverted": _flag(c.inverted),
            "disabled": _flag(c.disabled),
            "children": list(c.children or []),
            "health_threshold": int(c.health_threshold or 0),
        }
        for c in _all(backend("route53", "aws").health_checks)
    ]


def _flag(value: Any) -> bool:
    return str(value).lower() == "true"


def _records() -> list[dict[str, Any]]:
    return [
        _record(zone, r)
        for zone in _all(backend("route53", "aws").zones)
        for r in list(zone.rrsets)
    ]


def _record(zone: Any, record: Any) -> dict[str, Any]:
    alias = record.alias_target or {}
    policies = {
        "failover": record.failover,
        "weighted": record.weight is not None,
        "latency": record.region,
        "geolocation": record.geo_location,
        "multivalue": record.multi_value_answer,
    }
    return {
        "zone_id": zone.resource_id,
        "zone": zone.name.rstrip("."),
        "name": record.name.rstrip(".").lower(),
        "type": record.type,
        "ttl_s": _int(record.ttl, 60),
        # moto keeps the zone's own SOA record in the shape of a request.
        "values": [v["Value"] if isinstance(v, dict) else v for v in record.records or []],
        "set_id": record.set_identifier,
        "failover": record.failover,
        "health_check_id": record.health_check_id,
        "weight": record.weight,
        "policy": next((name for name, used in policies.items() if used), "simple"),
        "alias": alias.get("DNSName", "").rstrip(".") or None,
    }


def _target_groups(region: str) -> list[dict[str, Any]]:
    return [
        {
            "arn": g.arn,
            "name": g.name,
            "region": region,
            "deregistered": sorted(g.deregistered_targets),
        }
        for g in _all(backend("elbv2", region).target_groups)
    ]


def _buckets() -> list[dict[str, Any]]:
    found = []
    for bucket in _all(backend("s3", "aws").buckets):
        rules = (bucket.replication or {}).get("Rule", [])
        enabled = [r for r in rules if r.get("Status") == "Enabled"]
        found.append(
            {
                "name": bucket.name,
                "region": bucket.region_name,
                "versioning": bucket.versioning_status,
                "replication": [_bucket_name(r["Destination"]["Bucket"]) for r in enabled],
            }
        )
    return found


def _bucket_name(arn: str) -> str:
    return arn.rpartition(":")[2]


def _caches(region: str, requests: Requests) -> list[dict[str, Any]]:
    return [
        {
            "id": g.replication_group_id,
            "region": region,
            "status": g.status,
            "failovers": requests.count("failover", g.replication_group_id),
        }
        for g in _all(backend("elasticache", region).replication_groups)
    ]


def _all(items: Mapping[Any, Any]) -> list[Any]:
    """A copy: other threads may be changing the mapping."""
    return list(items.values())
