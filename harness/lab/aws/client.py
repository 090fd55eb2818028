"""The supervisor's end of the AWS server: follow what is asked, report what is true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from harness.errors import LabError

_POLL_S = 25.0
_RETRY_S = 0.2


class AwsState:
    """Client of the private addresses of ``harness.lab.aws.server``.

    ``url`` is e.g. ``http://127.77.0.20:4566``. Use from one event loop; :meth:`close` it.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/_lab"
        self._session: aiohttp.ClientSession | None = None
        self._applied_version = 0

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_POLL_S + 10, connect=2)
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ready(self, timeout_s: float = 20.0) -> dict[str, Any]:
        """Wait until the server answers; returns its seed. Raises LabError if it does not."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        return await self.seed()
                    except (aiohttp.ClientError, OSError):
                        await asyncio.sleep(0.05)
        except TimeoutError:
            raise LabError(
                f"the lab's AWS API did not answer within {timeout_s:.0f} s at {self._url}",
                hint="look at its log in the lab's folder",
            ) from None

    async def seed(self) -> dict[str, Any]:
        """Ids and names of the seeded account (``harness.lab.aws.seed.describe``)."""
        async with self._http().get(f"{self._url}/seed") as response:
            response.raise_for_status()
            return dict(await response.json())

    async def state(self) -> dict[str, Any]:
        """The state now (``harness.lab.aws.state.snapshot``)."""
        return dict((await self._poll(-1, 0))["state"])

    async def watch(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the state now and each time it changes; endless, survives lost connections.

        Asking for the next one says that the previous has been acted upon: from then on
        :meth:`put_truth` ends the pending statuses (``rebooting``, …) it had asked for.
        """
        version = 0
        while True:
            try:
                answer = await self._poll(version, _POLL_S)
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(_RETRY_S)
                continue
            if answer["version"] == version:
                continue
            version = answer["version"]
            yield answer["state"]
            self._applied_version = version

    async def put_truth(
        self,
        *,
        health: Mapping[str, Mapping[str, Any]] | None = None,
        targets: Mapping[str, bool | Mapping[str, Any]] | None = None,
        databases: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Report what is true; each part given replaces that part, one left out stays.

        ``health``: check id → ``{"healthy", "reason", "since", "observed"?, "checked"?}``
        (``HealthChecker.truth()``) · ``targets``: ``"ip:port"`` → healthy, or ``{"healthy",
        "reason"}``: the gateway pods · ``databases``: instance id → ``{"zone", "status",
        "role", "source", "lag_s"}`` (``source`` an instance id; ``lag_s`` None: not
        replicating). Raises aiohttp.ClientError or OSError if the server does not answer.
        """
        parts = {"health": health, "targets": targets, "databases": databases}
        body: dict[str, Any] = {name: part for name, part in parts.items() if part is not None}
        body["applied_version"] = self._applied_version
        async with self._http().put(f"{self._url}/truth", json=body) as response:
            response.raise_for_status()

    async def _poll(self, after: int, wait_s: float) -> dict[str, Any]:
        query = {"after": str(after), "wait_s": str(wait_s)}
        async with self._http().get(f"{self._url}/state", params=query) as response:
            response.raise_for_status()
            return dict(await response.json())
