"""How the lab's HTTP services listen: uvicorn without what they do not use."""

from __future__ import annotations

from typing import Any

import uvicorn

KEEP_ALIVE_S = 30
#: How long what is being answered may take once the server was told to stop.
SHUTDOWN_S = 2


def listening(app: Any, host: str, port: int, *, backlog: int) -> uvicorn.Config:
    """``app`` (ASGI 3) on one address; ``backlog`` connections may wait to be taken."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        ws="none",
        interface="asgi3",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        backlog=backlog,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
