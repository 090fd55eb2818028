"""PostgreSQL as the services use it: a writer that moves, a reader close by.

The writer is a DNS name. Whenever a connection fails, a command takes too long,
or the server says that it is read-only, every connection is dropped and the name
asked for again, so a promoted standby is followed without a restart. All statements
sent here may be repeated without harm, so they are, within one budget of time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg

from harness.lab.services.dns import DnsError, Resolver

USER = "lab"
DATABASE = "files"
CONNECT_TIMEOUT_S = 1.0
COMMAND_TIMEOUT_S = 1.5
WRITE_BUDGET_S = 2.5
READ_BUDGET_S = 1.5
READER_CONNECT_TIMEOUT_S = 0.4
READER_COMMAND_TIMEOUT_S = 0.8
#: For how long reads go past the zone's own instance after it failed.
READER_REST_S = 3.0
RETRY_PAUSE_S = 0.2

#: What a new connection, a promoted standby or a stopped server cures; other errors are bugs.
_TRANSIENT = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)

Row = asyncpg.Record


class DatabaseUnavailable(Exception):
    """No answer in time. ``unsure``: the statement may have been carried out."""

    def __init__(self, message: str, *, unsure: bool) -> None:
        super().__init__(message)
        self.unsure = unsure


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    def get_reset_query(self) -> str:
        return ""


class _Sent(Exception):
    """A statement failed after it was sent."""


class Instance:
    """A few connections to one address. Not shared between event loops."""

    def __init__(
        self, host: str, port: int, *, size: int, connect_s: float, command_s: float
    ) -> None:
        self.host = host
        self._port = port
        self._connect_s = connect_s
        self._command_s = command_s
        self._idle: list[asyncpg.Connection] = []
        self._slots = asyncio.Semaphore(size)
        self._dropped = False

    async def fetch(self, sql: str, args: Sequence[Any], limit_s: float) -> list[Row]:
        """Run one statement within ``limit_s``. Raises _Sent or one of the transient errors."""
        connection: asyncpg.Connection | None = None
        try:
            async with asyncio.timeout(limit_s), self._slots:
                connection = self._idle.pop() if self._idle else await self._connect()
                rows = await connection.fetch(sql, *args, timeout=self._command_s)
        except BaseException as error:
            if connection is not None:
                connection.terminate()
                refused = isinstance(error, asyncpg.ReadOnlySQLTransactionError)
                if isinstance(error, _TRANSIENT) and not refused:
                    raise _Sent(repr(error)) from error
            raise
        if self._dropped:
            connection.terminate()
        else:
            self._idle.append(connection)
        return rows

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            host=self.host,
            port=self._port,
            user=USER,
            database=DATABASE,
            ssl=False,
            timeout=self._connect_s,
            connection_class=_Connection,
            server_settings={"jit": "off", "application_name": "files"},
        )

    def drop(self) -> None:
        """Close what is idle now and what is in use when it comes back."""
        self._dropped = True
        while self._idle:
            self._idle.pop().terminate()


class Writer:
    """The writable instance, wherever its name points now."""

    def __init__(self, resolver: Resolver, name: str, port: int, *, size: int = 4) -> None:
        self._resolver = resolver
        self._name = name
        self._port = port
        self._size = size
        self._instance: Instance | None = None

    async def fetch(self, sql: str, *args: Any, budget_s: float = WRITE_BUDGET_S) -> list[Row]:
        """Run a repeatable statement, again after a failure while time is left.

        Raises DatabaseUnavailable.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + budget_s
        unsure = False
        fresh = False
        reason = "no time left"
        while (left_s := deadline_s - loop.time()) > 0.05:
            instance: Instance | None = None
            try:
                async with asyncio.timeout(left_s):
                    instance = await self._current(fresh)
                return await instance.fetch(sql, args, left_s)
            except DnsError as error:
                reason = str(error)
            except _Sent as error:
                unsure, reason = True, str(error)
            except _TRANSIENT as error:
                reason = repr(error)
            if instance is not None:
                self._drop(instance)
            fresh = True
            await asyncio.sleep(min(RETRY_PAUSE_S, max(0.0, deadline_s - loop.time())))
        raise DatabaseUnavailable(f"{self._name}: {reason}", unsure=unsure)

    async def _current(self, fresh: bool) -> Instance:
        addresses = await self._resolver.addresses(self._name, fresh=fresh)
        if not addresses:
            raise DnsError(f"{self._name} has no address")
        if self._instance is None or self._instance.host != addresses[0]:
            if self._instance is not None:
                self._instance.drop()
            self._instance = Instance(
                addresses[0],
                self._port,
                size=self._size,
                connect_s=CONNECT_TIMEOUT_S,
                command_s=COMMAND_TIMEOUT_S,
            )
        return self._instance

    def _drop(self, instance: Instance) -> None:
        instance.drop()
        if self._instance is instance:
            self._instance = None

    def close(self) -> None:
        if self._instance is not None:
            self._instance.drop()


class Reader:
    """The zone's own instance; the writer while that one does not answer."""

    def __init__(
        self, resolver: Resolver, host: str, port: int, writer: Writer, *, size: int = 3
    ) -> None:
        self._resolver = resolver
        self._host = host
        self._port = port
        self._writer = writer
        self._size = size
        self._instance: Instance | None = None
        self._rest_until_s = 0.0

    @property
    def resting(self) -> bool:
        return asyncio.get_running_loop().time() < self._rest_until_s

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """Run a query. Raises DatabaseUnavailable."""
        if not self.resting:
            try:
                instance = await self._current()
                limit_s = READER_CONNECT_TIMEOUT_S + READER_COMMAND_TIMEOUT_S
                return await instance.fetch(sql, args, limit_s)
            except (_Sent, DnsError, *_TRANSIENT):
                self._drop()
                self._rest_until_s = asyncio.get_running_loop().time() + READER_REST_S
        return await self._writer.fetch(sql, *args, budget_s=READ_BUDGET_S)

    async def fetch_confirmed(self, sql: str, *args: Any) -> list[Row]:
        """Like :meth:`fetch`, but "no rows" from a replica that may lag is asked of the writer."""
        rows = await self.fetch(sql, *args)
        if rows:
            return rows
        return await self._writer.fetch(sql, *args, budget_s=READ_BUDGET_S)

    async def _current(self) -> Instance:
        if self._instance is None:
            addresses = await self._resolver.addresses(self._host)
            if not addresses:
                raise DnsError(f"{self._host} has no address")
            self._instance = Instance(
                addresses[0],
                self._port,
                size=self._size,
                connect_s=READER_CONNECT_TIMEOUT_S,
                command_s=READER_COMMAND_TIMEOUT_S,
            )
        return self._instance

    def _drop(self) -> None:
        if self._instance is not None:
            self._instance.drop()
            self._instance = None

    def close(self) -> None:
        self._drop()
