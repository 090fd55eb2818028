"""Synthetic checks of content: does a new version give back the bytes that were stored?

An error rate cannot see wrong bytes answered with 200. While a version is tried, one
stored object is read through each of its pods every second and compared; the counts are
metrics that an analysis can ask for. Requests carry ``x-synthetic`` and are no users'.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

import aiohttp

PERIOD_S = 1.0
_TIMEOUT_S = 2.0
_OBJECT = "synthetic-check"
_BODY = hashlib.sha256(b"synthetic").digest() * 64
_HEADERS = {"x-synthetic": "1"}

#: ``(ip, port)`` → name of the pod
Pods = dict[tuple[str, int], str]


class ContentChecks:
    """``targets`` gives the pods to check and one pod that is known to be good."""

    def __init__(self, targets: Callable[[], tuple[Pods, tuple[str, int] | None]]) -> None:
        self._targets = targets
        self._stored = False
        self._counts: dict[tuple[str, str], int] = {}

    async def run(self) -> None:
        """Check for as long as the lab lives."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                pods, good = self._targets()
                if pods and good is not None:
                    await self._round(session, pods, good)
                await asyncio.sleep(PERIOD_S)

    async def _round(
        self, session: aiohttp.ClientSession, pods: Pods, good: tuple[str, int]
    ) -> None:
        try:
            headers = await self._headers(session, good)
            if not self._stored:
                await self._store(session, good, headers)
        except (aiohttp.ClientError, OSError, TimeoutError, KeyError):
            return  # nothing to compare with: nothing is said of anybody
        results = await asyncio.gather(*(self._check(session, pod, headers) for pod in pods))
        for address, result in zip(pods, results, strict=True):
            self.count(pods[address], result)

    async def _headers(self, session: aiohttp.ClientSession, at: tuple[str, int]) -> dict[str, str]:
        user = {"user": "synthetic", "password": "lab"}
        async with session.post(_url(at, "/v1/token"), json=user) as answer:
            token = (await answer.json())["token"]
        return {**_HEADERS, "Authorization": f"Bearer {token}"}

    async def _store(
        self, session: aiohttp.ClientSession, at: tuple[str, int], headers: dict[str, str]
    ) -> None:
        url = _url(at, f"/v1/files/{_OBJECT}")
        async with session.put(url, data=_BODY, headers=headers) as answer:
            self._stored = answer.status == 201
            if not self._stored:
                raise KeyError(_OBJECT)

    async def _check(
        self, session: aiohttp.ClientSession, at: tuple[str, int], headers: dict[str, str]
    ) -> str:
        try:
            async with session.get(_url(at, f"/v1/files/{_OBJECT}"), headers=headers) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return "failed"
        if answer.status != 200:
            return "failed"
        return "ok" if body == _BODY else "wrong"

    def count(self, pod: str, result: str) -> None:
        """One more check of ``pod`` with this result: ok, wrong or failed."""
        for known in ("ok", "wrong", "failed"):
            self._counts.setdefault((pod, known), 0)
        self._counts[pod, result] += 1

    def render(self) -> str:
        """The counts as Prometheus reads them."""
        lines = ["# TYPE content_checks_total counter"]
        lines += [
            f'content_checks_total{{pod="{pod}",result="{result}"}} {count}'
            for (pod, result), count in sorted(self._counts.items())
        ]
        return "\n".join(lines) + "\n"


def _url(at: tuple[str, int], path: str) -> str:
    return f"http://{at[0]}:{at[1]}{path}"
