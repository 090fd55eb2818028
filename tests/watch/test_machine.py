"""How busy the machine is: shares of what the kernel has counted since the look before."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.clock import ManualClock, SystemClock
from harness.watch.machine import SUBJECT, Machine


class Kernel:
    """A /proc of our own; times in seconds, of two processors together."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.clock = ManualClock()
        self.busy_s = self.idle_s = self.iowait_s = self.waited_s = 0.0
        (proc / "pressure").mkdir()
        self.write()

    def write(self) -> None:
        busy, idle, iowait = (int(100 * s) for s in (self.busy_s, self.idle_s, self.iowait_s))
        # Guest time, next to last, is counted in user time already.
        (self.proc / "stat").write_text(
            f"cpu  {busy} 0 0 {idle} {iowait} 0 0 0 {busy} 0\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n"
        )
        (self.proc / "pressure" / "cpu").write_text(
            f"some avg10=0.00 avg60=0.00 total={int(1e6 * self.waited_s)}\nfull total=0\n"
        )

    def second(self, *, busy_s: float, iowait_s: float = 0.0, waited_s: float = 0.0) -> None:
        self.clock.advance(1.0)
        self.busy_s += busy_s
        self.iowait_s += iowait_s
        self.idle_s += 2.0 - busy_s - iowait_s
        self.waited_s += waited_s
        self.write()


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_the_idle_share_is_of_the_time_since_the_last_look(kernel: Kernel) -> None:
    machine = Machine(kernel.clock, kernel.proc)
    assert machine.poll() == {}
    kernel.second(busy_s=1.0, waited_s=0.3)
    assert machine.poll() == {SUBJECT: {"idle": 0.5, "waiting": 0.3, "cpus": 2}}
    kernel.second(busy_s=1.99)
    assert machine.poll()[SUBJECT]["idle"] == 0.005
    kernel.second(busy_s=2.0, waited_s=1.0)
    assert machine.poll() == {SUBJECT: {"idle": 0.0, "waiting": 1.0, "cpus": 2}}


def test_who_waits_for_a_disk_leaves_the_processor_to_others(kernel: Kernel) -> None:
    machine = Machine(kernel.clock, kernel.proc)
    machine.poll()
    kernel.second(busy_s=0.2, iowait_s=1.8)
    assert machine.poll()[SUBJECT]["idle"] == 0.9


def test_a_kernel_that_counts_no_waiting_is_seen_all_the_same(kernel: Kernel) -> None:
    (kernel.proc / "pressure" / "cpu").unlink()
    machine = Machine(kernel.clock, kernel.proc)
    machine.poll()
    kernel.second(busy_s=1.0)
    (kernel.proc / "pressure" / "cpu").unlink()
    assert machine.poll() == {SUBJECT: {"idle": 0.5, "waiting": None, "cpus": 2}}


def test_where_there_is_no_such_system_nobody_looks(tmp_path: Path) -> None:
    assert not Machine.can_be_seen(tmp_path)


def test_this_machine_is_seen() -> None:
    machine = Machine(SystemClock())
    machine.poll()
    for _ in range(200):
        seen = machine.poll()
        if seen:
            break
        sum(range(100_000))
    assert 0 <= seen[SUBJECT]["idle"] <= 1
    assert seen[SUBJECT]["cpus"] >= 1
