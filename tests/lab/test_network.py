"""Black holes: real processes, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from harness.errors import LabError
from harness.lab import network
from harness.lab.network import Network, accept_queues
from harness.lab.packetfilter import PacketFilter

PORT = 8080
#: How long a client waits for a server that must be there: a busy machine is not a black hole.
BACK_S = 5.0
#: A process for each (host, backlog) given, all children of the first; each answers "pong".
SERVER = """
import os, socket, sys
jobs = [a.rsplit(":", 1) for a in sys.argv[1:]]
listeners = []
for host, backlog in jobs:
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, 8080)); s.listen(int(backlog)); listeners.append(s)
mine = listeners[0]
for s in listeners[1:]:
    if os.fork() == 0:
        mine = s
        break
for s in listeners:
    if s is not mine: s.close()
if mine is listeners[0]: print("ready", flush=True)
while True:
    c, _ = mine.accept()
    try:
        c.recv(10); c.sendall(b"pong")
    except OSError: pass
    c.close()
"""


def hosts(count: int) -> list[str]:
    return [f"127.104.40.{n}" for n in range(1, count + 1)]


class Servers:
    def __init__(self, listeners: list[tuple[str, int]]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, *(f"{h}:{b}" for h, b in listeners)],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout and self.process.stdout.readline() == b"ready\n"
        self.listeners = [(h, PORT) for h, _ in listeners]

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()


@pytest.fixture
def servers() -> Iterator[list[Servers]]:
    started: list[Servers] = []
    yield started
    for server in started:
        server.end()


def ask(listener: tuple[str, int], timeout_s: float = 0.15) -> str:
    """What a client meets: ``pong``, ``timeout`` or ``refused``."""
    try:
        with socket.create_connection(listener, timeout_s) as client:
            client.sendall(b"ping")
            return client.recv(10).decode()
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return "refused" if error.errno == errno.ECONNREFUSED else repr(error)


def test_a_blocked_zone_of_twelve_processes_times_out_and_comes_back_at_once(
    servers: list[Servers],
) -> None:
    # Three backlogs of real servers: a pod's, Redis's, the system's largest (NATS).
    backlogs = [16] * 9 + [64, 511, 4096]
    zone = Servers(list(zip(hosts(12), backlogs, strict=True)))
    servers.append(zone)

    async def outage() -> tuple[float, list[str], list[str]]:
        net = Network()
        start = time.monotonic()
        await net.block("zone-a", [zone.process.pid], zone.listeners)
        took_s = time.monotonic() - start
        assert net.blocked == {"zone-a"} and net.dark(zone.listeners[0])
        during = [ask(li) for li in zone.listeners]
        await net.unblock("zone-a")
        assert net.blocked == set()
        return took_s, during, [ask(li, BACK_S) for li in zone.listeners]

    took_s, during, after = asyncio.run(outage())
    assert during == ["timeout"] * 12
    assert after == ["pong"] * 12
    assert took_s < 1.0, "measured 0.1 to 0.3 s; room for a busy machine"


def test_a_small_zone_needs_no_file_descriptors_while_it_is_blocked(servers: list[Servers]) -> None:
    zone = Servers([(hosts(1)[0], 128)])
    servers.append(zone)

    async def descriptors() -> tuple[int, int]:
        net = Network()
        before = len(os.listdir("/proc/self/fd"))
        await net.block("zone-a", [zone.process.pid], zone.listeners)
        during = len(os.listdir("/proc/self/fd"))
        await net.unblock("zone-a")
        return before, during

    before, during = asyncio.run(descriptors())
    assert during == before


def test_an_address_whose_process_died_is_dark_and_refuses_again_afterwards() -> None:
    gone = ("127.104.41.1", PORT)

    async def outage() -> list[str]:
        net = Network()
        seen = [ask(gone)]
        await net.block("zone-a", [], [gone])
        seen.append(ask(gone))
        await net.block("zone-a", [], [gone])
        seen.append(ask(gone))
        await net.unblock("zone-a")
        seen.append(ask(gone))
        return seen

    assert asyncio.run(outage()) == ["refused", "timeout", "timeout", "refused"]


def test_what_two_groups_block_comes_back_when_the_last_is_unblocked(
    servers: list[Servers],
) -> None:
    zone = Servers([(hosts(1)[0], 16)])
    servers.append(zone)

    async def outage() -> list[str]:
        net = Network()
        seen = []
        for group in ("zone", "region"):
            await net.block(group, lambda: [zone.process.pid], zone.listeners)
        await net.unblock("zone")
        seen.append(ask(zone.listeners[0]))
        for _ in range(2):
            await net.unblock("region")
            seen.append(ask(zone.listeners[0], BACK_S))
        return seen

    assert asyncio.run(outage()) == ["timeout", "pong", "pong"]


def test_a_process_that_appears_in_a_blocked_group_can_be_added(servers: list[Servers]) -> None:
    first, second = (Servers([(h, 16)]) for h in hosts(2))
    servers.extend((first, second))

    async def outage() -> list[str]:
        net = Network()
        await net.block("zone", [first.process.pid], first.listeners)
        await net.block("zone", [second.process.pid], second.listeners)
        seen = [ask(first.listeners[0]), ask(second.listeners[0])]
        await net.unblock_all()
        return seen + [ask(s.listeners[0], BACK_S) for s in (first, second)]

    assert asyncio.run(outage()) == ["timeout", "timeout", "pong", "pong"]


def test_a_process_that_dies_while_blocked_does_not_hinder_unblocking(
    servers: list[Servers],
) -> None:
    zone = Servers([(hosts(1)[0], 16)])
    servers.append(zone)

    async def outage() -> str:
        net = Network()
        await net.block("zone", [zone.process.pid], zone.listeners)
        zone.process.kill()
        zone.process.wait()
        await net.unblock("zone")
        return ask(zone.listeners[0])

    assert asyncio.run(outage()) == "refused"


def test_a_failed_block_can_be_undone(
    servers: list[Servers], monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = Servers([(hosts(1)[0], 16)])
    servers.append(zone)
    monkeypatch.setattr(network, "MAX_QUEUE", 3)

    async def outage() -> str:
        net = Network()
        with pytest.raises(LabError, match="does not fill up"):
            await net.block("zone", [zone.process.pid], zone.listeners)
        assert net.blocked == {"zone"}
        await net.unblock("zone")
        return ask(zone.listeners[0], BACK_S)

    assert asyncio.run(outage()) == "pong"


def test_no_server_is_called_back_while_its_accept_queue_would_still_drop_clients(
    servers: list[Servers],
) -> None:
    zone = Servers([(h, 512) for h in hosts(4)])
    servers.append(zone)

    async def queues() -> tuple[list[int], list[int]]:
        net = Network()
        await net.block("zone", [zone.process.pid], zone.listeners)
        full = list(accept_queues(zone.listeners).values())
        await net.unblock("zone")
        return full, list(accept_queues(zone.listeners).values())

    full, drained = asyncio.run(queues())
    assert full == [513] * 4, "the kernel lets in one more than the backlog"
    assert drained == [0] * 4


PACKET_FILTER = """
import asyncio, errno, fcntl, socket, struct
from harness.lab.network import Network
from harness.lab.packetfilter import PacketFilter

