"""Health checks: thresholds as a table, requests against real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from harness.clock import ManualClock, SystemClock
from harness.lab import health
from harness.lab.health import HealthChecker, Status, after_result

HOST = "127.104.1.9"


def check(**more: Any) -> dict[str, Any]:
    return {
        "id": "hc",
        "ip": HOST,
        "port": 1,
        "fqdn": None,
        "path": "/health/region",
        "type": "HTTP",
        "search": None,
        "interval_s": 10,
        "threshold": 3,
        "inverted": False,
        "disabled": False,
        "children": [],
        "health_threshold": 0,
        **more,
    }


@pytest.mark.parametrize(
    ("results", "threshold", "healthy"),
    [
        ("+", 3, "1"),
        ("-", 3, "0"),
        ("+--", 3, "111"),
        ("+---", 3, "1110"),
        ("+--+--", 3, "111111"),
        ("+----++", 3, "1110000"),
        ("+---+++", 3, "1110001"),
        ("+-+", 1, "101"),
    ],
)
def test_health_turns_only_after_threshold_results_in_a_row(
    results: str, threshold: int, healthy: str
) -> None:
    status = Status(healthy=True, since=0.0)
    seen = []
    for t, result in enumerate(results):
        status = after_result(status, check(threshold=threshold), result == "+", "", float(t))
        seen.append("1" if status.healthy else "0")
    assert "".join(seen) == healthy


def test_since_is_the_instant_it_turned_and_the_reason_the_last_one_that_counts() -> None:
    status = Status(healthy=True, since=0.0)
    for t, (ok, reason) in enumerate([(True, "ok"), (False, "a"), (False, "b"), (False, "c")]):
        status = after_result(status, check(), ok, reason, float(t))
    assert (status.healthy, status.since, status.reason) == (False, 3.0, "c")


class Endpoint:
    """An HTTP server whose answer can be changed; counts requests."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\n\r\nhello"
        self.requests = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        await reader.readline()
        if self.answer == b"hang":
            await reader.read()
        writer.write(self.answer)
        writer.close()


@asynccontextmanager
async def endpoint() -> AsyncIterator[Endpoint]:
    service = Endpoint()
    server = await asyncio.start_server(service.serve, HOST, 0)
    service.port = server.sockets[0].getsockname()[1]
    try:
        yield service
    finally:
        server.close()


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MIN_INTERVAL_S", 0.03)
    monkeypatch.setattr(health, "MIN_TIMEOUT_S", 0.1)


async def observe(
    checks: list[dict[str, Any]], done: Callable[[HealthChecker], bool]
) -> dict[str, Any]:
    checker = HealthChecker(SystemClock(), 1000.0)
    checker.update(checks)
    try:
        await until(lambda: done(checker))
        return checker.truth()
    finally:
        await checker.close()


