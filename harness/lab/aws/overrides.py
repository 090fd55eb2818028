"""Where moto's answer is canned, the lab answers from its truth.

``install`` replaces methods of moto's response classes for this process. Only what the
lab can answer truly is replaced; the rest is moto's, and listed in ``docs/lab-gaps.md``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moto.core.responses import ActionResult, PaginatedResult
from moto.elasticache.responses import ElastiCacheResponse
from moto.elbv2.responses import ELBV2Response
from moto.rds.exceptions import (
    DBInstanceAlreadyExists,
    InvalidDBInstanceStateFault,
    InvalidParameterCombination,
)
from moto.rds.models import DBInstance
from moto.rds.responses import RDSResponse
from moto.route53 import urls as route53_urls
from moto.route53.responses import Route53

from harness.clock import Clock
from harness.lab.aws.requests import Requests, Truth
from harness.lab.aws.seed import SeedConfig, backend, db_address
from harness.lab.aws.state import instance_of
from harness.lab.route53 import resolve

#: The regions Route 53 checks from, with an address for each checker.
CHECKERS = (
    ("us-east-1", "15.177.2.1"),
    ("us-west-1", "15.177.6.1"),
    ("us-west-2", "15.177.10.1"),
    ("eu-west-1", "15.177.14.1"),
    ("ap-southeast-1", "15.177.18.1"),
    ("ap-southeast-2", "15.177.22.1"),
    ("ap-northeast-1", "15.177.26.1"),
    ("sa-east-1", "15.177.30.1"),
)


@dataclass(frozen=True)
class Lab:
    """What the overridden methods need: what is asked, what is true, what is seeded."""

    config: SeedConfig
    requests: Requests
    truth: Truth
    state: Callable[[], Mapping[str, Any]]
    version: Callable[[], int]
    clock: Clock

    @property
    def regions(self) -> list[str]:
        return [r.name for r in self.config.layout.regions]


def install(lab: Lab) -> None:
    """Replace moto's canned answers; before the server's first request."""
    _route53(lab)
    _load_balancing(lab)
    _cache(lab)
    _databases(lab)


# Route 53 ---------------------------------------------------------------------


def _route53(lab: Lab) -> None:
    def get_health_check_status(self: Route53) -> ActionResult:
        check_id = self._get_param("HealthCheckId")
        self.backend.get_health_check(check_id)
        return ActionResult({"HealthCheckObservations": observations(lab, check_id)})

    def test_dns_answer(self: Route53) -> ActionResult:
        zone = self.backend.get_hosted_zone(self._get_param("HostedZoneId"))
        name, kind = self._get_param("RecordName"), self._get_param("RecordType")
        return ActionResult(dns_answer(lab, zone.resource_id, name, kind))

    Route53.get_health_check_status = get_health_check_status
    Route53.test_dns_answer = test_dns_answer
    route53_urls.url_paths[r"{0}/(?P<api_version>[\d_-]+)/testdnsanswer$"] = Route53.dispatch


def observations(lab: Lab, check_id: str) -> list[dict[str, Any]]:
    """One observation per checker region; none before the first check was made.

    As on AWS an observation is what the checker saw: ``Inverted`` does not turn it.
    """
    entry = lab.truth.health(check_id)
    if entry is None:
        return []
    word = "Success" if entry.get("observed", entry["healthy"]) else "Failure"
    checked = entry.get("checked") or lab.clock.wall_s()
    report = {
        "Status": f"{word}: {entry.get('reason') or 'no detail'}",
        "CheckedTime": datetime.fromtimestamp(checked, UTC),
    }
    return [{"Region": r, "IPAddress": ip, "StatusReport": report} for r, ip in CHECKERS]


def dns_answer(lab: Lab, zone_id: str, name: str, kind: str) -> dict[str, Any]:
    """TestDNSAnswer: what the hosted zone answers now (a CNAME is not followed)."""
    records = [r for r in lab.state()["records"] if r["zone_id"] == zone_id]
    answer = resolve(name, kind, {"records": records}, lab.truth.healthy(), 1.0, _no_addresses)
    own = name.rstrip(".").lower()
    values = [r.value for r in answer.records if r.name == own] if answer else []
    return {
        "Nameserver": f"{lab.config.layout.dns}",
        "RecordName": name,
        "RecordType": kind,
        "RecordData": values,
        "ResponseCode": answer.rcode if answer else "REFUSED",
        "Protocol": "UDP",
    }


def _no_addresses(_: str) -> None:
    return None


# Elastic Load Balancing -------------------------------------------------------


def _load_balancing(lab: Lab) -> None:
    def describe_target_health(self: ELBV2Response) -> ActionResult:
        arn, asked = self._get_param("TargetGroupArn"), self._get_param("Targets", [])
        statuses = self.elbv2_backend.describe_target_health(arn, asked)
        found = [_target_health(lab, s) for s in statuses]
        return ActionResult({"TargetHealthDescriptions": found})

    ELBV2Response.describe_target_health = describe_target_health


def _target_health(lab: Lab, status: Any) -> dict[str, Any]:
    target = {"Id": status.instance_id, "Port": int(status.port)}
    if zone := zone_of_address(lab.config, status.instance_id):
        target["AvailabilityZone"] = zone
    return {
        "Target": target,
        "HealthCheckPort": str(status.port),
        "TargetHealth": _health(lab, status),
    }


def _health(lab: Lab, status: Any) -> dict[str, str]:
    if status.status in ("unused", "draining"):
        return {
            "State": status.status,
            "Reason": status.reason,
            "Description": status.description,
        }
    entry = lab.truth.targets().get(f"{status.instance_id}:{int(status.port)}")
    if entry is None:
        return {
            "State": "initial",
            "Reason": "Elb.RegistrationInProgress",
            "Description": "Target registration is in progress",
        }
    if entry["healthy"]:
        return {"State": "healthy"}
    return {
        "State": "unhealthy",
        "Reason": "Target.FailedHealthChecks",
        "Description": entry.get("reason") or "Health checks failed",
    }


def zone_of_address(config: SeedConfig, address: str) -> str | None:
    """The zone whose subnet holds ``address``."""
    parts = address.split(".")
    return next((z.name for z in config.layout.zones if parts[2:3] == [str(z.octet)]), None)


def register_targets(config: SeedConfig, truth: Truth, known: set[str]) -> set[str]:
    """Keep each region's target group equal to the pods the lab reports.

    The lab plays the load balancer controller of the clusters. What a caller registered
    or deregistered itself is left alone, until the pod of that address is gone.
    Returns the ``ip:port`` now known; pass it in the next time.
    """
    names = set(truth.targets())
    for region in config.layout.regions:
        for group in list(backend("elbv2", region.name).target_groups.values()):
            if group.name != f"{region.lb_name}-gateway":
                continue
            for name in names | known:
                ip, _, port = name.rpartition(":")
                zone = zone_of_address(config, ip)
                if zone is None or config.layout.zone(zone).region != region.name:
                    continue
                _register(group, ip, port, wanted=name in names)
    return names


def _register(group: Any, ip: str, port: str, *, wanted: bool) -> None:
    if not wanted:
        group.targets.pop(ip, None)
        group.deregistered_targets.pop(ip, None)
    elif ip not in group.targets and ip not in group.deregistered_targets:
        group.targets[ip] = {"Id": ip, "Port": port}


# ElastiCache ------------------------------------------------------------------


def _cache(lab: Lab) -> None:
    def test_failover(self: ElastiCacheResponse) -> ActionResult:
        name = self._get_param("ReplicationGroupId")
        group = self.elasticache_backend.describe_replication_groups(name)[0]
        lab.requests.record("failover", name)
        shown = copy.copy(group)
        shown.status = "modifying"
        return ActionResult({"ReplicationGroup": shown})

    ElastiCacheResponse.test_failover = test_failover


# RDS --------------------------------------------------------------------------


def _databases(lab: Lab) -> None:
    DBInstance.address = property(lambda self: db_address(self.db_instance_identifier, self.region))
    shown = _Shown(lab)
    _describe_databases(shown)
    _promote(lab, shown)
    _reboot(lab, shown)
    _create_replica(lab, shown)
    _delete_database()
    for method, pending in (
        ("stop_db_instance", "stopping"),
        ("start_db_instance", "starting"),
        ("modify_db_instance", None),
    ):
        _then_show(lab, shown, method, pending)


class _Shown:
    """A database as the API shows it: moto's, overlaid with what is true."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def __call__(self, database: Any) -> Any:
        name = database.db_instance_identifier
        report = self._lab.truth.database(name)
        shown = copy.copy(database)
        shown.availability_zone = report.get("zone") or database.availability_zone
        shown.status = report.get("status") or database.status
        shown.source_db_instance_identifier = self._named_from(shown, self.source(name))
        shown.replicas = [
            self._named_from(shown, other) for other in self._all() if self.source(other) == name
        ]
        shown.status_infos = _status_infos(shown, report)
        return shown

    def _all(self) -> dict[str, Any]:
        return {
            d.db_instance_identifier: d
            for region in self._lab.regions
            for d in list(backend("rds", region).databases.values())
        }

    def source(self, name: str) -> str | None:
        report = self._lab.truth.database(name)
        if "source" in report:
            return report["source"]
        database = self._all().get(name)
        return instance_of(database.source_db_instance_identifier) if database else None

    def _named_from(self, viewer: Any, name: str | None) -> str | None:
        """A name within the viewer's region, an ARN in another one, as RDS does."""
        other = self._all().get(name) if name else None
        if other is None or other.region == viewer.region:
            return name
        return str(other.db_instance_arn)


