"""Addresses and helpers of the tests that run the lab's real programs."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

from harness.lab import proc
from harness.lab.layout import Layout
from harness.lab.part import Part

#: A loopback network no lab chooses.
LAYOUT = Layout(base=103)

BACKEND = Path(__file__).with_name("backend.py")


class Backend(Part):
    """A small HTTP server that answers with its own address (see ``backend.py``)."""

    def __init__(self, host: str, port: int, log: Path, mode: str = "ok") -> None:
        super().__init__(f"backend {host}", [(host, port)], log)
        self.address = (host, port)
        self._mode = mode

    def _spawn(self):
        host, port = self.address
        return proc.spawn(
            [sys.executable, "-S", str(BACKEND), host, str(port), self._mode], log=self.log
        )

    async def _is_ready(self) -> bool:
        _, writer = await asyncio.open_connection(*self.address)
        writer.close()
        return True


def alive(pid: int) -> bool:
    """Does the process exist (zombies do not count)?"""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], deadline_s: float) -> bool:
    """Poll ``condition`` until it is true or the time is up; say which."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True
