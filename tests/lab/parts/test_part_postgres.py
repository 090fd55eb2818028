"""PostgreSQL as the lab uses it: nothing acknowledged is lost, and no call waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from pathlib import Path

import asyncpg
import pytest
from parts_support import LAYOUT, alive, wait_for

from harness.errors import LabError
from harness.lab.part import signal_all
from harness.lab.postgres import _SERVER_SAYS_NO, DATABASE, USER, Postgres, PostgresError

SCHEMA = "CREATE TABLE kept (id int PRIMARY KEY)"


def member(parts: list, folder: Path, zone: str) -> Postgres:
    name = LAYOUT.zone(zone).db_instance
    made = Postgres(name, LAYOUT.db(zone), 5432, folder / name, folder / f"{name}.log")
    parts.append(made)
    return made


async def count(server: Postgres) -> int:
    return await server._value("SELECT count(*) FROM kept")


async def write_until_broken(server: Postgres, acknowledged: list[int]) -> None:
    connection = await asyncpg.connect(
        host=server.host, port=server.port, user=USER, database=DATABASE, ssl=False
    )
    for number in range(1, 1_000_000):
        try:
            await connection.execute(f"INSERT INTO kept VALUES ({number})")
        except (*_SERVER_SAYS_NO, OSError):
            return
        acknowledged.append(number)


def test_no_acknowledged_commit_is_lost_when_the_primary_is_killed(parts, tmp_path):
    async def scenario() -> None:
        a, b, west = (
            member(parts, tmp_path, z) for z in ("us-east-1a", "us-east-1b", "us-west-2a")
        )
        await a.init_primary(SCHEMA)
        await asyncio.gather(b.clone_from(a), west.clone_from(a))
        assert [await m.role() for m in (a, b, west)] == ["primary", "replica", "replica"]
        await a.set_synchronous([b.name])
        await a.execute("INSERT INTO kept VALUES (0)")
        assert {r["name"]: r["sync_state"] for r in await a.replication()} == {
            b.name: "sync",
            west.name: "async",
        }
        assert await count(b) == 1, "remote_apply: the standby shows it when the commit returns"

        acknowledged: list[int] = []
        writer = asyncio.create_task(write_until_broken(a, acknowledged))
        while len(acknowledged) < 50:
            await asyncio.sleep(0.01)
        a.kill()
        await writer
        assert await a.role(0.5) == "down"

        await b.promote()
        assert await b.role() == "primary"
        kept = {r["id"] for r in await b._query("SELECT id FROM kept", timeout_s=2)}
        assert set(acknowledged) <= kept

        await west.follow(b)  # onto b's new timeline, without a restart
        await b.execute("INSERT INTO kept VALUES (-1)")
        await b.caught_up(west, 5.0)
        await a.clone_from(b)
        await b.set_synchronous([a.name])
        await b.execute("INSERT INTO kept VALUES (-2)")
        assert await count(a) == await count(b) == len(kept) + 2
        await b.caught_up(west, 5.0)
        assert await count(west) == len(kept) + 2

    asyncio.run(scenario())


def test_every_call_keeps_its_deadline_when_the_server_is_frozen(parts, tmp_path):
    async def scenario() -> None:
        a = member(parts, tmp_path, "us-east-1a")
        await a.init_primary(SCHEMA)
        frozen = a.pids()
        signal_all(frozen, signal.SIGSTOP)
        began = time.monotonic()
        assert await a.role(0.3) == "down"
        for call in (a.execute("SELECT 1", 0.3), a.replication(0.3), a.promote(0.3)):
            with pytest.raises(TimeoutError):
                await call
        assert time.monotonic() - began < 2.5
        assert len(asyncio.all_tasks()) == 1, "no call goes on in the background"

        a.kill()
        assert wait_for(lambda: not any(map(alive, frozen)), 2.0), "fencing ends frozen ones"
        await a.start()
        await a.ready()
        assert await count(a) == 0

    asyncio.run(scenario())


def test_commits_wait_for_a_frozen_standby_until_it_is_dropped(parts, tmp_path):
    async def scenario() -> None:
        a, b = member(parts, tmp_path, "us-east-1a"), member(parts, tmp_path, "us-east-1b")
        await a.init_primary(SCHEMA)
        await b.clone_from(a)
        await a.set_synchronous([b.name])
        signal_all(b.pids(), signal.SIGSTOP)
        commit = asyncio.create_task(a.execute("INSERT INTO kept VALUES (1)", 10.0))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(commit), 0.5)
        with pytest.raises(TimeoutError):
            await a.caught_up(b, 0.5)
        await a.set_synchronous([])
        await asyncio.wait_for(commit, 2.0)
        assert await count(a) == 1

    asyncio.run(scenario())


def test_a_server_keeps_its_data_over_a_stop_and_says_why_it_cannot_start(parts, tmp_path):
    async def scenario() -> None:
        a = member(parts, tmp_path, "us-east-1b")
        await a.init_primary(SCHEMA + "; INSERT INTO kept VALUES (7)")
        with pytest.raises(PostgresError, match="no_such_table"):
            await a.execute("SELECT * FROM no_such_table")
        pids = a.pids()
        assert len(pids) > 3
        await a.stop()
        assert not any(map(alive, pids))
        assert a.pids() == []
        with contextlib.closing(socket.create_server((a.host, a.port))):
            await a.start()
            with pytest.raises(LabError, match=r"(?s)ended while starting.*Address already in use"):
                await a.ready()
        await a.start()
        await a.ready()
        await a.promote()  # no-op: it is the primary
        assert await count(a) == 1

    asyncio.run(scenario())
