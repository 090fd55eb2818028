"""The message queue: NATS JetStream, one server per zone.

Events are told after the database has committed and never hold up an answer: a
bounded buffer in the pod takes them while the server is away, and drops the
oldest (counted) when it is full.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, StorageType, StreamConfig
from nats.js.client import JetStreamContext
from nats.js.errors import Error as JetStreamError

STREAM = "FILES"
SUBJECTS = ["file.>"]
CONSUMER = "notification"
BUFFERED_EVENTS = 10_000
PUBLISH_TIMEOUT_S = 2.0
RETRY_PAUSE_S = 0.5
_FAILURES = (nats.errors.Error, JetStreamError, OSError, TimeoutError)

log = logging.getLogger("pod")


async def _connect(url: str) -> tuple[Client, JetStreamContext]:
    async def on_error(error: Exception) -> None:
        log.info("queue: %r", error)

    client = await nats.connect(
        url,
        connect_timeout=1,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.5,
        ping_interval=2,
        max_outstanding_pings=2,
        error_cb=on_error,
    )
    stream = client.jetstream(timeout=PUBLISH_TIMEOUT_S)
    try:
        await stream.add_stream(
            StreamConfig(
                name=STREAM, subjects=SUBJECTS, storage=StorageType.FILE, max_msgs=1_000_000
            )
        )
    except BaseException:
        await client.close()
        raise
    return client, stream


async def _until_connected(url: str) -> tuple[Client, JetStreamContext]:
    while True:
        try:
            return await _connect(url)
        except _FAILURES as error:
            log.info("queue %s: %r", url, error)
            await asyncio.sleep(RETRY_PAUSE_S)


class Publisher:
    """Tells events in the background, in order."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._buffer: deque[tuple[str, bytes]] = deque(maxlen=BUFFERED_EVENTS)
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    def publish(self, subject: str, event: dict[str, Any]) -> None:
        if len(self._buffer) == BUFFERED_EVENTS:
            self.dropped += 1
        self._buffer.append((subject, json.dumps(event).encode()))
        self._some.set()

    @property
    def waiting(self) -> int:
        return len(self._buffer)

    async def close(self) -> None:
        """Give what is buffered a moment, then stop."""
        if self._task:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    while self._buffer:
                        await asyncio.sleep(0.02)
            self._task.cancel()

    async def _run(self) -> None:
        client, stream = await _until_connected(self._url)
        try:
            while True:
                await self._some.wait()
                self._some.clear()
                while self._buffer:
                    subject, data = self._buffer[0]
                    try:
                        await stream.publish(subject, data, timeout=PUBLISH_TIMEOUT_S)
                    except _FAILURES as error:
                        log.info("queue: %s not published yet: %r", subject, error)
                        await asyncio.sleep(RETRY_PAUSE_S)
                        continue
                    # The buffer may have dropped this very event while it was sent.
                    if self._buffer and self._buffer[0] == (subject, data):
                        self._buffer.popleft()
        finally:
            await client.close()


class Subscriber:
    """Hands each event to ``deliver(subject, event)`` once it has been stored by the queue."""

    def __init__(self, url: str, deliver: Callable[[str, dict[str, Any]], None]) -> None:
        self._url = url
        self._deliver = deliver
        self._task: asyncio.Task[None] | None = None
        self.depth = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            client, stream = await _until_connected(self._url)
            try:
                config = ConsumerConfig(ack_wait=5, max_ack_pending=1000)
                subscription = await stream.pull_subscribe(
                    SUBJECTS[0], durable=CONSUMER, stream=STREAM, config=config
                )
                while True:
                    await self._take(subscription)
            except _FAILURES as error:
                log.info("queue: %r", error)
                await asyncio.sleep(RETRY_PAUSE_S)
            finally:
                await client.close()

    async def _take(self, subscription: JetStreamContext.PullSubscription) -> None:
        try:
            messages: list[Msg] = await subscription.fetch(64, timeout=1.0)
        except TimeoutError:
            self.depth = (await subscription.consumer_info()).num_pending or 0
            return
        for message in messages:
            try:
                event = json.loads(message.data)
            except ValueError:
                event = {}
            self._deliver(message.subject, event)
            await message.ack()
        self.depth = messages[-1].metadata.num_pending or 0
