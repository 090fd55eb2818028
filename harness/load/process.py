"""Subprocesses of the load driver that cannot outlive it.

A generator that goes on after its harness was killed would load the target for nobody.
Each child asks the kernel for SIGKILL when its parent dies. The kernel sends it when the
*thread* that started the child ends, so start children from a thread that lives as long
as the run.
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


def spawn(argv: Sequence[str], *, log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start ``argv`` in a process group of its own; output is appended to ``log`` (0600).

    ``env`` is added to this process's environment.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    parent_pid = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before the request was made
            os._exit(1)

    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            process_group=0,
            preexec_fn=die_with_parent,
        )
    finally:
        os.close(descriptor)


def complaint(log: Path, lines: int = 12) -> str:
    """What a Locust log says went wrong: its last error with the lines that belong to it.

    Without an error, the last ``lines`` lines; empty when there is no log. (Locust ends
    with tables of statistics, which would otherwise be all one sees.)
    """
    try:
        text = log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    errors = [n for n, line in enumerate(text) if "/ERROR/" in line or "/CRITICAL/" in line]
    if not errors:
        return "\n".join(text[-lines:])
    found = [text[errors[-1]]]
    for line in text[errors[-1] + 1 :]:
        if line.startswith("["):  # the next record
            break
        found.append(line)
    return "\n".join(found[:lines])
