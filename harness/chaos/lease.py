"""One run at a time on a target: two at once would undo each other's faults and judge them.

The lease is a lock on a file of this user on this machine, which the kernel releases with the
process. The file says whose it is; where that run left something in place, nobody may begin
before it is undone. Runs from other machines are not seen: docs/safety.md.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.chaos.undo import open_records
from harness.chaos.watchdog import is_watching
from harness.errors import Refused
from harness.target.model import Target
from harness.target.state import state_dir

#: What makes two target files describe one target.
_IDENTITY = ("account", "service_url", "primary", "standby", "namespace", "aws_endpoint_url",
             "dns_server")  # fmt: skip


def lease_file(target: Target, state: Path | None = None) -> Path:
    """Where the lease of ``target`` is kept: in ``state``, by default this user's."""
    # A lab that is started anew has the addresses of the one before, and other networks.
    networks = sorted((region.name, region.vpc_id or "") for region in target.regions)
    identity = json.dumps([[getattr(target, key) for key in _IDENTITY], networks])
    name = f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
    return (state or state_dir()) / "leases" / name


@contextmanager
def lease(target: Target, run_dir: Path, state: Path | None = None) -> Iterator[None]:
    """Hold the target for the run in ``run_dir``. Raises Refused, naming the run that has it, or
    that left something in place on it."""
    path = lease_file(target, state)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        hint = "set XDG_STATE_HOME to a folder that can be written"
        raise Refused(f"the lease of the target cannot be taken: {error}", hint=hint) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(target, _holder(path)) from None
        _refuse_what_is_left(target, _holder(path), run_dir)
        os.ftruncate(fd, 0)
        holder = {"run": str(run_dir.resolve()), "pid": os.getpid()}
        os.pwrite(fd, json.dumps(holder).encode() + b"\n", 0)
        yield
    finally:
        os.close(fd)


def holder_of(target: Target, state: Path | None = None) -> str | None:
    """The run that has the target now; None if none has. Nothing is taken."""
    path = lease_file(target, state)
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return str(_holder(path).get("run", "another run"))
    finally:
        os.close(fd)
    return None


def _taken(target: Target, holder: dict[str, Any]) -> Refused:
    who = f"{holder.get('run', 'another run')} (process {holder.get('pid', 'unknown')})"
    return Refused(
        f"the target {target.name} is in use by {who}",
        hint="wait for its end, or stop it: touch STOP in its folder",
    )


def _refuse_what_is_left(target: Target, holder: dict[str, Any], run_dir: Path) -> None:
    before = Path(str(holder.get("run", "")))
    if not holder or before == run_dir.resolve() or not before.is_dir():
        return
    if not open_records(before):
        return
    undoing = is_watching(before)
    said = "is still being undone" if undoing else "left something in place"
    raise Refused(
        f"the run before this on {target.name}, {before}, {said}",
        hint="wait some seconds" if undoing else f"harness recover {before}",
    )


def _holder(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            return found
    return {}
