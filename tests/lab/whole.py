"""What tests of the whole lab share: starting one apart from any other, and its processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.lab import handle
from harness.lab.handle import Running


def processes_of(state_dir: Path) -> list[int]:
    """Every process that was started for the lab of ``state_dir``, dead parents or not."""
    mark = str(state_dir.resolve()).encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                argv = Path("/proc", entry, "cmdline").read_bytes()
            except OSError:
                continue
            if mark in argv:
                found.append(int(entry))
    return found


@contextmanager
def lab(state_dir: Path, **options: object) -> Iterator[Running]:
    """A lab that is up, and down again afterwards."""
    running = handle.up(state_dir, owner=os.getpid(), **options)  # type: ignore[arg-type]
    try:
        yield running
    finally:
        handle.down(state_dir)
