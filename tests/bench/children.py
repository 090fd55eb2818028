"""Processes on chosen cores that end with the bench, whatever way it ended."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def spawn(
    argv: Sequence[str],
    env: Mapping[str, str],
    cores: set[int],
    output: IO[str] | int = subprocess.DEVNULL,
    *,
    nice: int = 0,
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in a session of its own; ``env`` is added to this process's environment.

    ``nice``: by how much it gives way to others.
    """

    def begin() -> None:
        # SIGTERM, so that nginx takes its worker along.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        os.sched_setaffinity(0, cores)
        os.nice(nice)

    return subprocess.Popen(
        argv,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=begin,
    )
