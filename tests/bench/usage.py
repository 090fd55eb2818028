"""What a process and its descendants have used so far, as the operating system counts it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import psutil


class Usage(NamedTuple):
    """CPU seconds (user and system) since the start, and peak resident memory in MiB."""

    cpu_s: float
    peak_mib: float


def of_trees(pids: Iterable[int]) -> Usage:
    """Usage of these processes, their descendants, and those of them that ended already."""
    cpu_s = peak_mib = 0.0
    for pid in pids:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            try:
                times = process.cpu_times()
                cpu_s += times.user + times.system
                cpu_s += times.children_user + times.children_system
                peak_mib += _peak_mib(process.pid)
            except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                continue
    return Usage(cpu_s, peak_mib)


def _peak_mib(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0  # a zombie has no memory
