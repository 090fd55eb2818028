"""The session cache and rate-limit store of one zone: a real Redis, in memory only."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from harness.lab import binaries, proc
from harness.lab.part import Part

#: Short, so that the network model can fill the accept queue of a zone that is a black hole.
_BACKLOG = 64


class Redis(Part):
    """``redis-server`` at ``host:port``; it keeps nothing on disk."""

    def __init__(self, name: str, host: str, port: int, data_dir: Path, log: Path) -> None:
        super().__init__(name, [(host, port)], log)
        self.data_dir = data_dir.absolute()

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        host, port = self.listeners[0]
        options = {
            "bind": host,
            "port": str(port),
            "dir": str(self.data_dir),
            "save": "",
            "appendonly": "no",
            "maxmemory": "32mb",
            "maxmemory-policy": "allkeys-lru",
            "tcp-backlog": str(_BACKLOG),
            "protected-mode": "no",
            "loglevel": "warning",
        }
        argv = [str(binaries.redis())]
        for name, value in options.items():
            argv += [f"--{name}", value]
        return proc.spawn(argv, log=self.log)

    async def _is_ready(self) -> bool:
        reader, writer = await asyncio.open_connection(*self.listeners[0])
        try:
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"
        finally:
            writer.close()