SIOCSIFFLAGS, IFF_UP = 0x8914, 1
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
lost, other, nobody = ("127.104.42.1", 80), ("127.104.42.2", 80), ("127.104.42.3", 80)
listeners = [socket.create_server(li) for li in (lost, other)]
client = socket.create_connection(lost, 5)
server, _ = listeners[0].accept()

def connects(listener):
    try:
        socket.create_connection(listener, 0.2).close()
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return errno.errorcode[error.errno]
    return "open"

def unacknowledged():
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[24]

async def main():
    net = Network(PacketFilter("harness_test"))
    print(*map(connects, (lost, other, nobody)))
    await net.block("zone", [], [lost, nobody])
    await net.block("region", [], [lost])
    print(*map(connects, (lost, other, nobody)))
    client.sendall(b"into the dark")
    await asyncio.sleep(0.1)
    print("unacknowledged", unacknowledged())
    await net.unblock("zone")
    print(*map(connects, (lost, other, nobody)))
    await net.unblock("region")
    server.settimeout(5)
    print(*map(connects, (lost, other, nobody)), server.recv(99).decode())
    await net.block("zone", [], [lost])
    net.close()
    print(connects(lost))

asyncio.run(main())
"""


def test_with_root_packets_are_dropped_in_the_kernel_and_never_after_the_filter_is_gone() -> None:
    inside = ["unshare", "--map-root-user", "--net"]
    allowed = subprocess.run([*inside, "true"], capture_output=True).returncode == 0
    if not allowed:
        with pytest.raises(LabError, match="--network"):
            PacketFilter("harness_test")
        return
    ran = subprocess.run(
        [*inside, sys.executable, "-c", PACKET_FILTER], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.splitlines() == [
        "open open ECONNREFUSED",
        "timeout open timeout",
        "unacknowledged 1",
        "timeout open ECONNREFUSED",
        "open open ECONNREFUSED into the dark",
        "open",
    ], ran.stderr


def test_without_the_right_to_filter_packets_it_says_what_to_do_instead() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", "import os; from harness.lab.packetfilter import PacketFilter\n"
         "os.getuid() or os.setuid(65534); PacketFilter('x')"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "cannot be used: not allowed" in ran.stderr
    assert "leave --network away" in ran.stderr


def test_another_process_with_a_recycled_pid_is_left_alone(
    servers: list[Servers], monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled: list[int] = []
    zone = Servers([(hosts(1)[0], 16)])
    servers.append(zone)

    async def outage() -> None:
        net = Network()
        await net.block("zone", [zone.process.pid], zone.listeners)
        monkeypatch.setattr(network, "_started", lambda _pid: 1)
        monkeypatch.setattr(network, "_signal", lambda pid, _number: signalled.append(pid))
        await net.unblock("zone")

    asyncio.run(outage())
    assert signalled == []
