"""Route 53's health checkers: real requests on the schedule the AWS API asks for.

One checker stands for Route 53's many. It never waits for one check before another, so
an endpoint that swallows packets delays nothing but its own verdict.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from harness.clock import Clock

#: Route 53 allows 4 s to connect and then 2 s for the status line; TCP checks 10 s.
CONNECT_TIMEOUT_S = 4.0
RESPONSE_TIMEOUT_S = 2.0
TCP_TIMEOUT_S = 10.0
#: However fast the lab's time runs, a busy machine must not look like a dead region.
MIN_TIMEOUT_S = 1.0
MIN_INTERVAL_S = 0.5
_SEARCHED_BYTES = 5120
_UNSUPPORTED = ("HTTPS", "HTTPS_STR_MATCH", "CLOUDWATCH_METRIC", "RECOVERY_CONTROL")


@dataclass(frozen=True)
class Status:
    """What is held of one endpoint.

    ``healthy`` is what DNS goes by (inverted and disabled applied), since wall instant
    ``since``. ``observed`` is what the threshold makes of the requests themselves, None
    before the first. ``streak`` counts results in a row that contradict ``observed``.
    """

    healthy: bool
    since: float
    reason: str = "not checked yet"
    observed: bool | None = None
    checked: float | None = None
    streak: int = 0

    def decided(self, check: Mapping[str, Any]) -> bool:
        """Whether there is anything to report: a result, or nothing to wait for."""
        return self.observed is not None or bool(check["disabled"])


OnChange = Callable[[str, Status], None]


def after_result(
    status: Status, check: Mapping[str, Any], ok: bool, reason: str, t: float
) -> Status:
    """The status after one request: it turns only after ``threshold`` results in a row."""
    if status.observed is None:
        return _held(replace(status, observed=ok, reason=reason, checked=t), check, t)
    if ok == status.observed:
        return replace(status, reason=reason, checked=t, streak=0)
    streak = status.streak + 1
    if streak < check["threshold"]:
        return replace(status, checked=t, streak=streak)
    turned = replace(status, observed=ok, reason=reason, checked=t, streak=0)
    return _held(turned, check, t)


def _held(status: Status, check: Mapping[str, Any], t: float) -> Status:
    """Apply ``disabled`` (counts as passing) and ``inverted``, as Route 53 does."""
    passing = True if check["disabled"] or status.observed is None else status.observed
    healthy = passing != check["inverted"]
    return replace(status, healthy=healthy, since=status.since if healthy == status.healthy else t)


class HealthChecker:
    """Runs the health checks of the AWS state; use from one event loop.

    ``on_change(check_id, status)`` is called in the loop whenever ``healthy`` turns.
    """

    def __init__(self, clock: Clock, time_scale: float, on_change: OnChange | None = None) -> None:
        self._clock = clock
        self._time_scale = time_scale
        self._on_change = on_change
        self._checks: dict[str, Mapping[str, Any]] = {}
        self._status: dict[str, Status] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def statuses(self) -> dict[str, Status]:
        """Check id → status, of every check."""
        return dict(self._status)

    @property
    def healthy(self) -> dict[str, bool]:
        """Check id → healthy, as ``route53.resolve`` takes it; a check not yet made is left out."""
        return {c: s.healthy for c, s in self._status.items() if s.decided(self._checks[c])}

    def truth(self) -> dict[str, dict[str, Any]]:
        """The ``health`` part of ``AwsState.put_truth``: check id → ``{"healthy", "observed",
        "reason", "since", "checked"}``; instants in wall seconds; not yet made: left out."""
        return {
            check: {
                "healthy": s.healthy,
                "observed": s.observed,
                "reason": s.reason,
                "since": s.since,
                "checked": s.checked,
            }
            for check, s in self._status.items()
            if s.decided(self._checks[check])
        }

    def interval_s(self, check: Mapping[str, Any]) -> float:
        """Seconds between requests of ``check`` in the lab's time."""
        return max(MIN_INTERVAL_S, check["interval_s"] / self._time_scale)

    def update(self, checks: Iterable[Mapping[str, Any]]) -> None:
        """Run exactly these checks (the AWS state's ``health_checks``); changes act at once."""
        wanted = {check["id"]: check for check in checks}
        for gone in self._checks.keys() - wanted.keys():
            self._stop(gone)
            del self._checks[gone], self._status[gone]
        for check_id, check in wanted.items():
            known = self._checks.get(check_id)
            if known != check:
                self._checks[check_id] = check
                self._take(check_id, known, check)
        self._calculate()

    def _take(
        self, check_id: str, known: Mapping[str, Any] | None, check: Mapping[str, Any]
    ) -> None:
        now = self._clock.wall_s()
        if known is None:
            # A new check counts as healthy until its first request is answered.
            self._status[check_id] = Status(healthy=not check["inverted"], since=now)
        elif _endpoint(known) != _endpoint(check):
            self._status[check_id] = replace(self._status[check_id], streak=0)
        self._set(check_id, _held(self._status[check_id], check, now))
        if known is None or _schedule(known) != _schedule(check):
            self._stop(check_id)
            if not check["disabled"] and check["type"] != "CALCULATED":
                self._tasks[check_id] = asyncio.create_task(self._run(check_id, check))

    async def close(self) -> None:
        """Stop all checks."""
        tasks = list(self._tasks.values())
        for check_id in list(self._tasks):
            self._stop(check_id)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stop(self, check_id: str) -> None:
        if task := self._tasks.pop(check_id, None):
            task.cancel()

    async def _run(self, check_id: str, check: Mapping[str, Any]) -> None:
        """Request at fixed instants; one that takes longer is followed at once by the next."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            ok, reason = await self._request(check)
            # Inverted or threshold may have changed without a new schedule.
            current = self._checks[check_id]
            now = self._clock.wall_s()
            self._set(check_id, after_result(self._status[check_id], current, ok, reason, now))
            self._calculate()
            due = max(due + self.interval_s(check), loop.time())
            await asyncio.sleep(due - loop.time())

    def _set(self, check_id: str, status: Status) -> None:
        before = self._status[check_id]
        self._status[check_id] = status
        if self._on_change and before.healthy != status.healthy:
            self._on_change(check_id, status)

    def _calculate(self) -> None:
        """Calculated checks: healthy while enough of their children are."""
        for check_id, check in self._checks.items():
            if check["type"] != "CALCULATED":
                continue
            children = [self._status[c].healthy for c in check["children"] if c in self._status]
            ok = sum(children) >= check["health_threshold"]
            reason = f"{sum(children)} of {len(children)} children healthy"
            now = self._clock.wall_s()
            status = replace(self._status[check_id], observed=ok, reason=reason, checked=now)
            self._set(check_id, _held(status, check, now))

    def _timeout(self, aws_s: float) -> float:
        return max(MIN_TIMEOUT_S, aws_s / self._time_scale)

    async def _request(self, check: Mapping[str, Any]) -> tuple[bool, str]:
        """One request: (passed, the text Route 53 would show)."""
        if check["type"] in _UNSUPPORTED:
            return True, f"{check['type']} checks are not made in the lab"
        connect_s = TCP_TIMEOUT_S if check["type"] == "TCP" else CONNECT_TIMEOUT_S
        host, port = check["ip"] or check["fqdn"], check["port"]
        try:
            async with asyncio.timeout(self._timeout(connect_s)):
                reader, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            return False, "The endpoint did not accept a connection in time"
        except OSError as error:
            return False, f"Connection failed: {_why(error)}"
        try:
            if check["type"] == "TCP":
                return True, "Connection established"
            async with asyncio.timeout(self._timeout(RESPONSE_TIMEOUT_S)):
                return await _http(check, reader, writer)
        except TimeoutError:
            return False, "The endpoint did not respond in time"
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            return False, f"No valid HTTP response: {error}"
        finally:
            with suppress(OSError):
                writer.transport.abort()


async def _http(
    check: Mapping[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[bool, str]:
    host = check["fqdn"] or f"{check['ip']}:{check['port']}"
    writer.write(
        f"GET {check['path']} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        "User-Agent: Amazon-Route53-Health-Check-Service (lab)\r\n\r\n".encode()
    )
    await writer.drain()
    line = (await reader.readline()).decode("latin-1").split(None, 2)
    if len(line) < 2 or not line[0].startswith("HTTP/"):
        return False, "No valid HTTP response"
    status = int(line[1])
    report = f"HTTP Status Code {status}, {line[2].strip() if len(line) > 2 else ''}".rstrip(", ")
    if not 200 <= status < 400:
        return False, report
    if check["type"] == "HTTP_STR_MATCH":
        body = await _body(reader)
        found = (check["search"] or "").encode() in body
        return found, report if found else f"{report}; the search string was not found"
    return True, report


async def _body(reader: asyncio.StreamReader) -> bytes:
    """The first bytes of the body, where Route 53 looks for the search string."""
    while (await reader.readline()).strip():
        pass
    body = b""
    while len(body) < _SEARCHED_BYTES and (chunk := await reader.read(_SEARCHED_BYTES)):
        body += chunk
    return body[:_SEARCHED_BYTES]


def _why(error: OSError) -> str:
    """What the system says, e.g. ``Connection refused`` (asyncio puts its own words there)."""
    return os.strerror(error.errno) if error.errno else str(error)


def _endpoint(check: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(check[k] for k in ("ip", "port", "fqdn", "path", "type", "search"))


def _schedule(check: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*_endpoint(check), check["interval_s"], check["disabled"])
