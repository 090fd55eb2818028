"""What a pod's process runs: one service on uvicorn, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from types import FrameType

import uvicorn

from harness.lab.services.asgi import App
from harness.lab.services.auth import Auth
from harness.lab.services.file import FileService
from harness.lab.services.gateway import Gateway
from harness.lab.services.image import ImageService
from harness.lab.services.listen import listening
from harness.lab.services.notification import Notification
from harness.lab.services.permission import Permission
from harness.lab.services.pod import Pod, PodEnv

APPS: dict[str, type[App]] = {
    app.name: app for app in (Gateway, Auth, Permission, FileService, ImageService, Notification)
}
#: Small, so that a stopped pod soon takes no more connections, like a host that is gone.
BACKLOG = 16
#: After SIGTERM a pod answers on for this long, until nobody is sent to it any more.
DRAIN_S = 0.5


class _Server(uvicorn.Server):
    """Keeps serving for :data:`DRAIN_S` after SIGTERM, telling clients to go elsewhere."""

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self._app = app
        self._drain_until_s: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._drain_until_s is not None or sig != signal.SIGTERM:
            self.should_exit = True
        else:
            self._app.draining = True
            self._drain_until_s = time.monotonic() + DRAIN_S

    async def on_tick(self, counter: int) -> bool:
        if self._drain_until_s is not None and time.monotonic() >= self._drain_until_s:
            self.should_exit = True
        return await super().on_tick(counter)


async def _serve(env: PodEnv) -> None:
    pod = Pod(env)
    app = APPS[env.app](pod)
    config = listening(app, env.ip, env.port, backlog=BACKLOG)
    await _Server(config, app).serve()


def serve(environ: Mapping[str, str] = os.environ) -> None:
    """Run the pod that ``environ`` describes until it is told to stop. Raises LabError."""
    import uvloop

    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("nats").setLevel(logging.ERROR)
    env = PodEnv.read(environ)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(env))


if __name__ == "__main__":
    serve()
