"""What goes on sending when the harness, or Locust's master, is killed.

``python -m tests.load.orphans URL FOLDER PROCESSES`` is the harness of such a run: it sends until
it is killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

from harness.load.driver import LoadDriver

from .server import StandIn

ROOT = Path(__file__).resolve().parents[2]
#: Nobody may hear of the killed one for longer.
BOUND_S = 2.0
#: Who is killed, and how many processes send.
KINDS = (("harness", 1), ("harness", 3), ("master", 3))


@dataclass(frozen=True)
class Orphaned:
    """``last_s``: the last request, seconds after the kill; ``late``: requests after the bound."""

    killed: str
    processes: int
    sent: int
    last_s: float
    late: int


def orphaned(folder: Path, killed: str, processes: int) -> Orphaned:
    """Kill ``killed`` while ``processes`` send 200 a second, and listen for four seconds."""
    folder.mkdir()
    with StandIn() as server:
        argv = [sys.executable, "-m", "tests.load.orphans", server.url, str(folder), str(processes)]
        with (folder / "log.txt").open("wb") as log:
            harness = subprocess.Popen(
                argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        assert harness.stdout is not None
        try:
            master = int(harness.stdout.readline())
            time.sleep(0.5)
            before = server.requests.total()
            assert before > 20, (folder / "log.txt").read_text()
            killed_m = time.monotonic()
            os.kill(harness.pid if killed == "harness" else master, SIGKILL)
            time.sleep(BOUND_S)
            by_the_bound = server.requests.total()
            time.sleep(BOUND_S)
            late = server.requests.total() - by_the_bound
            return Orphaned(killed, processes, before, server.last_request_m - killed_m, late)
        finally:
            harness.kill()
            harness.wait()
            harness.stdout.close()


def main(url: str, folder: str, processes: str) -> None:
    """Send until killed; prints the pid of Locust (of several: the master) once it sends."""
    driver = LoadDriver()
    driver.start(
        Path(folder), locustfile=ROOT / "locustfiles" / "mixed.py", rate=200, arrivals="even",
        seed=7, mix={"download": 64, "upload": 12, "image": 24}, timeout_s=2.0, service_url=url,
        dns_server=None, duration_s=None, processes=int(processes),
    )  # fmt: skip
    driver.wait_ready(30)
    sys.stdout.write(f"{driver._children[0].pid}\n")
    sys.stdout.flush()
    time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
