"""Starting, asking and ending a lab from outside: what ``harness lab …`` calls.

The supervisor is detached (its own session) and found again through
``<state dir>/lab.json``. A lab's loopback network is chosen by its base octet, held
by binding an abstract Unix socket: no file is left, and the kernel frees it
whatever way the supervisor ends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import LabError
from harness.lab import layout as names
from harness.lab.defects import LAB_NAMES
from harness.lab.layout import Layout
from harness.lab.proc import descendants, pss_bytes

BASES = range(60, 100)
#: What the extra ``lab`` brings; a machine that only drives a real target does without.
_NEEDED = (
    "aiohttp",
    "asyncpg",
    "dnslib",
    "envoy",
    "httptools",
    "moto",
    "nats",
    "PIL",
    "prometheus_client",
    "redis",
    "uvicorn",
    "uvloop",
)
UP_DEADLINE_S = 90.0
DOWN_DEADLINE_S = 30.0


@dataclass(frozen=True)
class Running:
    """A lab that is up."""

    pid: int
    base: int
    control: str
    target_file: Path
    boot_s: float
    defects: tuple[str, ...]
    time_scale: float


def find(state_dir: Path) -> Running | None:
    """The lab of ``state_dir`` if it is up."""
    try:
        info = json.loads((state_dir / "lab.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if not _is_supervisor(info["pid"], state_dir):
        return None
    return Running(
        info["pid"],
        info["base"],
        info["control"],
        state_dir / "target.yaml",
        info["boot_s"],
        tuple(info["defects"]),
        info["time_scale"],
    )


def _is_supervisor(pid: int, state_dir: Path) -> bool:
    try:
        argv = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"harness.lab.supervisor" in argv and str(state_dir.resolve()).encode() in argv


def up(
    state_dir: Path,
    *,
    time_scale: float = 10.0,
    defects: Sequence[str] = (),
    owner: int | None = None,
    base: int | None = None,
    network: str = "stop",
    pod_start_delay_s: float | None = None,
) -> Running:
    """Start a lab and wait until every part is ready.

    ``owner``: the lab goes down by itself some time after this process ends. ``network``: how
    what is lost is cut off, ``stop`` or ``nft`` (:mod:`harness.lab.network`).
    ``pod_start_delay_s``: from a pod's scheduling to its process, once the lab is up. Raises
    LabError with what to do when a part is missing, an address is taken, or the lab of
    ``state_dir`` is already up. Interrupting it takes the half-started lab down.
    """
    missing = [m for m in _NEEDED if importlib.util.find_spec(m) is None]
    if missing:
        raise LabError(
            f"the lab needs packages that are not installed: {', '.join(missing)}",
            hint="pip install 'harness[lab]' (from a checkout: pip install -e '.[lab]')",
        )
    unknown = [d for d in defects if d not in LAB_NAMES]
    if unknown:
        raise LabError(
            f"no seeded defect named {unknown[0]!r}", hint="`harness lab defects` lists them"
        )
    if find(state_dir) is not None:
        raise LabError(
            f"a lab is already up in {state_dir}",
            hint="`harness lab down` ends it, `harness lab status` shows it",
        )
    chosen, lock = _choose_base(base)
    with lock:
        _clear(state_dir)
        options = ["--base", str(chosen), "--time-scale", str(time_scale), "--network", network]
        options += [word for defect in defects for word in ("--defect", defect)]
        if owner is not None:
            options += ["--owner", str(owner)]
        if pod_start_delay_s is not None:
            options += ["--pod-start-delay", str(pod_start_delay_s)]
        process = _start_supervisor(state_dir.resolve(), options, lock_fd=lock.fileno())
    try:
        return _await_ready(process, state_dir)
    except BaseException:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            _wait(process, DOWN_DEADLINE_S)
        raise


def _clear(state_dir: Path) -> None:
    """Start from nothing: a lab keeps no state between two lives."""
    if state_dir.exists():
        shutil.rmtree(state_dir)
    state_dir.mkdir(parents=True, mode=0o755)


def _start_supervisor(
    state_dir: Path, options: Sequence[str], *, lock_fd: int
) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "harness.lab.supervisor", "--state-dir", str(state_dir)]
    argv += [*options, "--lock-fd", str(lock_fd)]
    with (state_dir / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Held by the supervisor from its first moment: nobody can come in between.
            pass_fds=(lock_fd,),
        )


def _await_ready(process: subprocess.Popen[bytes], state_dir: Path) -> Running:
    deadline = time.monotonic() + UP_DEADLINE_S
    while time.monotonic() < deadline:
        running = find(state_dir)
        if running is not None:
            return running
        if process.poll() is not None:
            failed = state_dir / "failed"
            why = failed.read_text() if failed.exists() else f"exit status {process.returncode}"
            raise LabError(
                f"the lab did not come up: {why}",
                hint=f"look at {state_dir}/supervisor.log and {state_dir}/logs/",
            )
        time.sleep(0.05)
    raise LabError(
        f"the lab was not ready within {UP_DEADLINE_S:.0f} s",
        hint=f"look at {state_dir}/supervisor.log",
    )


def _wait(process: subprocess.Popen[bytes], deadline_s: float) -> None:
    try:
        process.wait(deadline_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def down(state_dir: Path) -> bool:
    """End the lab of ``state_dir``; False when none was up."""
    running = find(state_dir)
    if running is None:
        return False
    fd = os.pidfd_open(running.pid)
    try:
        signal.pidfd_send_signal(fd, signal.SIGTERM)
        if not _ended(fd, DOWN_DEADLINE_S):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            _ended(fd, 5.0)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)
    # If we started it ourselves: not even an entry in the process table is left.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(running.pid, os.WNOHANG)
    return True


def _ended(pidfd: int, deadline_s: float) -> bool:
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(deadline_s * 1000))


def status(running: Running, timeout_s: float = 3.0) -> dict[str, Any]:
    """What the lab says of itself, by its control address."""
    with urllib.request.urlopen(f"{running.control}/status", timeout=timeout_s) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def memory_bytes(running: Running) -> int:
    """What all processes of the lab hold in memory, shared pages counted once.

    Read from outside: the kernel takes a millisecond or more for each process, in which the lab
    would answer nobody.
    """
    return pss_bytes(descendants(running.pid))


def _choose_base(base: int | None) -> tuple[int, socket.socket]:
    """A second octet whose addresses are free, and the lock that nobody else then holds."""
    taken = []
    for candidate in BASES if base is None else (base,):
        lock = socket.socket(socket.AF_UNIX)
        try:
            lock.bind(f"\0harness-lab-127.{candidate}")
        except OSError:
            blocker: str | None = f"127.{candidate}.0.0/16 belongs to another lab"
        else:
            blocker = _in_use(candidate)
        if blocker is None:
            return candidate, lock
        lock.close()
        taken.append(blocker)
    raise LabError(
        f"no free loopback network for a lab: {taken[0]}",
        hint="end another lab with `harness lab down`, or choose one with --base N",
    )


def _in_use(base: int) -> str | None:
    """Which of the lab's fixed addresses somebody else listens on."""
    layout = Layout(base)
    fixed = [
        (layout.control, names.CONTROL_PORT),
        (layout.aws, names.AWS_PORT),
        (layout.dns, names.DNS_PORT),
        (layout.prometheus, names.PROMETHEUS_PORT),
    ]
    fixed += [(layout.edge, names.EDGE_PORT)]
    fixed += [(layout.kube(z.cluster), names.KUBE_PORT) for z in layout.zones]
    fixed += [(layout.db(z.name), names.DB_PORT) for z in layout.zones]
    fixed += [(layout.redis(z.name), names.REDIS_PORT) for z in layout.zones]
    fixed += [(layout.lb(r.name), names.LB_PORT) for r in layout.regions]
    for host, port in fixed:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return f"{host}:{port} is in use (perhaps a server listening on 0.0.0.0:{port})"
    return None


def replication(running: Running, region: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Ask for (with ``settings``: change) the object replication out of ``region``."""
    url = f"{running.control}/replication/{region}"
    request = urllib.request.Request(url)
    if settings:
        request = urllib.request.Request(
            url,
            data=json.dumps(settings).encode(),
            method="PUT",
            headers={"Content-Type": "application/json"},
        )
    with urllib.request.urlopen(request, timeout=3.0) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def wait_end(running: Running) -> None:
    """Return when the supervisor has ended."""
    try:
        fd = os.pidfd_open(running.pid)
    except ProcessLookupError:
        return
    try:
        _ended(fd, 1e6)
    finally:
        os.close(fd)