def _status_infos(shown: Any, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not shown.source_db_instance_identifier:
        return []
    replicating = report.get("lag_s") is not None or "lag_s" not in report
    return [
        {
            "StatusType": "read replication",
            "Normal": replicating,
            "Status": "replicating" if replicating else "error",
        }
    ]


def _describe_databases(shown: _Shown) -> None:
    original = RDSResponse.describe_db_instances

    def describe_db_instances(self: RDSResponse) -> ActionResult:
        found = original(self).result["DBInstances"]
        return PaginatedResult({"DBInstances": [shown(d) for d in found]})

    RDSResponse.describe_db_instances = describe_db_instances


def _then_show(lab: Lab, shown: _Shown, method: str, pending: str | None) -> None:
    """Wrap a method whose effect moto keeps, so that its answer is overlaid too."""
    original = getattr(RDSResponse, method)

    def wrapped(self: RDSResponse) -> ActionResult:
        database = original(self).result["DBInstance"]
        if pending:
            lab.truth.expect(database.db_instance_identifier, pending, lab.version() + 1)
        return ActionResult({"DBInstance": shown(database)})

    wrapped.__name__ = method
    setattr(RDSResponse, method, wrapped)


def _promote(lab: Lab, shown: _Shown) -> None:
    def promote_read_replica(self: RDSResponse) -> ActionResult:
        name = self.params["DBInstanceIdentifier"]
        database = self.backend.describe_db_instances(name)[0]
        # By what is true: one that was promoted and handed back replicates again.
        if not shown.source(name):
            raise InvalidDBInstanceStateFault(f"DB Instance {name} is not a read replica.")
        database.is_replica = False
        database.source_db_instance_identifier = None
        _ask(lab, "promote", name, "modifying")
        return ActionResult({"DBInstance": shown(database)})

    RDSResponse.promote_read_replica = promote_read_replica


def _reboot(lab: Lab, shown: _Shown) -> None:
    def reboot_db_instance(self: RDSResponse) -> ActionResult:
        name = self.params["DBInstanceIdentifier"]
        force = str(self.params.get("ForceFailover")).lower() == "true"
        database = self.backend.describe_db_instances(name)[0]
        if force and not database.multi_az:
            raise InvalidParameterCombination(
                "Force failover cannot be specified if the instance is not configured for MultiAZ."
            )
        _ask(lab, "failover" if force else "reboot", name, "rebooting")
        return ActionResult({"DBInstance": shown(database)})

    RDSResponse.reboot_db_instance = reboot_db_instance


def _ask(lab: Lab, kind: str, name: str, pending: str) -> None:
    lab.truth.expect(name, pending, lab.version() + 1)
    lab.requests.record(kind, name)


def _create_replica(lab: Lab, shown: _Shown) -> None:
    def create_db_instance_read_replica(self: RDSResponse) -> ActionResult:
        name = self.params["DBInstanceIdentifier"]
        if name in self.backend.databases:
            raise DBInstanceAlreadyExists
        replica = self.backend.create_db_instance_read_replica(self.params)
        replica.multi_az = str(self.params.get("MultiAZ")).lower() == "true"
        replica.tags = list(self.params.get("Tags") or [])
        replica.availability_zone = self.params.get("AvailabilityZone") or f"{self.region}a"
        lab.truth.expect(name, "creating", lab.version() + 1)
        return ActionResult({"DBInstance": shown(replica)})

    RDSResponse.create_db_instance_read_replica = create_db_instance_read_replica


def _delete_database() -> None:
    original = RDSResponse.delete_db_instance

    def delete_db_instance(self: RDSResponse) -> ActionResult:
        database = self.backend.databases.get(self.params["DBInstanceIdentifier"])
        if database is not None:
            # Replicas are found by their source; moto would look for a list it cannot keep.
            database.is_replica = False
        return original(self)

    RDSResponse.delete_db_instance = delete_db_instance
