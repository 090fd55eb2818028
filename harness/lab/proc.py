"""Child processes that cannot outlive the lab.

Each child asks the kernel for SIGKILL when its parent dies (``PR_SET_PDEATHSIG``)
and gets a process group of its own, so a terminal's Ctrl-C reaches only the
supervisor, which then stops the parts in order. The kernel sends that signal when the
*thread* that forked ends: start children from the main thread only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent_pid: int) -> None:
    """Ask for SIGKILL when the parent dies; call in the child before exec.

    If the parent died between fork and here the signal would never come, so the
    child leaves at once.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in its own process group, dying with this process.

    ``env`` is added to this process's environment. Output goes to ``log`` (appended).
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    parent_pid = os.getpid()
    with log.open("ab") as out:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            process_group=0,
            preexec_fn=lambda: die_with_parent(parent_pid),
        )


def descendants(*pids: int) -> list[int]:
    """``pids`` and all processes below them, parents first (reads all of /proc once)."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            ppid = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(ppid, []).append(int(entry))
    found: dict[int, None] = {}
    queue = list(pids)
    while queue:
        current = queue.pop(0)
        if current not in found:
            found[current] = None
            queue.extend(children.get(current, []))
    return list(found)


def end(process: subprocess.Popen[bytes], *, grace_s: float = 2.0) -> None:
    """Stop a child: SIGTERM, after ``grace_s`` SIGKILL; one that is frozen is resumed first."""
    if process.poll() is not None:
        return
    for sig in (signal.SIGCONT, signal.SIGTERM):
        try:
            os.kill(process.pid, sig)
        except ProcessLookupError:
            break
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pss_bytes(pids: list[int]) -> int:
    """Proportional memory of ``pids`` in bytes: shared pages are counted once over all."""
    total = 0
    for pid in pids:
        try:
            rollup = Path("/proc", str(pid), "smaps_rollup").read_text()
        except OSError:
            continue
        for line in rollup.splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total
