"""How busy the machine is that the harness, and so the traffic generator, runs on.

Where the target runs on the same machine, a busy machine is slow for a reason that is nobody's
defect; where it does not, a busy generator measures itself. Both are told from the same
figure: how much of the processors' time nobody wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.clock import Clock
from harness.watch.observer import Observer

PROC = Path("/proc")
SUBJECT = "machine:generator"
#: Columns of /proc/stat's first line, see proc(5).
_IDLE, _IOWAIT, _GUEST = 3, 4, 8


@dataclass(frozen=True)
class Look:
    """Sums since the machine's start, in seconds: of all processors together, of those with
    nothing to do, and of the time in which something waited for a processor (None: not told)."""

    at_m: float
    total_s: float
    idle_s: float
    waited_s: float | None
    cpus: int


#: An idle share below this is kept to a thousandth.
EXACT_BELOW = 0.1


class Machine(Observer):
    """Sees ``machine:generator`` → ``{"idle": share, "waiting": share | null, "cpus": n}``.

    Shares of the time since the look before; ``idle`` is kept exactly where little is left,
    and in tenths where there is plenty. Linux only.
    """

    name = "machine"
    period_s = 1.0
    subjects = (SUBJECT,)

    def __init__(self, clock: Clock, proc: Path = PROC) -> None:
        self._clock = clock
        self._proc = proc
        self._before: Look | None = None

    @staticmethod
    def can_be_seen(proc: Path = PROC) -> bool:
        """Whether this system tells how busy it is."""
        return (proc / "stat").exists()

    def poll(self) -> Mapping[str, Any]:
        now = self._look()
        before, self._before = self._before, now
        if before is None or now.total_s <= before.total_s:
            return {}
        span_s = now.at_m - before.at_m
        waiting = None
        if now.waited_s is not None and before.waited_s is not None and span_s > 0:
            waiting = round(min(1.0, (now.waited_s - before.waited_s) / span_s), 1)
        idle = (now.idle_s - before.idle_s) / (now.total_s - before.total_s)
        idle = min(1.0, max(0.0, idle))
        idle = round(idle, 3 if idle < EXACT_BELOW else 1)
        return {SUBJECT: {"idle": idle, "waiting": waiting, "cpus": now.cpus}}

    def _look(self) -> Look:
        lines = (self._proc / "stat").read_text().splitlines()
        # Guest time is in user time as well; the unit does not matter for shares.
        ticks = [int(text) / 100 for text in lines[0].split()[1:]][:_GUEST]
        return Look(
            at_m=self._clock.monotonic_s(),
            total_s=sum(ticks),
            idle_s=ticks[_IDLE] + ticks[_IOWAIT],
            waited_s=self._waited_s(),
            cpus=sum(1 for line in lines if line.startswith("cpu")) - 1,
        )

    def _waited_s(self) -> float | None:
        """Seconds in which some task waited for a processor, where the kernel counts them."""
        try:
            some = (self._proc / "pressure" / "cpu").read_text().splitlines()[0]
            return int(some.rpartition("total=")[2]) / 1e6
        except (OSError, ValueError, IndexError):
            return None
