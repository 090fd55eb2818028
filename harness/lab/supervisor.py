"""The lab's one supervisor process: starts every part, wires them, takes them down.

It holds in process what must react at once (Kubernetes API servers, DNS, health
checks, the network, the platform's controllers) and starts the rest as children
that die with it. Three feeds make a change in one API real elsewhere:

* AWS state → network (ACLs, instances), database (reboot, promote), DNS, health checks
* Kubernetes endpoints → load balancers (EDS), DNS, Prometheus targets
* what really is (health, roles, targets) → the AWS API's answers
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.clock import SystemClock
from harness.errors import HarnessError
from harness.lab import binaries
from harness.lab import layout as names
from harness.lab.assembly import POD_START_DELAY_S, Parts
from harness.lab.control import ControlServer
from harness.lab.layout import Layout
from harness.lab.platform import Platform
from harness.lab.target_file import write_target_file

log = logging.getLogger("harness.lab.supervisor")

#: How long the lab outlives the process it was started for, so that a watchdog can still undo.
OWNER_LINGER_S = 10.0
NICENESS = 5


@dataclass(frozen=True)
class Options:
    """What a lab is started with."""

    state_dir: Path
    base: int
    time_scale: float
    defects: tuple[str, ...]
    owner: int | None
    network: str = "stop"
    pod_start_delay_s: float = POD_START_DELAY_S


class Supervisor:
    """One lab, from boot to the last process ended."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.layout = Layout(options.base)
        self.clock = SystemClock()
        self.stopping = asyncio.Event()
        self.parts = Parts(
            options.state_dir,
            self.layout,
            self.clock,
            options.time_scale,
            options.defects,
            options.network,
            options.pod_start_delay_s,
        )
        self.platform = Platform(self.parts)
        self.control = ControlServer(self.layout, self.platform, self.stopping.set)
        self._tasks: list[asyncio.Task[None]] = []
        self.failure: BaseException | None = None

    async def run(self) -> None:
        """Boot, serve until told to stop, take everything down."""
        started = self.clock.monotonic_s()
        try:
            self._watch_owner()
            boot = asyncio.ensure_future(self._boot())
            stop = asyncio.ensure_future(self.stopping.wait())
            await asyncio.wait({boot, stop}, return_when=asyncio.FIRST_COMPLETED)
            if boot.done():
                boot.result()
                self._mark_ready(self.clock.monotonic_s() - started)
                await stop
            else:
                boot.cancel()
                await asyncio.gather(boot, return_exceptions=True)
            if self.failure is not None:
                raise self.failure
        finally:
            await self._down()

    async def _boot(self) -> None:
        await self.platform.start()
        await self.control.start()
        self.platform.watch_checks()
        for coroutine in self.platform.loops():
            self._keep(coroutine)
        await self.platform.settled(deadline_s=20.0)
        self.parts.settle()
        # Not before: a health check is red until the first pods answer.
        self._keep(self.platform.recovery.run())
        write_target_file(self.options.state_dir, self.parts, self.options.time_scale)

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a loop of the platform; if it ever ends by an error the lab stops and says so."""
        task = asyncio.ensure_future(coroutine)
        task.add_done_callback(self._loop_ended)
        self._tasks.append(task)

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None and not self.stopping.is_set():
            self.failure = task.exception()
            log.error("a loop of the lab failed", exc_info=self.failure)
            self.stopping.set()

    def _watch_owner(self) -> None:
        if self.options.owner is None:
            return
        loop = asyncio.get_running_loop()
        try:
            fd = os.pidfd_open(self.options.owner)
        except ProcessLookupError:
            self.stopping.set()
            return

        def gone() -> None:
            loop.remove_reader(fd)
            os.close(fd)
            log.info("owner %s is gone; leaving in %s s", self.options.owner, OWNER_LINGER_S)
            loop.call_later(OWNER_LINGER_S, self.stopping.set)

        loop.add_reader(fd, gone)

    def _mark_ready(self, boot_s: float) -> None:
        info = {
            "pid": os.getpid(),
            "base": self.options.base,
            "boot_s": round(boot_s, 2),
            "time_scale": self.options.time_scale,
            "defects": list(self.options.defects),
            "network": self.options.network,
            "control": f"http://{self.layout.control}:{names.CONTROL_PORT}",
        }
        path = self.options.state_dir / "lab.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(info))
        temporary.rename(path)
        log.info("ready in %.1f s", boot_s)

    async def _down(self) -> None:
        self.stopping.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for step in (self.control.stop, self.platform.stop, self.parts.stop):
            try:
                await asyncio.wait_for(step(), 15.0)
            except Exception:
                log.exception("while going down")
        with contextlib.suppress(FileNotFoundError):
            (self.options.state_dir / "lab.json").unlink()
        log.info("down")


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``python -m harness.lab.supervisor``; exits 0 after a clean stop."""
    parser = argparse.ArgumentParser(prog="harness.lab.supervisor")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--base", type=int, required=True)
    parser.add_argument("--time-scale", type=float, default=10.0)
    parser.add_argument("--defect", action="append", default=[])
    parser.add_argument("--owner", type=int)
    parser.add_argument("--network", default="stop")
    parser.add_argument("--pod-start-delay", type=float, default=POD_START_DELAY_S)
    # The lock of the base, inherited and held until this process ends, whatever way.
    parser.add_argument("--lock-fd", type=int, required=True)
    args = parser.parse_args(argv)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s"
    )
    options = Options(
        args.state_dir,
        args.base,
        args.time_scale,
        tuple(args.defect),
        args.owner,
        args.network,
        args.pod_start_delay,
    )
    # Whoever measures the lab goes before it: a late load generator proves nothing.
    os.nice(NICENESS)
    try:
        # May download on first use, so before the event loop.
        binaries.fetch()
        asyncio.run(_main(options))
    except HarnessError as error:
        (options.state_dir / "failed").write_text(str(error))
        return int(error.exit_status)
    except Exception as error:
        log.exception("the lab failed")
        (options.state_dir / "failed").write_text(f"{type(error).__name__}: {error}")
        return 1
    return 0


async def _main(options: Options) -> None:
    supervisor = Supervisor(options)
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, supervisor.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    await supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
