"""What every process-backed part of the lab has in common.

A part is one program with its children: it is started from the main thread, is ready
when it answers its own protocol, names every process that belongs to it (so the network
model can freeze a whole zone) and the addresses it listens on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp

from harness.errors import LabError
from harness.lab import proc

#: How often a part that is not ready yet is asked again.
_READY_POLL_S = 0.03


class Part:
    """One child program. Subclasses say how to start it (:meth:`_spawn`) and what ready means."""

    def __init__(self, name: str, listeners: Sequence[tuple[str, int]], log: Path) -> None:
        self.name = name
        self.listeners: list[tuple[str, int]] = list(listeners)
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def _spawn(self) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    async def _is_ready(self) -> bool:
        """Ask the part itself; any ``OSError`` or timeout means not yet."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        """True while the program exists (a frozen one exists)."""
        return self.process is not None and self.process.poll() is None

    async def start(self) -> None:
        """Start the program if it is not running. Call from the main thread."""
        if not self.running:
            self.process = self._spawn()

    async def ready(self, deadline_s: float = 10.0) -> None:
        """Return when the part answers.

        Raises:
            LabError: the program ended, or did not answer within ``deadline_s``; the
                message carries the end of its log.
        """
        end_s = time.monotonic() + deadline_s
        while time.monotonic() < end_s:
            if not self.running:
                raise LabError(f"{self.name} ended while starting{self._log_tail()}", hint=HINT_LOG)
            with contextlib.suppress(OSError, TimeoutError, aiohttp.ClientError):
                async with asyncio.timeout(max(0.05, min(1.0, end_s - time.monotonic()))):
                    if await self._is_ready():
                        return
            await asyncio.sleep(_READY_POLL_S)
        raise LabError(
            f"{self.name} was not ready within {deadline_s:g} s{self._log_tail()}", hint=HINT_LOG
        )

    async def stop(self, grace_s: float = 3.0) -> None:
        """End the program and everything below it; frozen processes are resumed first."""
        if self.process is None:
            return
        below = self.pids()
        signal_all(below[1:], signal.SIGCONT)
        await asyncio.to_thread(proc.end, self.process, grace_s=grace_s)
        signal_all(below[1:], signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL the program and everything below it at once; works on frozen processes."""
        if self.process is None:
            return
        # Frozen first: a parent that is still running could fork between look and kill.
        signal_all([self.process.pid] if self.running else [], signal.SIGSTOP)
        signal_all(self.pids(), signal.SIGKILL)
        self.process.wait()

    def pids(self) -> list[int]:
        """Every process of the part, parents first; empty when it does not run."""
        if not self.running:
            return []
        assert self.process is not None
        return proc.descendants(self.process.pid)

    def _log_tail(self, lines: int = 6) -> str:
        try:
            text = self.log.read_text(errors="replace").strip()
        except OSError:
            return ""
        tail = "\n    ".join(text.splitlines()[-lines:])
        return f"; {self.log} ends with:\n    {tail}" if tail else f"; {self.log} is empty"


HINT_LOG = "read that log; is another process on the same address?"


def signal_all(pids: Sequence[int], sig: int) -> None:
    """Send ``sig`` to each of ``pids``; those already gone are skipped."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sig)


async def http_get(host: str, port: int, path: str, *, timeout_s: float) -> tuple[int, bytes]:
    """``(status, body)`` of a GET; raises ``OSError``, ``TimeoutError`` or ``ClientError``."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"http://{host}:{port}{path}") as response,
    ):
        return response.status, await response.read()


async def poll_until(
    condition: Callable[[], Awaitable[bool]], *, deadline_s: float, poll_s: float = 0.05
) -> bool:
    """Ask ``condition`` until it is true or ``deadline_s`` has passed; say which."""
    end_s = time.monotonic() + deadline_s
    while True:
        if await condition():
            return True
        if time.monotonic() + poll_s > end_s:
            return False
        await asyncio.sleep(poll_s)


def write_atomically(path: Path, text: str) -> None:
    """Replace ``path`` in one step, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    os.replace(temporary, path)
