"""What the disaster-recovery automation sees and does in the lab, through the public APIs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp

from harness.lab import layout as names
from harness.lab.aws.calls import AwsCalls
from harness.lab.manifests import ACTIVE_REPLICAS, STANDBY_REPLICAS

if TYPE_CHECKING:
    from harness.lab.platform import Platform

_TIMEOUT = aiohttp.ClientTimeout(total=1.0)
_CATCH_UP_S = 10.0
_REPLICATION_SLACK_S = 1.0


class LabHands:
    """The real hands of :class:`harness.lab.disaster.DisasterRecovery`."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._parts = platform.parts
        self._layout = platform.layout
        self._aws = AwsCalls(f"http://{self._layout.aws}:{names.AWS_PORT}")

    def primary_health(self) -> bool | None:
        """Route 53's verdict on the primary region; None before the first check."""
        for check in self._platform.aws_state.get("health_checks", []):
            if check["ref"] == self._layout.region(names.PRIMARY_REGION).health_check_ref:
                status = self._parts.health.statuses.get(check["id"])
                return status.healthy if status and status.observed is not None else None
        return None

    async def primary_answers(self) -> bool:
        """Whether the primary region's load balancer reaches a healthy gateway again."""
        host = self._layout.lb(names.PRIMARY_REGION)
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.get(f"http://{host}:{names.LB_PORT}/health") as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def promote_standby(self) -> None:
        """PromoteReadReplica on the standby region's database."""
        instance = self._layout.zones[-1].db_instance
        await self._aws.promote_read_replica(instance, names.STANDBY_REGION)

    def standby_promoted(self) -> bool:
        return self._parts.database.primary_in(names.STANDBY_REGION) is not None

    async def point_writer_at(self, region: str) -> None:
        """ChangeResourceRecordSets: the writer's name leads to ``region``'s database."""
        zone = self._layout.zones_in(region)[0]
        seed = self._parts.seed
        await self._aws.upsert_cname(
            seed["hosted_zone_id"],
            names.DB_WRITER_HOST,
            seed["databases"][zone.db_instance]["endpoint"],
            seed["ttl_s"]["db"],
        )

    async def scale_standby(self, active: bool) -> None:
        replicas = ACTIVE_REPLICAS if active else STANDBY_REPLICAS
        for zone in self._layout.zones_in(names.STANDBY_REGION):
            for service, count in replicas.items():
                self._parts.clusters[zone.cluster].scale(names.NAMESPACE, service, count)

    async def databases_synchronised(self) -> bool:
        """Whether every member of the primary region follows the standby's database again."""
        database = self._parts.database
        return all(
            z.name in database.following for z in self._layout.zones_in(names.PRIMARY_REGION)
        )

    async def objects_synchronised(self) -> bool:
        """Whether replication out of the standby region keeps up with what is written there.

        Under traffic its queue is never empty: what counts is that nothing has waited
        longer than replication takes. Services read the rest from the other region.
        """
        backlog = await self.replication(names.STANDBY_REGION)
        return bool(backlog["oldest_age_s"] <= backlog["lag_s"] + _REPLICATION_SLACK_S)

    async def replication(self, region: str) -> dict[str, Any]:
        """The object store's own account of its replication queue."""
        return await self._replication("GET", region)

    async def set_replication(self, region: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Change lag or pause of ``region``'s replication."""
        return await self._replication("PUT", region, settings)

    async def _replication(
        self, method: str, region: str, settings: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        url = f"http://{self._layout.store(region)}:{names.STORE_PORT}/_store/replication"
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.request(method, url, json=settings) as answer,
            ):
                answer.raise_for_status()
                found: dict[str, Any] = await answer.json()
                return found
        except aiohttp.ClientError as error:
            raise OSError(f"the object store of {region} does not answer: {error}") from error

    async def hand_back(self) -> None:
        """Make the primary region's database the writer again, nothing lost."""
        await self._parts.database.switch_over(
            self._layout.zones_in(names.PRIMARY_REGION)[0].name, _CATCH_UP_S
        )
