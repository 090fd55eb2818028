"""What a process and its descendants have used so far, as the operating system counts it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import psutil


class Usage(NamedTuple):
    """CPU seconds since the start, in user code and in the kernel; peak resident memory in MiB."""

    user_s: float
    kernel_s: float
    peak_mib: float

    @property
    def cpu_s(self) -> float:
        """Both together."""
        return self.user_s + self.kernel_s


def of_trees(pids: Iterable[int]) -> Usage:
    """Usage of these processes, their descendants, and those of them that ended already."""
    user_s = kernel_s = peak_mib = 0.0
    for pid in pids:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            try:
                times = process.cpu_times()
                user_s += times.user + times.children_user
                kernel_s += times.system + times.children_system
                peak_mib += _peak_mib(process.pid)
            except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                continue
    return Usage(user_s, kernel_s, peak_mib)


def _peak_mib(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0  # a zombie has no memory
