"""Readiness and liveness probes, cheap enough for many pods at one per second.

A probe of a hung process (stopped, or behind a black hole) ends after its timeout;
nothing else waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from harness.lab.kube.objects import Obj

_FIRST_DELAY_S = 0.1
_MAX_HEAD_BYTES = 4096


@dataclass(frozen=True)
class ProbeSpec:
    """A probe as in the pod's manifest; durations in seconds. ``target`` is its action."""

    initial_delay_s: float
    period_s: float
    timeout_s: float
    failure_threshold: int
    success_threshold: int
    target: Obj

    @staticmethod
    def parse(probe: Obj) -> ProbeSpec:
        return ProbeSpec(
            initial_delay_s=float(probe.get("initialDelaySeconds", 0)),
            period_s=max(0.1, float(probe.get("periodSeconds", 10))),
            timeout_s=max(0.1, float(probe.get("timeoutSeconds", 1))),
            failure_threshold=max(1, int(probe.get("failureThreshold", 3))),
            success_threshold=max(1, int(probe.get("successThreshold", 1))),
            target=probe,
        )


class _HttpGet(asyncio.Protocol):
    """Sends one request and reads the status line."""

    def __init__(self, request: bytes, answer: asyncio.Future[str]) -> None:
        self._request = request
        self._answer = answer
        self._head = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.write(self._request)  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        self._head += data
        line, found, _ = self._head.partition(b"\r\n")
        if not found and len(self._head) < _MAX_HEAD_BYTES:
            return
        parts = line.split(None, 2)
        valid = len(parts) > 1 and parts[0].startswith(b"HTTP/") and parts[1].isdigit()
        if not valid:
            self._finish("malformed HTTP response")
        elif 200 <= int(parts[1]) < 400:
            self._finish("")
        else:
            self._finish(f"HTTP probe failed with statuscode: {int(parts[1])}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish("connection closed before an answer")

    def _finish(self, problem: str) -> None:
        if not self._answer.done():
            self._answer.set_result(problem)


async def http_get(host: str, port: int, path: str, timeout_s: float) -> str:
    """Probe by HTTP; returns what is wrong, empty for a status of 200 to 399."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: kube-probe/1.33\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    ).encode()
    protocol = _HttpGet(request, answer)
    try:
        async with asyncio.timeout(timeout_s):
            await loop.create_connection(lambda: protocol, host, port)
            return await answer
    except TimeoutError:
        return f"Get http://{host}:{port}{path}: timeout after {timeout_s:g}s"
    except OSError as error:
        return f"Get http://{host}:{port}{path}: {error}"
    finally:
        if protocol.transport:
            protocol.transport.abort()


async def tcp_connect(host: str, port: int, timeout_s: float) -> str:
    """Probe by connecting; returns what is wrong, empty if it connected."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"dial tcp {host}:{port}: timeout after {timeout_s:g}s"
    except OSError as error:
        return f"dial tcp {host}:{port}: {error}"
    writer.transport.abort()
    return ""


class Prober:
    """Runs one probe until cancelled, telling each change of its verdict.

    ``check(spec)`` returns what is wrong or nothing. ``on_verdict(ok, problem)`` is
    called when the verdict changes, and ``on_failure(problem)`` at the first failure of a row.
    """

    def __init__(
        self,
        spec: ProbeSpec,
        check: Callable[[ProbeSpec], Awaitable[str]],
        on_verdict: Callable[[bool, str], None],
        on_failure: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._check = check
        self._on_verdict = on_verdict
        self._on_failure = on_failure

    async def run(self, *, verdict: bool | None = None) -> None:
        """Probe for ever; ``verdict`` is what holds until the first change."""
        row = 0
        last: bool | None = None
        loop = asyncio.get_running_loop()
        due = loop.time() + (self._spec.initial_delay_s or _FIRST_DELAY_S)
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = max(due + self._spec.period_s, loop.time())
            problem = await self._check(self._spec)
            passed = not problem
            row = row + 1 if passed is last else 1
            last = passed
            if row == 1 and not passed:
                self._on_failure(problem)
            needed = self._spec.success_threshold if passed else self._spec.failure_threshold
            if passed is not verdict and row >= needed:
                verdict = passed
                self._on_verdict(passed, problem)
