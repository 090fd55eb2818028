"""``targets:<zone>`` → how many of its targets the load balancer finds healthy."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from harness.target.model import Region, Target
from harness.watch.aws_observer import AwsObserver

#: States of a target that takes part; one that drains or is unused does not.
_COUNTED = frozenset({"healthy", "unhealthy", "initial", "unavailable"})


class Targets(AwsObserver):
    """One region's target group, counted per zone."""

    def __init__(self, target: Target, region: Region, period_s: float) -> None:
        super().__init__(target, region, period_s)
        self.name = f"targets-{region.name}"
        zones = {c.zone for c in target.clusters if c.region == region.name} | set(region.subnets)
        self._zones = sorted(zones)
        self._networks: list[tuple[Any, str]] | None = None
        self._instances: dict[str, str] = {}
        self.subjects = tuple(f"targets:{zone}" for zone in self._zones)

    def poll(self) -> Mapping[str, Any]:
        answer = self.client("elbv2").describe_target_health(
            TargetGroupArn=self.region.target_group_arn
        )
        counts = {zone: {"healthy": 0, "total": 0} for zone in self._zones}
        for described in answer["TargetHealthDescriptions"]:
            state = described["TargetHealth"]["State"]
            if state in _COUNTED:
                zone = self._zone(described["Target"])
                count = counts.setdefault(zone, {"healthy": 0, "total": 0})
                count["healthy"] += state == "healthy"
                count["total"] += 1
        return {f"targets:{zone}": count for zone, count in counts.items()}

    def _zone(self, target: Mapping[str, Any]) -> str:
        """The zone of a target: as the answer says, else by its subnet or instance."""
        said = target.get("AvailabilityZone")
        if said and said != "all":
            return str(said)
        if target["Id"].startswith("i-"):
            return self._zone_of_instance(target["Id"])
        if self._networks is None:
            ids = sorted(s for subnets in self.region.subnets.values() for s in subnets)
            found = self.client("ec2").describe_subnets(SubnetIds=ids)["Subnets"] if ids else ()
            self._networks = networks(found)
        address = ipaddress.ip_address(target["Id"])
        return next((zone for network, zone in self._networks if address in network), "unknown")

    def _zone_of_instance(self, instance: str) -> str:
        if instance not in self._instances:
            answer = self.client("ec2").describe_instances(InstanceIds=[instance])
            placement = answer["Reservations"][0]["Instances"][0]["Placement"]
            self._instances[instance] = placement["AvailabilityZone"]
        return self._instances[instance]


def networks(subnets: Iterable[Mapping[str, Any]]) -> list[tuple[Any, str]]:
    """``[(network, zone)]`` of described subnets."""
    return [(ipaddress.ip_network(s["CidrBlock"]), s["AvailabilityZone"]) for s in subnets]
