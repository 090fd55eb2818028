"""Black holes on loopback: connecting times out, as when a zone is lost.

A process of a blocked group is stopped (SIGSTOP), so it answers nothing on connections
it has. What happens to packets depends on the mode.

``stop`` needs no root. The kernel would still accept new ones on its behalf until the
listener's accept queue is full, so the queue is filled: from then on SYN packets are
dropped. Where nothing listens (the process had died) a listener of our own keeps the address dark,
because a refusal would tell a client what a lost zone cannot.

The fillers are closed at once: a closed connection keeps its place in the queue until
it is accepted, so filling needs no descriptors, and a resumed server meets only
connections at their end. Small backlogs (below a few hundred) still make blocking and
resuming faster.

``nft`` needs root. The kernel drops every packet to and from the addresses: nothing is
acknowledged on connections that exist, and both ends go on retransmitting after the return.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import LabError
from harness.lab.packetfilter import PacketFilter
from harness.lab.proc import descendants

Listener = tuple[str, int]
Pids = Sequence[int] | Callable[[], Sequence[int]]

#: More than any queue can hold (net.core.somaxconn is at most this on usual systems).
MAX_QUEUE = 65536
_STOP_DEADLINE_S = 1.0
_DRAIN_DEADLINE_S = 1.0
_TCP_ESTABLISHED = 1
_TCP_SYN_SENT = 2
_LISTEN = "0A"
_REUSE = struct.pack("i", 1)


@dataclass
class _Group:
    pids: set[tuple[int, int]] = field(default_factory=set)
    listeners: set[Listener] = field(default_factory=set)


class Network:
    """Which groups of processes are cut off. Use from one event loop.

    A group is any name (a zone, a region). A process or listener that is in several
    blocked groups comes back when the last of them is unblocked.
    """

    def __init__(self, packet_filter: PacketFilter | None = None) -> None:
        """``packet_filter``: drop packets in the kernel (``nft``) instead of filling queues."""
        self._filter = packet_filter
        self._groups: dict[str, _Group] = {}
        self._dark: dict[Listener, socket.socket] = {}
        self._lock = asyncio.Lock()

    @property
    def blocked(self) -> set[str]:
        """Names of the groups that are cut off."""
        return set(self._groups)

    async def block(self, group: str, pids: Pids, listeners: Sequence[Listener]) -> None:
        """Cut off the processes (with all their children) and the addresses they listen on.

        Call again with a group that is blocked to add what has appeared since; what is
        already cut off stays so. Addresses that nothing listens on are made dark too.
        """
        async with self._lock:
            entry = self._groups.setdefault(group, _Group())
            entry.listeners |= set(listeners)
            if self._filter:
                self._drop_dark(self._filter)
            await self._stop(pids, entry.pids)
            if not self._filter:
                await asyncio.to_thread(self._fill_all, list(listeners))

    async def unblock(self, group: str) -> None:
        """Undo :meth:`block`; nothing happens for a group that is not blocked."""
        async with self._lock:
            entry = self._groups.pop(group, None)
            if entry is None:
                return
            others = list(self._groups.values())
            if self._filter:
                self._drop_dark(self._filter)
            for listener in entry.listeners - _union(g.listeners for g in others):
                if dark := self._dark.pop(listener, None):
                    dark.close()
            # Children first: a parent that wakes up must not find its children still stopped.
            for pid, started in sorted(entry.pids - _union(g.pids for g in others), reverse=True):
                if _started(pid) == started:
                    _signal(pid, signal.SIGCONT)
            await self._until_drained(entry.listeners - _union(g.listeners for g in others))

    async def unblock_all(self) -> None:
        """Undo everything; for the end of the lab."""
        for group in self.blocked:
            await self.unblock(group)

    def close(self) -> None:
        """Give the packet filter back, if one is used."""
        if self._filter:
            self._filter.close()

    def dark(self, listener: Listener) -> bool:
        """Whether the address is cut off."""
        return any(listener in group.listeners for group in self._groups.values())

    def _drop_dark(self, packet_filter: PacketFilter) -> None:
        packet_filter.drop(host for g in self._groups.values() for host, _ in g.listeners)

    async def _stop(self, pids: Pids, stopped: set[tuple[int, int]]) -> None:
        """Stop the processes and their children until no new child is found.

        Each is added to ``stopped`` before it is signalled, so that it can be resumed
        whatever happens.
        """
        while True:
            roots = pids() if callable(pids) else pids
            found = descendants(*roots)
            new = {(pid, _started(pid)) for pid in found} - stopped
            new = {(pid, started) for pid, started in new if started}
            if not new:
                return
            stopped |= new
            for pid, _ in sorted(new):
                _signal(pid, signal.SIGSTOP)
            await self._until_stopped(pid for pid, _ in new)

    async def _until_stopped(self, pids: Iterable[int]) -> None:
        """Wait until the kernel shows them stopped: until then they may still accept."""
        running = set(pids)
        deadline = asyncio.get_running_loop().time() + _STOP_DEADLINE_S
        while running := {p for p in running if _state(p) not in ("T", "t", "Z", "X", "")}:
            if asyncio.get_running_loop().time() > deadline:
                raise LabError(
                    f"processes {sorted(running)} did not stop within {_STOP_DEADLINE_S:.0f} s",
                    hint="the disk may be stuck; see their state with ps",
                )
            await asyncio.sleep(0.002)

    async def _until_drained(self, listeners: Iterable[Listener]) -> None:
        """Wait until the resumed servers have emptied their accept queues.

        Until then a client's SYN may still be dropped, and is sent again only after 1 s. Seen
        from outside: connecting to find out would itself take the place that has come free.
        """
        full = set(listeners)
        deadline = asyncio.get_running_loop().time() + _DRAIN_DEADLINE_S
        while full := {li for li, length in accept_queues(full).items() if length}:
            if asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(0.005)

    def _fill_all(self, listeners: Sequence[Listener]) -> None:
        for listener in listeners:
            if not _fill(listener) and listener not in self._dark:
                self._dark[listener] = _listen_dark(listener)
                _fill(listener)


def _fill(listener: Listener) -> bool:
    """Fill the accept queue until SYNs are dropped; False if nothing listens there."""
    for _ in range(MAX_QUEUE):
        state = _connect(listener)
        if state == _TCP_SYN_SENT:
            return True
        if state != _TCP_ESTABLISHED:
            return False
    raise LabError(
        f"the accept queue of {listener[0]}:{listener[1]} does not fill up",
        hint="give the process a smaller listen backlog, or see whether it was really stopped",
    )


def _connect(listener: Listener) -> int:
    """Connect and close at once; returns the TCP state it had come to, 0 if refused."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        error = client.connect_ex(listener)
        if error == errno.ECONNREFUSED:
            return 0
        if error not in (0, errno.EINPROGRESS):
            raise LabError(
                f"cannot reach {listener[0]}:{listener[1]}: {os.strerror(error)}",
                hint="the lab needs the whole of 127.0.0.0/8 on the loopback interface",
            )
        # Loopback answers within the call: the state now tells what happened.
        return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def accept_queues(listeners: Iterable[Listener]) -> dict[Listener, int]:
    """Connections waiting to be accepted, for each of ``listeners`` that something listens on.

    From ``/proc/net/tcp``, where a listening socket's ``rx_queue`` is the length of its accept
    queue and listening sockets come before all others.
    """
    wanted = {_hex_address(listener): listener for listener in listeners}
    found: dict[Listener, int] = {}
    with open("/proc/net/tcp") as table:
        next(table)
        for line in table:
            _, local, _, state, queues, *_ = line.split()
            if state != _LISTEN:
                break
            if local in wanted:
                found[wanted[local]] = int(queues.partition(":")[2], 16)
    return found


def _hex_address(listener: Listener) -> str:
    """As ``/proc/net/tcp`` writes it: the address as one integer of this machine's byte order."""
    (packed,) = struct.unpack("=I", socket.inet_aton(listener[0]))
    return f"{packed:08X}:{listener[1]:04X}"


def _listen_dark(listener: Listener) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, _REUSE)
    try:
        sock.bind(listener)
        sock.listen(0)
    except OSError as error:
        sock.close()
        raise LabError(
            f"cannot darken {listener[0]}:{listener[1]}: {error.strerror}",
            hint="another process has just taken the address; block again",
        ) from None
    return sock


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; empty if there is no such process."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    return (_stat(pid) or [""])[0]


def _started(pid: int) -> int:
    """Start time in clock ticks, 0 if gone: a pid that was given to another is not ours."""
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 else 0


def _union(sets: Iterable[set]) -> set:  # type: ignore[type-arg]
    return set().union(*sets)