@pytest.mark.parametrize(
    ("answer", "more", "healthy", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", {}, True, "HTTP Status Code 200, OK"),
        (b"HTTP/1.1 302 Found\r\n\r\n", {}, True, "HTTP Status Code 302, Found"),
        (b"HTTP/1.1 503 No\r\n\r\n", {}, False, "HTTP Status Code 503, No"),
        (b"nonsense\r\n", {}, False, "No valid HTTP response"),
        (b"HTTP/1.1 abc\r\n\r\n", {}, False, "No valid HTTP response"),
        (b"", {}, False, "No valid HTTP response"),
        (b"hang", {}, False, "did not respond in time"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", {"type": "TCP"}, True, "Connection established"),
        (
            b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nit is hello",
            {"type": "HTTP_STR_MATCH", "search": "hello"},
            True,
            "200",
        ),
        (
            b"HTTP/1.1 200 OK\r\n\r\nbye",
            {"type": "HTTP_STR_MATCH", "search": "hello"},
            False,
            "search string was not found",
        ),
        (b"HTTP/1.1 503 No\r\n\r\n", {"inverted": True}, True, "503"),
    ],
)
def test_an_endpoint_is_judged_by_what_it_answers(
    answer: bytes, more: dict[str, Any], healthy: bool, reason: str
) -> None:
    async def scene() -> dict[str, Any]:
        async with endpoint() as service:
            service.answer = answer
            found = await observe([check(port=service.port, **more)], lambda c: bool(c.truth()))
            return found["hc"]

    found = asyncio.run(scene())
    assert found["healthy"] is healthy
    assert reason in found["reason"]


def test_a_refused_connection_is_a_failure_with_its_reason() -> None:
    found = asyncio.run(observe([check(port=1)], lambda c: bool(c.truth())))
    assert not found["hc"]["healthy"]
    assert "refused" in found["hc"]["reason"].lower()


def test_a_hanging_endpoint_does_not_delay_the_checks_of_another() -> None:
    async def scene() -> tuple[int, int]:
        async with endpoint() as stuck, endpoint() as well:
            stuck.answer = b"hang"
            checks = [check(id="stuck", port=stuck.port), check(id="well", port=well.port)]
            await observe(checks, lambda _: well.requests >= 8)
            return stuck.requests, well.requests

    stuck, well = asyncio.run(scene())
    assert stuck < well


def test_listeners_hear_each_turn_and_a_changed_check_acts_at_once() -> None:
    async def scene() -> list[bool]:
        turns: list[bool] = []
        async with endpoint() as service:
            checker = HealthChecker(
                SystemClock(), 1000.0, lambda _check, status: turns.append(status.healthy)
            )
            plain = check(port=service.port)
            checker.update([plain])
            await until(lambda: checker.healthy == {"hc": True})
            requests = service.requests
            checker.update([{**plain, "inverted": True}])
            assert checker.healthy == {"hc": False}, "no request is needed to invert"
            checker.update([{**plain, "inverted": True, "disabled": True}])
            assert checker.healthy == {"hc": False}, "disabled counts as passing, then inverted"
            checker.update([plain])
            assert checker.healthy == {"hc": True}
            await until(lambda: service.requests > requests)
            service.answer = b"HTTP/1.1 500 E\r\n\r\n"
            await until(lambda: checker.healthy == {"hc": False})
            checker.update([])
            assert checker.healthy == {}
            await checker.close()
        return turns

    assert asyncio.run(scene()) == [False, True, False]


def test_a_disabled_check_makes_no_request() -> None:
    async def scene() -> int:
        async with endpoint() as service:
            other = check(id="other", port=service.port, type="TCP")
            checks = [check(port=service.port, disabled=True), other]
            found = await observe(checks, lambda c: "other" in c.truth())
            assert found["hc"]["healthy"]
            return service.requests

    assert asyncio.run(scene()) == 1


def test_a_new_check_is_held_healthy_and_not_reported_until_its_first_result() -> None:
    async def scene() -> None:
        checker = HealthChecker(ManualClock(), 10.0)
        checker.update([check()])
        assert checker.truth() == {} and checker.healthy == {}
        await checker.close()

    asyncio.run(scene())


def test_a_calculated_check_counts_its_healthy_children() -> None:
    async def scene() -> dict[str, Any]:
        async with endpoint() as service:
            checks = [
                check(id="good", port=service.port),
                check(id="bad", port=1),
                check(id="both", type="CALCULATED", children=["good", "bad"], health_threshold=2),
                check(id="any", type="CALCULATED", children=["good", "bad"], health_threshold=1),
            ]
            return await observe(checks, lambda c: {"good", "bad"} <= c.healthy.keys())

    found = asyncio.run(scene())
    assert (found["both"]["healthy"], found["any"]["healthy"]) == (False, True)


def test_intervals_are_divided_by_the_time_scale_and_never_too_short() -> None:
    checker = HealthChecker(ManualClock(), 10.0)
    assert checker.interval_s(check(interval_s=30)) == 3.0
    assert HealthChecker(ManualClock(), 1e6).interval_s(check()) == health.MIN_INTERVAL_S


def test_close_ends_all_checks() -> None:
    async def scene() -> int:
        async with endpoint() as service:
            checker = HealthChecker(SystemClock(), 1000.0)
            checker.update([check(port=service.port), check(id="refused", port=1)])
            await until(lambda: service.requests > 0)
            await checker.close()
            return len([t for t in asyncio.all_tasks() if "_run" in repr(t.get_coro())])

    assert asyncio.run(scene()) == 0
