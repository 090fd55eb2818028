"""The notification queue of one zone: a real NATS server with JetStream on disk."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

from harness.lab import binaries, proc
from harness.lab.part import Part, write_atomically

_MIB = 1024 * 1024


class Queue(Part):
    """``nats-server`` at ``host:port`` with its streams in ``data_dir``."""

    def __init__(self, name: str, host: str, port: int, data_dir: Path, log: Path) -> None:
        super().__init__(name, [(host, port)], log)
        self.data_dir = data_dir.absolute()

    def _spawn(self) -> subprocess.Popen[bytes]:
        host, port = self.listeners[0]
        config = self.data_dir / "nats.conf"
        settings = {
            "host": host,
            "port": port,
            "server_name": self.name,
            "jetstream": {
                "store_dir": str(self.data_dir / "streams"),
                "max_memory_store": 16 * _MIB,
                "max_file_store": 256 * _MIB,
            },
        }
        # Its configuration language is a superset of JSON.
        write_atomically(config, json.dumps(settings, indent=2))
        argv = [str(binaries.queue()), "--config", str(config)]
        return proc.spawn(argv, log=self.log, env={"GOMAXPROCS": "1", "GOMEMLIMIT": "48MiB"})

    async def _is_ready(self) -> bool:
        reader, writer = await asyncio.open_connection(*self.listeners[0])
        try:
            greeting = await reader.readline()
            return b'"jetstream":true' in greeting.replace(b" ", b"")
        finally:
            writer.close()
