"""What the kernel knows of a process: that it lives, that it is still the same one, that it ended.

A pid alone names nothing for long, so an actor is a pid *and* its start time;
waiting and killing go through pidfds, which cannot hit a later process.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Actor:
    """A process of this host. ``start_ticks`` is field 22 of ``/proc/PID/stat``."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> Actor:
        """The process ``pid`` is now; raises ProcessLookupError if there is none."""
        ticks = start_ticks(pid)
        if ticks is None:
            raise ProcessLookupError(pid)
        return cls(pid, ticks)

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return start_ticks(self.pid) == self.start_ticks

    def open_pidfd(self) -> int | None:
        """A file descriptor that turns readable when the process ends; None if it has."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        # Checked after opening: from here on the pid cannot be another's.
        if self.alive():
            return fd
        os.close(fd)
        return None

    def kill(self) -> bool:
        """SIGKILL it if it still is this process; returns whether a signal was sent."""
        fd = self.open_pidfd()
        if fd is None:
            return False
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        except ProcessLookupError:
            return False
        finally:
            os.close(fd)
        return True


def start_ticks(pid: int) -> int | None:
    """Start time of ``pid`` in clock ticks since boot; None if it is gone or a zombie."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def dies_with_parent() -> Callable[[], None]:
    """A ``preexec_fn``: SIGKILL when the calling thread ends, Ctrl-C as by default.

    The kernel sends the signal when the *thread* that forked ends: start from a
    thread that lives as long as the child should.
    """
    parent_pid = os.getpid()

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # A shell's background job passes SIGINT on as ignored; the child must hear it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if os.getppid() != parent_pid:
            os._exit(1)

    return prepare


def open_private(path: Path, flags: int) -> int:
    """``opener`` for :func:`open`: only its owner may read what a run leaves behind."""
    return os.open(path, flags, 0o600)


def python_path(environment: dict[str, str]) -> str:
    """``PYTHONPATH`` with which a child finds this very copy of the harness."""
    root = str(Path(__file__).resolve().parents[2])
    rest = [p for p in environment.get("PYTHONPATH", "").split(os.pathsep) if p and p != root]
    return os.pathsep.join([root, *rest])
