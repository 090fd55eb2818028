"""The lab's RDS: one writable database, its standbys, and who takes over when.

Three real PostgreSQL servers, one per zone. What RDS would do by itself is done
here: Multi-AZ failover inside the primary region, dropping a lost synchronous
standby so that writes go on, and rebuilding a member that comes back. What RDS
does only when asked (promoting the cross-region replica, switching back) are methods.

A former primary is *fenced* (killed, even while stopped) before another member is
promoted, so that it can never acknowledge a write again when its zone comes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from harness.clock import Clock
from harness.errors import LabError
from harness.lab.layout import Layout
from harness.lab.postgres import Postgres, PostgresError

log = logging.getLogger("harness.lab.database")

#: RDS documents 60–120 s for a Multi-AZ instance failover; divided by the time scale.
MULTI_AZ_FAILOVER_S = 60.0
PROMOTE_ATTEMPTS = 3
#: How long a member is reachable again before it is rebuilt; divided by the time scale. RDS
#: takes minutes; here it keeps the copying apart from the rush of a zone's return.
REJOIN_AFTER_S = 50.0
_PROBE_PERIOD_S = 0.5
_PROBE_TIMEOUT_S = 0.8
_DEAD_AFTER_S = 1.5


class Database:
    """The cluster of database members of a lab.

    ``blocked(zone)`` says whether the zone is cut off just now; ``changed()`` is called
    (in the loop) after each change of role, so that the AWS API's answers follow.
    """

    def __init__(
        self,
        layout: Layout,
        members: dict[str, Postgres],
        *,
        clock: Clock,
        time_scale: float,
        blocked: Callable[[str], bool],
        changed: Callable[[], None],
    ) -> None:
        self.layout = layout
        self.members = members
        self.primary = layout.zones[0].name
        self._clock = clock
        self._failover_s = MULTI_AZ_FAILOVER_S / time_scale
        self._blocked = blocked
        self._changed = changed
        #: members that replicate from the primary now
        self.following: set[str] = set(members) - {self.primary}
        self._rejoin_after_s = REJOIN_AFTER_S / time_scale
        self._back_since: dict[str, float] = {}
        self._down_since: float | None = None
        self._synchronous: tuple[str, ...] = ()
        self._lock = asyncio.Lock()
        self._failover_requested = False
        self.primary_down = False

    # ---- what others ask ---------------------------------------------------------

    def region_of(self, zone: str) -> str:
        return self.layout.zone(zone).region

    def primary_in(self, region: str) -> str | None:
        """The zone of the writable member if it is in ``region``."""
        return self.primary if self.region_of(self.primary) == region else None

    def describe(self) -> dict[str, dict[str, Any]]:
        """RDS's view by instance id: zone, role, status, source.

        The instance id ``files-db`` names the writer of the primary region and its zone
        moves with a Multi-AZ failover, as on RDS.
        """
        first, second, west = self.layout.zones
        writer_zone = self.primary_in(first.region) or first.name
        other_zone = second.name if writer_zone == first.name else first.name
        east_writes = self.primary_in(first.region) is not None
        view: dict[str, dict[str, Any]] = {}
        for instance, zone, role in (
            (first.db_instance, writer_zone, "primary" if east_writes else "replica"),
            (second.db_instance, other_zone, "replica"),
            (west.db_instance, west.name, "replica" if east_writes else "primary"),
        ):
            source = first.db_instance if east_writes else west.db_instance
            view[instance] = {
                "zone": zone,
                "role": role,
                "status": self._status(zone),
                "source": None if role == "primary" else source,
            }
        return view

    def _status(self, zone: str) -> str:
        if zone == self.primary:
            return "failing-over" if self.primary_down else "available"
        return "available" if zone in self.following else "storage-optimization"

    async def lag_s(self) -> dict[str, float]:
        """Replay lag of each following member in seconds, as the primary sees it."""
        try:
            rows = await self.members[self.primary].replication()
        except (OSError, TimeoutError, RuntimeError):
            return {}
        by_name = {m.name: z for z, m in self.members.items()}
        return {
            by_name[r["name"]]: float(r["replay_lag_s"] or 0.0)
            for r in rows
            if r["name"] in by_name
        }

    # ---- boot ----------------------------------------------------------------------

    async def boot(self, schema_sql: str) -> None:
        """Create the primary and clone the others from it."""
        primary = self.members[self.primary]
        await primary.init_primary(schema_sql)
        await primary.start()
        await primary.ready(10.0)
        await asyncio.gather(*(self._clone(z) for z in self.members if z != self.primary))
        await self._keep_synchronous()

    async def _clone(self, zone: str) -> None:
        member = self.members[zone]
        await member.clone_from(self.members[self.primary])
        await member.start()
        await member.ready(10.0)
        self.following.add(zone)

    # ---- what RDS does by itself -------------------------------------------------------

    async def run(self) -> None:
        """Watch the members for as long as the lab lives."""
        while True:
            try:
                async with self._lock:
                    await self._step()
            except (OSError, TimeoutError, RuntimeError, LabError) as error:
                log.warning("database step failed, trying again: %s", error)
            await asyncio.sleep(_PROBE_PERIOD_S)

    async def _step(self) -> None:
        now = self._clock.monotonic_s()
        alive = await self.members[self.primary].role(_PROBE_TIMEOUT_S) == "primary"
        if alive:
            self._down_since = None
            if self.primary_down:
                self.primary_down = False
                self._changed()
            await self._drop_lost()
            await self._rejoin_returned()
            await self._keep_synchronous()
        elif self._down_since is None:
            self._down_since = now
        elif now - self._down_since > _DEAD_AFTER_S and not self.primary_down:
            self.primary_down = True
            self._changed()
        due = self._down_since is not None and now - self._down_since >= self._failover_s
        if due or self._failover_requested:
            await self._fail_over_in_region()

    async def _drop_lost(self) -> None:
        """Stop counting on standbys that are cut off or have died."""
        for zone in list(self.following):
            if self._blocked(zone) or not self.members[zone].running:
                self.following.discard(zone)
                self._changed()

    async def _rejoin_returned(self) -> None:
        """Rebuild members that are reachable again from the primary."""
        now = self._clock.monotonic_s()
        for zone in self.members:
            if zone == self.primary or zone in self.following or self._blocked(zone):
                self._back_since.pop(zone, None)
            elif now - self._back_since.setdefault(zone, now) >= self._rejoin_after_s:
                log.info("rebuilding %s from %s", zone, self.primary)
                self.members[zone].kill()
                await self._clone(zone)
                self._changed()

    async def _keep_synchronous(self) -> None:
        """Commit waits for the standby in the other zone of the region, while it streams."""
        region = self.region_of(self.primary)
        wanted = tuple(
            self.members[z].name for z in sorted(self.following) if self.region_of(z) == region
        )
        if wanted != self._synchronous:
            await self.members[self.primary].set_synchronous(wanted)
            self._synchronous = wanted

    async def _fail_over_in_region(self) -> None:
        self._failover_requested = False
        region = self.region_of(self.primary)
        for zone in sorted(self.following):
            reachable = self.members[zone].running and not self._blocked(zone)
            if self.region_of(zone) == region and reachable:
                await self._promote(zone)
                return

    async def _promote(self, zone: str) -> None:
        old = self.primary
        log.info("promoting %s, fencing %s", zone, old)
        self.members[old].kill()
        await self._until_promoted(self.members[zone])
        self.primary = zone
        self.following.discard(zone)
        self._synchronous = ()
        await self.members[zone].set_synchronous(())
        self._down_since = None
        self.primary_down = False
        for other in list(self.following):
            if self._blocked(other):
                self.following.discard(other)
            else:
                await self.members[other].follow(self.members[zone])
        self._changed()

    async def _until_promoted(self, member: Postgres) -> None:
        """The old primary is fenced: on a busy machine, a slow promotion is waited for."""
        for left in range(PROMOTE_ATTEMPTS - 1, -1, -1):
            try:
                await member.promote()
                return
            except (OSError, TimeoutError, PostgresError) as error:
                log.warning("promoting %s: %s", member.name, error or type(error).__name__)
                if not left or not member.running:
                    raise

    def came_back(self, zone: str) -> None:
        """A zone is reachable again: its member starts over as a copy, unless it is the primary.

        Killed, however short it was away: a former primary must not serve a moment longer.
        """
        if zone != self.primary:
            self.members[zone].kill()
            self.following.discard(zone)
            self._changed()

    # ---- what an operator asks for ---------------------------------------------------------

    def request_failover(self) -> None:
        """RebootDBInstance with ForceFailover."""
        self._failover_requested = True

    async def promote(self, zone: str) -> None:
        """PromoteReadReplica: make ``zone`` the writable member; the others are fenced.

        Raises PostgresError, and changes nothing, when it is not running.
        """
        async with self._lock:
            if zone == self.primary:
                return
            if not self.members[zone].running:
                # Being rebuilt, or lost: the others must not be fenced for its sake.
                raise PostgresError(f"{self.members[zone].name} is not there to be promoted")
            for other in list(self.following):
                if other != zone and self._blocked(other):
                    self.members[other].kill()
                    self.following.discard(other)
            await self._promote(zone)

    async def switch_over(self, zone: str, deadline_s: float) -> None:
        """Planned change of the primary with nothing lost: stop, catch up, promote.

        Raises TimeoutError (and leaves the old primary in charge) when ``zone`` does not
        catch up within ``deadline_s``.
        """
        async with self._lock:
            if zone == self.primary:
                return
            if zone not in self.following:
                raise TimeoutError(f"{zone} does not follow {self.primary} yet")
            old = self.primary
            await self.members[old].caught_up(self.members[zone], deadline_s)
            # A fast shutdown sends all write-ahead log to the streaming standbys before it ends.
            await self.members[old].stop()
            await self._promote(zone)
            log.info("switched over from %s to %s", old, zone)
