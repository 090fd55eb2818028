"""Redis and the queue are real and answer their own protocols."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import nats
import pytest
import redis.asyncio
from parts_support import LAYOUT, alive

from harness.errors import LabError
from harness.lab.queue import Queue
from harness.lab.redis import Redis


def test_redis_counts_and_writes_nothing_to_disk(parts, tmp_path):
    async def scenario() -> None:
        part = Redis(
            "redis", LAYOUT.redis("us-east-1a"), 6379, tmp_path / "data", tmp_path / "redis.log"
        )
        parts.append(part)
        await part.start()
        await part.ready()
        client = redis.asyncio.Redis(host=part.listeners[0][0], port=6379)
        assert await client.incr("hits") == 1
        assert (await client.config_get("tcp-backlog"))["tcp-backlog"] == "64"
        await client.aclose()
        pids = part.pids()
        assert pids
        await part.stop()
        assert not any(map(alive, pids))
        assert list((tmp_path / "data").iterdir()) == []

    asyncio.run(scenario())


def test_the_queue_keeps_a_message_over_a_kill(parts, tmp_path):
    async def scenario() -> None:
        part = Queue(
            "queue", LAYOUT.queue("us-east-1a"), 4222, tmp_path / "data", tmp_path / "queue.log"
        )
        parts.append(part)
        await part.start()
        await part.ready()
        url = f"nats://{part.listeners[0][0]}:4222"
        client = await nats.connect(url)
        await client.jetstream().add_stream(name="EVENTS", subjects=["events.>"])
        await client.jetstream().publish("events.upload", b"one")
        await client.close()
        part.kill()
        await part.start()
        await part.ready()
        client = await nats.connect(url)
        subscription = await client.jetstream().pull_subscribe("events.>", "test")
        [message] = await subscription.fetch(1, timeout=2)
        assert message.data == b"one"
        await client.close()
        await part.stop()

    asyncio.run(scenario())


def test_a_part_that_ends_while_starting_says_so_with_its_log(parts, tmp_path):
    async def scenario() -> None:
        host = LAYOUT.redis("us-east-1b")
        part = Redis("redis", host, 6379, tmp_path / "data", tmp_path / "redis.log")
        parts.append(part)
        with contextlib.closing(socket.create_server((host, 6379), backlog=1)):
            await part.start()
            with pytest.raises(LabError, match=r"(?s)redis ended while starting.*in use"):
                await part.ready()

    asyncio.run(scenario())
