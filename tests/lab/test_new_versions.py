"""What the lab does with a new version: its share of the requests, its builds, its checks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from harness.lab.contentchecks import ContentChecks
from harness.lab.delivery import Split, weights
from harness.lab.services.asgi import HttpError, Request, Response
from harness.lab.services.builds import build_of

A = (("127.9.10.1", 8080), ("127.9.10.2", 8080))
NEW = (("127.9.10.3", 8080),)
B = (("127.9.20.1", 8080), ("127.9.20.2", 8080))


def shares(found: dict[tuple[str, int], int]) -> dict[str, float]:
    """Share of all requests, by address."""
    return {ip: weight / sum(found.values()) for (ip, _), weight in found.items()}


def test_a_canary_gets_its_percentage_of_its_own_clusters_share() -> None:
    found = shares(weights([Split(A, NEW, 20), Split(B, (), 0)]))
    assert found["127.9.10.3"] == pytest.approx(0.5 * 0.2)
    assert found["127.9.10.1"] == pytest.approx(0.5 * 0.8 / 2)
    assert found["127.9.20.1"] == pytest.approx(0.25)


def test_without_a_canary_every_pod_weighs_the_same() -> None:
    for split in (Split(A, (), 0), Split(A, NEW, 0), Split(A, A, 50)):
        found = weights([split, Split(B, (), 0)])
        assert set(found) == {*A, *B}
        assert len(set(found.values())) == 1


def test_at_a_hundred_per_cent_only_the_new_version_serves() -> None:
    assert set(weights([Split(A, NEW, 100)])) == set(NEW)
    assert set(weights([Split((), NEW, 50)])) == set(NEW)
    assert weights([Split((), (), 50)]) == {}


# ---- builds ------------------------------------------------------------------------------------


def answers(version: str, op: str, method: str = "GET", times: int = 4) -> list[object]:
    """Statuses and bodies of some requests to a build of this version."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"12345678"

    async def stored(request: Request) -> Response:
        whole = request.path == "/whole"
        return Response(200, [], b"12345678" if whole else chunks())

    async def receive() -> dict[str, object]:
        return {}

    async def one(handler: object, path: str) -> object:
        scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}
        try:
            response = await handler(Request(scope, receive))  # type: ignore[operator]
        except HttpError as error:
            return error.response().status
        if isinstance(response.body, bytes):
            return response.body
        return b"".join([chunk async for chunk in response.body])

    handler = build_of(version)(op, stored)
    paths = ["/whole", "/chunks"] * (times // 2)

    async def every() -> list[object]:
        return [await one(handler, path) for path in paths]

    return asyncio.run(every())


def test_a_good_build_serves_what_is_stored() -> None:
    assert answers("v2", "download") == [b"12345678"] * 4
    assert answers("v1", "upload", "PUT") == [b"12345678"] * 4


def test_a_build_that_errs_fails_every_second_request_of_users_only() -> None:
    assert answers("v2-errors", "list").count(500) == 2
    assert answers("v2-errors", "health").count(500) == 0


def test_a_build_with_wrong_bytes_keeps_status_and_length() -> None:
    for body in answers("v2-wrong-bytes", "download"):
        assert isinstance(body, bytes)
        assert len(body) == 8 and body != b"12345678"
    assert answers("v2-wrong-bytes", "list") == [b"12345678"] * 4


def test_a_build_that_is_bad_for_uploads_reads_well() -> None:
    assert answers("v2-bad-uploads", "upload", "PUT") == [500] * 4
    assert answers("v2-bad-uploads", "download") == [b"12345678"] * 4


def test_a_slow_build_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(duration_s: float) -> None:
        slept.append(duration_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert answers("v2-slow", "download", times=2) == [b"12345678"] * 2
    assert slept == [0.8, 0.8]


# ---- synthetic checks ----------------------------------------------------------------------


def test_checks_are_counted_by_pod_and_result() -> None:
    checks = ContentChecks(lambda: ({}, None))
    checks.count("gateway-1", "ok")
    checks.count("gateway-1", "wrong")
    checks.count("gateway-1", "wrong")
    lines = checks.render().splitlines()
    assert 'content_checks_total{pod="gateway-1",result="ok"} 1' in lines
    assert 'content_checks_total{pod="gateway-1",result="wrong"} 2' in lines
    assert 'content_checks_total{pod="gateway-1",result="failed"} 0' in lines


def test_every_pod_that_is_tried_is_read_and_compared() -> None:
    """Against servers that give back what was stored, other bytes, and nothing."""
    stored: dict[str, bytes] = {}
    seen: list[str] = []

    async def token(request: web.Request) -> web.Response:
        return web.json_response({"token": "t"})

    async def put(request: web.Request) -> web.Response:
        stored[request.path] = await request.read()
        return web.Response(status=201)

    async def serve(good: bool) -> tuple[web.AppRunner, tuple[str, int]]:
        async def get(request: web.Request) -> web.Response:
            seen.append(request.headers["x-synthetic"] + request.headers["Authorization"])
            body = stored[request.path]
            return web.Response(body=body if good else body[:-1] + b"?")

        app = web.Application()
        app.router.add_post("/v1/token", token)
        app.router.add_put("/v1/files/{id}", put)
        app.router.add_get("/v1/files/{id}", get)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        return runner, (host, port)

    async def scenario() -> str:
        good_runner, good = await serve(True)
        bad_runner, bad = await serve(False)
        checks = ContentChecks(lambda: ({good: "a", bad: "b", ("127.0.0.1", 9): "c"}, good))
        task = asyncio.ensure_future(checks.run())
        while 'pod="c"' not in checks.render():
            await asyncio.sleep(0.01)
        task.cancel()
        for runner in (good_runner, bad_runner):
            await runner.cleanup()
        return checks.render()

    text = asyncio.run(scenario())
    for pod, result in (("a", "ok"), ("b", "wrong"), ("c", "failed")):
        assert f'content_checks_total{{pod="{pod}",result="{result}"}} 1' in text
    assert seen == ["1Bearer t", "1Bearer t"]
