"""The lab's own small HTTP address: status, replication lag, and going down.

``harness lab …`` uses it; the harness proper never does.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from aiohttp import web

from harness.lab import layout as names
from harness.lab.layout import Layout
from harness.lab.platform import Platform


class ControlServer:
    """GET /status and /metrics, GET and PUT /replication/<region>, POST /down; loopback only."""

    def __init__(self, layout: Layout, platform: Platform, stop: Callable[[], None]) -> None:
        self._layout = layout
        self._platform = platform
        self._stop = stop
        app = web.Application()
        app.router.add_get("/status", self._status)
        app.router.add_get("/replication/{region}", self._replication)
        app.router.add_put("/replication/{region}", self._set_replication)
        app.router.add_post("/down", self._down)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._layout.control, names.CONTROL_PORT).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _status(self, _: web.Request) -> web.Response:
        platform = self._platform
        parts = platform.parts
        pods = {
            name: {
                w: f"{ready}/{wanted}" for w, (ready, wanted) in platform.workloads(name).items()
            }
            for name in parts.clusters
        }
        return web.json_response(
            {
                "cut_off": sorted(platform.cut),
                "recovery": platform.recovery.stage.value,
                "databases": parts.database.describe(),
                "pods": pods,
                "health_checks": parts.health.truth(),
                "targets": {
                    r: {f"{ip}:{port}": ok for (ip, port), ok in e.last_health.items()}
                    for r, e in parts.envoys.items()
                },
                "alertmanager": parts.alertmanager is not None,
                "defects": list(parts.defects),
            },
            dumps=lambda value: json.dumps(value, default=str),
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=self._platform.checks.render())

    async def _replication(self, request: web.Request) -> web.Response:
        return web.json_response(
            await self._platform.hands.replication(request.match_info["region"])
        )

    async def _set_replication(self, request: web.Request) -> web.Response:
        return web.json_response(
            await self._platform.hands.set_replication(
                request.match_info["region"], await request.json()
            )
        )

    async def _down(self, _: web.Request) -> web.Response:
        self._stop()
        return web.json_response({"going": "down"})
