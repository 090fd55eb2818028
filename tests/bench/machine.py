"""Facts of the machine that a figure depends on; nothing that says whose it is."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
from pathlib import Path
from typing import Any


def facts() -> dict[str, Any]:
    """Processor, cores, memory, kernel, Python and the libraries the load runs on."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler_options": _build(),
        "open_files": files,
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("harness", "locust", "gevent", "geventhttpclient", "greenlet", "requests")
        },
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.machine()


def _build() -> str:
    """Whether this Python was built with what makes it faster."""
    import sysconfig

    options = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    found = [
        name
        for name, option in (("PGO", "enable-optimizations"), ("LTO", "with-lto"))
        if option in options
    ]
    return "+".join(found) or "its build does not say PGO or LTO"
