"""The load balancer leaves dead targets alone, and the sticky defect does not."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter

import aiohttp
from parts_support import LAYOUT, Backend

from harness.lab.envoy import Envoy, HealthCheck, Timeouts
from harness.lab.part import poll_until

A, B, C = (LAYOUT.pod_ips("us-east-1a")[0], *LAYOUT.pod_ips("us-east-1b")[:2])
PORT = 8080
FAST = HealthCheck(interval_s=0.3, timeout_s=0.25)


def endpoints(*ips: str) -> list[tuple[str, int, str]]:
    return [(ip, PORT, "us-east-1a" if ip == A else "us-east-1b") for ip in ips]


async def launch(parts, folder, backends: dict[str, str], **options) -> tuple[Envoy, dict]:
    """A load balancer in front of ``{ip: mode}``, all healthy."""
    servers = {ip: Backend(ip, PORT, folder / f"{ip}.log", mode) for ip, mode in backends.items()}
    lb = LAYOUT.lb("us-east-1")
    envoy = Envoy(
        "us-east-1",
        lb,
        PORT,
        9901,
        folder / "envoy",
        folder / "envoy.log",
        **{"health_check": FAST, "timeouts": Timeouts(read_attempt_s=0.3, route_s=1.0), **options},
    )
    parts += [*servers.values(), envoy]
    for server in servers.values():
        await server.start()
    for server in servers.values():
        await server.ready()
    envoy.set_endpoints(endpoints(*servers))
    await envoy.start()
    await envoy.ready()
    assert await poll_until(lambda: in_rotation(envoy, *servers), deadline_s=5.0)
    return envoy, servers


async def in_rotation(envoy: Envoy, *ips: str) -> bool:
    healthy = {ip for (ip, _), ok in (await envoy.host_health()).items() if ok}
    assert envoy.last_health.keys() == (await envoy.host_health()).keys()
    return healthy == set(ips)


async def ask(envoy: Envoy, times: int, method: str = "GET", path: str = "/") -> Counter:
    """``{(status, body): n}`` of sequential requests on new connections."""
    seen: Counter = Counter()
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        for _ in range(times):
            url = f"http://{envoy.host}:{envoy.port}{path}"
            async with session.request(method, url) as response:
                seen[response.status, (await response.text())] += 1
    return seen


def test_traffic_follows_the_endpoints_at_once_though_the_removed_host_is_healthy(parts, tmp_path):
    async def scenario() -> None:
        envoy, _ = await launch(parts, tmp_path, {A: "ok", B: "ok"})
        assert set(await ask(envoy, 40)) == {(200, A), (200, B)}
        envoy.set_endpoints(endpoints(B))
        assert await poll_until(lambda: in_rotation(envoy, B), deadline_s=2.0)
        assert set(await ask(envoy, 20)) == {(200, B)}
        envoy.set_endpoints(endpoints(A, B))
        assert await poll_until(lambda: in_rotation(envoy, A, B), deadline_s=2.0)
        assert set(await ask(envoy, 40)) == {(200, A), (200, B)}

    asyncio.run(scenario())


def test_a_killed_host_costs_no_request_and_leaves_the_rotation(parts, tmp_path):
    async def scenario() -> None:
        envoy, servers = await launch(parts, tmp_path, {A: "ok", B: "ok"})
        servers[A].kill()
        assert set(await ask(envoy, 20)) == {(200, B)}
        assert set(await ask(envoy, 20, "POST")) == {(200, B)}, "never reached: sent elsewhere"
        assert await poll_until(lambda: in_rotation(envoy, B), deadline_s=3.0)
        servers[A].process = None
        await servers[A].start()
        assert await poll_until(lambda: in_rotation(envoy, A, B), deadline_s=8.0), "comes back"

    asyncio.run(scenario())


def test_reads_go_on_while_a_host_is_frozen_and_it_leaves_the_rotation(parts, tmp_path):
    async def scenario() -> None:
        envoy, servers = await launch(parts, tmp_path, {A: "ok", B: "ok"})
        for pid in servers[A].pids():
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        assert set(await ask(envoy, 6)) == {(200, B)}
        assert set(await ask(envoy, 6, path="/health/region")) == {(200, B)}
        assert await poll_until(lambda: in_rotation(envoy, B), deadline_s=3.0)
        assert time.monotonic() - began < 5.0
        assert set(await ask(envoy, 10, "POST")) == {(200, B)}

    asyncio.run(scenario())


def test_a_host_that_fails_though_its_health_check_passes_is_ejected(parts, tmp_path):
    async def scenario() -> None:
        modes = {A: "broken", B: "ok", C: "ok"}
        envoy, _ = await launch(parts, tmp_path, modes)
        reads = await ask(envoy, 10)
        assert not any(status == 503 for status, _ in reads), "reads are tried elsewhere"
        await ask(envoy, 60, "POST")
        assert not (await envoy.host_health())[A, PORT]
        assert set(await ask(envoy, 10, "POST")) <= {(200, B), (200, C)}

    asyncio.run(scenario())


def test_a_sticky_load_balancer_keeps_sending_to_the_dead_host(parts, tmp_path):
    async def scenario() -> None:
        envoy, servers = await launch(parts, tmp_path, {A: "ok", B: "ok"}, sticky=True)
        servers[A].kill()
        envoy.set_endpoints(endpoints(B))
        assert await poll_until(lambda: in_rotation(envoy, A, B), deadline_s=1.0)
        answers = await ask(envoy, 40)
        failed = sum(n for (status, _), n in answers.items() if status == 503)
        assert failed >= 5
        assert answers[200, B] >= 5

    asyncio.run(scenario())


def test_requests_are_shared_by_weight_while_weights_differ(parts, tmp_path):
    async def scenario() -> None:
        envoy, _ = await launch(parts, tmp_path, {A: "ok", B: "ok"})
        envoy.set_endpoints(endpoints(A, B), {(A, PORT): 900, (B, PORT): 100})
        # Taken over at once, health included: neither host is new.
        assert await poll_until(lambda: shifted(envoy), deadline_s=2.0)
        seen = await ask(envoy, 100)
        assert 5 <= seen[200, B] <= 15
        assert sum(seen.values()) == seen[200, A] + seen[200, B]

    async def shifted(envoy: Envoy) -> bool:
        return (await ask(envoy, 20))[200, B] <= 4

    asyncio.run(scenario())
