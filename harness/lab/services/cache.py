"""Redis, as a cache that may be absent at any time.

One connection, commands in flight at once, a short deadline; after a failure the
cache is left alone for some seconds, so a lost Redis costs one short wait.
"""

from __future__ import annotations

import asyncio
from collections import deque

TIMEOUT_S = 0.15
REST_S = 2.0

_Reply = bytes | int | None


class RedisError(Exception):
    """Redis refused a command."""


class Cache:
    """GET, SET with expiry, and DEL. Every method answers "not there" when Redis does not."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._waiting: deque[asyncio.Future[_Reply]] = deque()
        self._reading: asyncio.Task[None] | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._rest_until_s = 0.0

    async def get(self, key: str) -> bytes | None:
        reply = await self._command(b"GET", key.encode())
        return reply if isinstance(reply, bytes) else None

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        await self._command(b"SET", key.encode(), value, b"PX", b"%d" % int(ttl_s * 1000))

    async def delete(self, key: str) -> None:
        await self._command(b"DEL", key.encode())

    async def close(self) -> None:
        self._lost()

    async def _command(self, *parts: bytes) -> _Reply:
        loop = asyncio.get_running_loop()
        if loop.time() < self._rest_until_s:
            return None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if self._streams is None:
                    await self._connect()
                if self._streams is None:
                    raise ConnectionResetError("the connection to Redis closed again")
                future: asyncio.Future[_Reply] = loop.create_future()
                self._waiting.append(future)
                self._streams[1].write(_encode(parts))
                return await future
        except RedisError:
            return None
        except (TimeoutError, OSError):
            self._lost()
            self._rest_until_s = loop.time() + REST_S
            return None

    async def _connect(self) -> None:
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._open())
        await asyncio.shield(self._connecting)

    async def _open(self) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            self._streams = await asyncio.open_connection(self._host, self._port)
        self._reading = asyncio.create_task(self._read(self._streams[0]))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                try:
                    reply: _Reply | RedisError = await _decode(reader)
                except RedisError as error:
                    reply = error
                future = self._waiting.popleft()
                if future.done():
                    continue
                if isinstance(reply, RedisError):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except (OSError, asyncio.IncompleteReadError, ValueError, IndexError):
            self._lost()

    def _lost(self) -> None:
        if self._reading and self._reading is not asyncio.current_task():
            self._reading.cancel()
        if self._streams:
            self._streams[1].close()
        self._streams = self._reading = None
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(ConnectionResetError("the connection to Redis closed"))


def _encode(parts: tuple[bytes, ...]) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)


async def _decode(reader: asyncio.StreamReader) -> _Reply:
    line = await reader.readuntil(b"\r\n")
    kind, rest = line[:1], line[1:-2]
    if kind == b"$":
        size = int(rest)
        return None if size < 0 else (await reader.readexactly(size + 2))[:-2]
    if kind == b":":
        return int(rest)
    if kind == b"-":
        raise RedisError(rest.decode())
    return rest
