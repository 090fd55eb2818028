"""A warm parent that forks pods.

Importing the services takes most of a second and 50 MB; a fork of a process that
already has takes 20 ms and shares nearly all of it. The parent has no threads and no
event loop, so that what it forks is sound.

``python -m harness.lab.zygote --socket PATH`` listens for one controller, which
speaks JSON lines: ``{"op": "start", "uid", "name", "env", "log"}`` is answered by
``{"op": "started", "uid", "pid"}``, and each end by ``{"op": "exit", "uid", "pid",
"returncode"}``. When the controller goes, the parent and all pods go.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import json
import logging
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from harness.errors import LabError
from harness.lab import proc

if TYPE_CHECKING:
    from harness.lab.kube.runner import PodSpec

START_TIMEOUT_S = 15.0
_PR_SET_NAME = 15
_libc = ctypes.CDLL(None, use_errno=True)


def pod_env(spec: PodSpec) -> dict[str, str]:
    """The environment of a pod's process: who it is, then what its manifest says."""
    return {
        "CLUSTER": spec.cluster,
        "ZONE": spec.zone,
        "REGION": spec.region,
        "POD_NAME": spec.name,
        "POD_IP": spec.ip,
        "POD_PORT": str(spec.port),
        "APP": spec.app,
        "VERSION": spec.version,
        **spec.env,
    }


@dataclass
class _Running:
    pid: int
    on_exit: Callable[[int], None]
    ended: asyncio.Event


