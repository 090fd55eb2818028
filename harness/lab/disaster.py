"""The team's disaster-recovery automation, as it would run beside the service.

It sees what an operator sees (the Route 53 health check, the load balancer) and acts
through the AWS and Kubernetes APIs: when the primary region's health check stays red it
activates the standby (promote the replica, move the writer's name, scale the
services up); when the region is back it has data synchronised, hands the writer back
(which turns the health check green, so DNS returns), then scales the standby down.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Protocol

from harness.clock import Clock

log = logging.getLogger("harness.lab.disaster")

#: How long the health check must be red before the standby is activated, and the primary
#: region be back before failback begins; divided by the time scale.
ACTIVATE_AFTER_S = 20.0
FAIL_BACK_AFTER_S = 30.0
#: How long the standby's capacity is kept after DNS has returned (clients honour TTLs late).
DRAIN_S = 60.0
_PERIOD_S = 0.25


class Stage(Enum):
    """Where the automation stands. The order is the order of a failover and failback."""

    NORMAL = "normal"
    ACTIVATING = "activating"
    STANDBY_ACTIVE = "standby-active"
    SYNCHRONISING = "synchronising"
    DRAINING = "draining"


class Hands(Protocol):
    """What the automation can do and see; the supervisor gives the real ones."""

    def primary_health(self) -> bool | None: ...
    async def primary_answers(self) -> bool: ...
    async def promote_standby(self) -> None: ...
    def standby_promoted(self) -> bool: ...
    async def point_writer_at(self, region: str) -> None: ...
    async def scale_standby(self, active: bool) -> None: ...
    async def databases_synchronised(self) -> bool: ...
    async def objects_synchronised(self) -> bool: ...
    async def hand_back(self) -> None: ...


class DisasterRecovery:
    """The state machine; one pass of :meth:`step` per period."""

    def __init__(
        self,
        hands: Hands,
        *,
        clock: Clock,
        time_scale: float,
        primary: str,
        standby: str,
        promotes: bool = True,
    ) -> None:
        self._hands = hands
        self._clock = clock
        self._scale = time_scale
        self._primary = primary
        self._standby = standby
        self._promotes = promotes
        self.stage = Stage.NORMAL
        self._since: float | None = None
        self._promotion_asked = False
        self._steps: dict[Stage, Callable[[], Awaitable[None]]] = {
            Stage.NORMAL: self._normal,
            Stage.ACTIVATING: self._activating,
            Stage.STANDBY_ACTIVE: self._standby_active,
            Stage.SYNCHRONISING: self._synchronising,
            Stage.DRAINING: self._draining,
        }

    async def run(self) -> None:
        while True:
            try:
                await self._steps[self.stage]()
            except (OSError, TimeoutError, RuntimeError) as error:
                log.warning("stage %s: %s; trying again", self.stage.value, error)
            await asyncio.sleep(_PERIOD_S)

    def _enter(self, stage: Stage) -> None:
        log.info("disaster recovery: %s -> %s", self.stage.value, stage.value)
        self.stage = stage
        self._since = None
        if stage is Stage.NORMAL:
            self._promotion_asked = False

    def _held(self, condition: bool, duration_s: float) -> bool:
        """Whether ``condition`` has been true for ``duration_s`` without a break."""
        if not condition:
            self._since = None
            return False
        now = self._clock.monotonic_s()
        if self._since is None:
            self._since = now
        return now - self._since >= duration_s / self._scale

    async def _normal(self) -> None:
        if self._held(self._hands.primary_health() is False, ACTIVATE_AFTER_S):
            self._enter(Stage.ACTIVATING)
            await self._hands.scale_standby(active=True)
            await self._promote()

    async def _activating(self) -> None:
        if self._hands.standby_promoted():
            await self._hands.point_writer_at(self._standby)
            self._enter(Stage.STANDBY_ACTIVE)
        elif self._held(self._hands.primary_health() is True, FAIL_BACK_AFTER_S):
            # The region came back before its standby was ever promoted: nothing to hand back.
            await self._hands.scale_standby(active=False)
            self._enter(Stage.NORMAL)
        else:
            await self._promote()

    async def _promote(self) -> None:
        """Ask for the promotion until it was taken, once per failover."""
        if self._promotes and not self._promotion_asked:
            await self._hands.promote_standby()
            self._promotion_asked = True

    async def _standby_active(self) -> None:
        if self._held(await self._hands.primary_answers(), FAIL_BACK_AFTER_S):
            self._enter(Stage.SYNCHRONISING)

    async def _synchronising(self) -> None:
        if not await self._hands.primary_answers():
            self._enter(Stage.STANDBY_ACTIVE)
        elif (
            await self._hands.databases_synchronised() and await self._hands.objects_synchronised()
        ):
            await self._hands.hand_back()
            await self._hands.point_writer_at(self._primary)
            self._enter(Stage.DRAINING)

    async def _draining(self) -> None:
        if self._held(self._hands.primary_health() is True, DRAIN_S):
            await self._hands.scale_standby(active=False)
            self._enter(Stage.NORMAL)
