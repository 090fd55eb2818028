"""How a pod becomes a process.

The kubelet only needs :class:`PodRunner`; the lab plugs in one that forks from a
warm parent. :class:`SubprocessRunner` starts any command and needs nothing else.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.errors import LabError
from harness.lab.proc import spawn

_KILL_WAIT_S = 5.0


@dataclass(frozen=True)
class PodSpec:
    """What a runner must know to start a pod's process.

    ``env`` is the container's environment plus POD_NAME, POD_IP, CLUSTER, ZONE, REGION,
    NODE_NAME, APP, VERSION and PORT. ``log_path`` is where its output goes.
    """

    cluster: str
    zone: str
    region: str
    namespace: str
    name: str
    uid: str
    app: str
    version: str
    ip: str
    port: int
    env: Mapping[str, str]
    log_path: Path


class PodRunner(Protocol):
    async def start(self, spec: PodSpec, on_exit: Callable[[int], None]) -> int:
        """Start the process and return its pid.

        ``on_exit(returncode)`` is called in the event loop when the process ends, however
        it ends. Raises OSError or LabError if it cannot be started.
        """
        ...

    async def stop(self, uid: str, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after ``grace_s``; returns when the process is gone.

        A stopped process (SIGSTOP) is resumed first so that it can die. Unknown uids
        are ignored.
        """
        ...


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class SubprocessRunner:
    """Runs a command per pod: ``argv``, or the pod's ``LAB_COMMAND`` split like a shell would."""

    def __init__(self, argv: Sequence[str] | None = None) -> None:
        self._argv = argv
        self._children: dict[str, _Child] = {}

    async def start(self, spec: PodSpec, on_exit: Callable[[int], None]) -> int:
        argv = self._argv or shlex.split(spec.env.get("LAB_COMMAND", ""))
        if not argv:
            raise LabError(
                f"pod {spec.name} has no command to run",
                hint="set LAB_COMMAND in the container's env",
            )
        child = _Child(spawn(argv, log=spec.log_path, env=spec.env))
        self._children[spec.uid] = child
        loop = asyncio.get_running_loop()
        # A pidfd turns readable when the process ends: no thread and no polling per pod.
        pid_fd = os.pidfd_open(child.process.pid)

        def ended() -> None:
            loop.remove_reader(pid_fd)
            os.close(pid_fd)
            returncode = child.process.wait()
            if self._children.get(spec.uid) is child:
                del self._children[spec.uid]
            child.ended.set()
            on_exit(returncode)

        loop.add_reader(pid_fd, ended)
        return child.process.pid

    async def stop(self, uid: str, grace_s: float) -> None:
        child = self._children.get(uid)
        if child is None:
            return
        self._signal(child, signal.SIGTERM)
        self._signal(child, signal.SIGCONT)
        if not await self._wait(child, grace_s):
            self._signal(child, signal.SIGKILL)
            await self._wait(child, _KILL_WAIT_S)

    @staticmethod
    def _signal(child: _Child, number: signal.Signals) -> None:
        """To the whole group, so that what the pod started goes with it."""
        try:
            os.killpg(child.process.pid, number)
        except ProcessLookupError:
            child.process.poll()

    @staticmethod
    async def _wait(child: _Child, timeout_s: float) -> bool:
        if timeout_s <= 0:
            return child.ended.is_set()
        try:
            async with asyncio.timeout(timeout_s):
                await child.ended.wait()
        except TimeoutError:
            return False
        return True