class ZygoteRunner:
    """Starts and stops pods through one zygote, from one event loop (of the main thread).

    ``socket_path`` must be short enough for a Unix socket; ``log`` takes the zygote's
    own output. The zygote is started on first use and again if it should die.
    """

    def __init__(self, socket_path: Path, log: Path) -> None:
        self._socket_path = socket_path
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._starting: dict[str, tuple[asyncio.Future[int], Callable[[int], None]]] = {}
        self._running: dict[str, _Running] = {}

    @property
    def pid(self) -> int | None:
        """Process id of the zygote while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    async def open(self) -> None:
        """Start the zygote and wait until it takes orders. Raises LabError."""
        async with self._opening:
            if self._writer is not None and self.pid is not None:
                return
            if self._reading is not None:
                await self._reading  # first tell the ends of the pods of the one that died
            if self._process is not None:
                proc.end(self._process)
            self._socket_path.parent.mkdir(parents=True, exist_ok=True)
            self._socket_path.unlink(missing_ok=True)
            argv = [sys.executable, "-m", "harness.lab.zygote", "--socket", str(self._socket_path)]
            self._process = proc.spawn(argv, log=self._log)
            reader, self._writer = await self._connect()
            self._reading = asyncio.create_task(self._read(reader))

    async def start(self, spec: PodSpec, on_exit: Callable[[int], None]) -> int:
        """Fork a pod; returns its process id.

        ``on_exit(returncode)`` is called in the loop when it ends (negative: the signal).
        Raises LabError when the zygote cannot start it.
        """
        await self.open()
        assert self._writer
        spec.log_path.parent.mkdir(parents=True, exist_ok=True)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._starting[spec.uid] = (future, on_exit)
        order = {
            "op": "start",
            "uid": spec.uid,
            "name": spec.name,
            "env": pod_env(spec),
            "log": str(spec.log_path),
        }
        self._writer.write((json.dumps(order) + "\n").encode())
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                return await future
        except TimeoutError:
            raise LabError(
                f"pod {spec.name} was not forked within {START_TIMEOUT_S:.0f} s",
                hint=f"look into {self._log}",
            ) from None
        finally:
            self._starting.pop(spec.uid, None)

    async def stop(self, uid: str, grace_s: float) -> None:
        """End a pod: resumed if it was stopped, SIGTERM, SIGKILL after ``grace_s`` seconds."""
        running = self._running.get(uid)
        if running is None:
            return
        if grace_s > 0:
            _signal(running.pid, signal.SIGTERM)
            _signal(running.pid, signal.SIGCONT)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await running.ended.wait()
        if not running.ended.is_set():
            _signal(running.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await running.ended.wait()

    async def close(self) -> None:
        """End the zygote and with it every pod."""
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            await asyncio.to_thread(proc.end, self._process)
        if self._reading is not None:
            await self._reading
        self._socket_path.unlink(missing_ok=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert self._process
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + START_TIMEOUT_S
        while loop.time() < deadline_s and self._process.poll() is None:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                return await asyncio.open_unix_connection(str(self._socket_path))
            await asyncio.sleep(0.02)
        raise LabError("the parent of the pods did not start", hint=f"look into {self._log}")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                self._take(json.loads(line))
        self._lost()

    def _take(self, message: dict[str, Any]) -> None:
        uid, pid = message["uid"], message["pid"]
        if message["op"] == "started" and uid in self._starting:
            future, on_exit = self._starting[uid]
            self._running[uid] = _Running(pid, on_exit, asyncio.Event())
            if not future.done():
                future.set_result(pid)
        elif message["op"] == "exit":
            self._ended(uid, message["returncode"])

    def _ended(self, uid: str, returncode: int) -> None:
        running = self._running.pop(uid, None)
        if running is not None:
            running.ended.set()
            running.on_exit(returncode)

    def _lost(self) -> None:
        """The zygote is gone, and the kernel has killed its pods."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        for future, _ in self._starting.values():
            if not future.done():
                future.set_exception(LabError("the parent of the pods died"))
        for uid in list(self._running):
            self._ended(uid, -signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Zygote:
    """The parent's side: one controller, a fork per order, a line per death."""

    def __init__(self, socket_path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._listener.bind(socket_path)
        self._listener.listen(1)
        self._uids: dict[int, str] = {}
        self._buffer = b""

    def run(self) -> None:
        """Serve one controller until it goes."""
        self._controller, _ = self._listener.accept()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        gc.collect()
        gc.freeze()
        with selectors.DefaultSelector() as self._selector:
            self._selector.register(self._controller, selectors.EVENT_READ)
            self._selector.register(self._wake_read, selectors.EVENT_READ)
            while self._turn():
                pass

    def _turn(self) -> bool:
        for key, _ in self._selector.select():
            if key.fileobj == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
                self._reap()
                continue
            data = self._controller.recv(65536)
            if not data:
                return False
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            for line in lines:
                self._start(json.loads(line))
        return True

    def _start(self, order: Mapping[str, Any]) -> None:
        parent_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(order, parent_pid)
        self._uids[pid] = order["uid"]
        self._tell({"op": "started", "uid": order["uid"], "pid": pid})

    def _become(self, order: Mapping[str, Any], parent_pid: int) -> NoReturn:
        """In the child: turn into the pod and never come back."""
        status = 1
        try:
            proc.die_with_parent(parent_pid)
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            self._listener.close()
            self._controller.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.close(log)
            os.environ.update(order["env"])
            _libc.prctl(_PR_SET_NAME, order["name"][-15:].encode(), 0, 0, 0)
            random.seed()
            from harness.lab.services import run

            run.serve()
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except Exception:
            logging.getLogger("pod").exception("the pod ends")
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        while self._uids:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            returncode = os.waitstatus_to_exitcode(status)
            uid = self._uids.pop(pid, "")
            self._tell({"op": "exit", "uid": uid, "pid": pid, "returncode": returncode})

    def _tell(self, message: Mapping[str, Any]) -> None:
        self._controller.sendall((json.dumps(message) + "\n").encode())


def main() -> None:
    """Import everything a pod needs, then wait for orders."""
    parser = argparse.ArgumentParser(prog="harness.lab.zygote", description=__doc__)
    parser.add_argument("--socket", required=True, help="path of the Unix socket to listen on")
    asked = parser.parse_args()
    _import_services()
    zygote = Zygote(asked.socket)
    with contextlib.suppress(ConnectionError):
        zygote.run()


def _import_services() -> None:
    """What a pod would otherwise import after the fork, late imports included."""
    import uvicorn.lifespan.on
    import uvicorn.protocols.http.httptools_impl  # noqa: F401
    import uvloop  # noqa: F401
    from PIL import Image

    from harness.lab.services import run  # noqa: F401

    Image.preinit()


if __name__ == "__main__":
    main()
