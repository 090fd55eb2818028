"""Who may take over: only a standby that is there, and only a copy made since it was lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.clock import ManualClock
from harness.lab.database import Database
from harness.lab.layout import Layout
from harness.lab.postgres import PostgresError

A, B, WEST = "us-east-1a", "us-east-1b", "us-west-2a"


class Member:
    """A PostgreSQL server as the database sees it."""

    def __init__(self, name: str, role: str) -> None:
        self.name = name
        self.current = role
        self.running = True
        self.calls: list[str] = []

    async def role(self, _timeout_s: float) -> str | None:
        return self.current if self.running else None

    def kill(self) -> None:
        self.running = False
        self.calls.append("kill")

    async def promote(self) -> None:
        if not self.running:
            raise ConnectionRefusedError(self.name)
        self.current = "primary"

    async def set_synchronous(self, names: tuple[str, ...]) -> None:
        self.calls.append(f"synchronous {','.join(names)}")

    async def follow(self, _other: Any) -> None:
        self.calls.append("follow")

    async def clone_from(self, _other: Any) -> None:
        self.calls.append("clone")
        self.current = "replica"

    async def start(self) -> None:
        self.running = True

    async def ready(self, _deadline_s: float) -> None:
        pass


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.blocked: set[str] = set()
        self.members = {A: Member(A, "primary"), B: Member(B, "replica"), WEST: Member(WEST, "r")}
        self.database = Database(
            Layout(60),
            self.members,  # type: ignore[arg-type]
            clock=self.clock,
            time_scale=10.0,
            blocked=self.blocked.__contains__,
            changed=lambda: None,
        )

    def steps(self, duration_s: float) -> None:
        """Let the database look after itself for a while."""
        for _ in range(int(duration_s / 0.5)):
            asyncio.run(self.database._step())
            self.clock.advance(0.5)


def test_a_standby_whose_zone_was_away_for_a_moment_is_made_anew_before_it_counts() -> None:
    world = World()
    world.database.came_back(B)
    assert not world.members[B].running
    assert world.database.following == {WEST}
    world.steps(8.0)
    assert "clone" in world.members[B].calls
    assert world.database.following == {B, WEST}


def test_the_primary_is_left_alone_when_its_zone_comes_back_in_time() -> None:
    world = World()
    world.database.came_back(A)
    assert world.members[A].running
    assert world.database.primary == A


def test_a_standby_that_died_is_not_counted_on() -> None:
    world = World()
    world.members[B].running = False
    world.steps(1.0)
    assert world.database.following == {WEST}
    assert world.database.describe()["files-db-replica-b"]["status"] == "storage-optimization"


def test_a_dead_standby_is_not_promoted_when_the_primary_is_lost() -> None:
    world = World()
    world.members[A].running = world.members[B].running = False
    world.steps(20.0)
    assert world.database.primary == A
    world.members[B].running = True
    world.steps(1.0)
    assert world.database.primary == B


def test_a_standby_that_is_not_there_is_not_promoted_at_the_others_cost() -> None:
    world = World()
    world.members[WEST].running = False
    with pytest.raises(PostgresError, match="not there to be promoted"):
        asyncio.run(world.database.promote(WEST))
    assert world.members[A].running
    assert world.database.primary == A


def test_a_promotion_that_is_slow_is_asked_for_again() -> None:
    world = World()
    west = world.members[WEST]
    promote, failures = west.promote, [TimeoutError(), PostgresError("starting up")]

    async def slow() -> None:
        if failures:
            raise failures.pop()
        await promote()

    west.promote = slow  # type: ignore[method-assign]
    asyncio.run(world.database.promote(WEST))
    assert (world.database.primary, west.current) == (WEST, "primary")
    assert not world.members[A].running
