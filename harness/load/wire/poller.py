"""One event set for all sockets of a process, inside gevent's loop.

gevent's own way costs a watcher and two switches for every wait of every socket. Here all
sockets are in one epoll set of ours, edge-triggered and registered once for their whole
life, and gevent's loop watches only that set. Handlers run in the hub: they must not wait.

Deadlines are kept one per connection, not one per request: a wheel of slots a few
milliseconds apart holds each connection once, and it is put further when its slot comes up
and its current deadline is later.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import struct
import time
from collections.abc import Callable
from typing import Any, Protocol

import gevent
from gevent import monkey

log = logging.getLogger(__name__)

#: gevent's patching takes it out of ``select``.
_epoll = monkey.get_original("select", "epoll")
IN, OUT, ERR, HUP, RDHUP, EDGE = 0x1, 0x4, 0x8, 0x10, 0x2000, 1 << 31
#: Events taken from the kernel at once, and how often in a row before the loop goes on.
_BATCH = 512
_ROUNDS = 16
#: Deadlines are kept to this many seconds.
SLOT_S = 0.01
_NEVER = float("inf")
_CLOCK_MONOTONIC = 1
_libc = ctypes.PyDLL(None, use_errno=True)

Handler = Callable[[int], None]


class Timed(Protocol):
    """What has a deadline.

    ``deadline_m`` (monotonic; infinity for none) may be moved later at any time; moved
    earlier than ``looked_at_m``, :meth:`Poller.watch` must be called again. That is the
    poller's: when it looks at the deadline next, infinity if never.
    """

    deadline_m: float
    looked_at_m: float

    def expired(self) -> None: ...


class Poller:
    """The event set of one thread's hub. ``now`` reads monotonic seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self._epoll = _epoll()
        self._poll = self._epoll.poll
        self._handlers: list[Handler | None] = [None] * 1024
        self._closing: list[Any] = []
        self._slots: dict[int, list[Timed]] = {}
        self._swept = int(now() / SLOT_S)
        loop = gevent.get_hub().loop
        self._io = loop.io(self._epoll.fileno(), 1)
        self._io.start(self._ready)
        self._sweeper = loop.timer(SLOT_S, SLOT_S, ref=False)
        self._sweeper.start(self._sweep)

    def add(self, fd: int, handler: Handler) -> None:
        """Call ``handler(mask)`` in the hub whenever something changes at ``fd``."""
        while fd >= len(self._handlers):
            self._handlers.extend([None] * len(self._handlers))
        self._handlers[fd] = handler
        self._epoll.register(fd, IN | OUT | RDHUP | EDGE)

    def handler(self, fd: int, handler: Handler) -> None:
        """Replace the handler of an ``fd`` that was added."""
        self._handlers[fd] = handler

    def close(self, fd: int, sock: Any) -> None:
        """Forget ``fd`` and close ``sock`` once this round of events is over.

        Not earlier: a descriptor given out again at once would be taken for the old one.
        """
        self._handlers[fd] = None
        if not self._closing:
            gevent.get_hub().loop.run_callback(self._bury)
        self._closing.append(sock)

    def watch(self, timed: Timed) -> None:
        """Call ``timed.expired()`` in the hub once its deadline has passed."""
        slot = max(int(timed.deadline_m / SLOT_S) + 1, self._swept + 1)
        timed.looked_at_m = slot * SLOT_S
        self._slots.setdefault(slot, []).append(timed)

    def stop(self) -> None:
        """Forget everything; the sockets are closed by whoever made them."""
        self._bury()
        self._io.stop()
        self._io.close()
        self._sweeper.stop()
        self._sweeper.close()
        self._epoll.close()

    def _ready(self) -> None:
        handlers, poll = self._handlers, self._poll
        for _ in range(_ROUNDS):
            events = poll(0, _BATCH)
            if not events:
                return
            left = iter(events)
            while True:
                try:
                    for fd, mask in left:
                        handler = handlers[fd]
                        if handler is not None:
                            handler(mask)
                    break
                except Exception:
                    # An error of one must not lose the events of the others: none comes twice.
                    log.exception("an event handler raised")

    def _bury(self) -> None:
        closing, self._closing = self._closing, []
        for sock in closing:
            sock.close()

    def _sweep(self) -> None:
        now_m = self.now()
        until = int(now_m / SLOT_S)
        if not self._slots:
            self._swept = until
            return
        if until - self._swept > len(self._slots):
            due = sorted(slot for slot in self._slots if slot <= until)
        else:
            due = [slot for slot in range(self._swept + 1, until + 1) if slot in self._slots]
        self._swept = until
        for slot in due:
            looked_at_m = slot * SLOT_S
            for timed in self._slots.pop(slot):
                if timed.looked_at_m != looked_at_m:
                    continue  # watched anew since, with an earlier deadline
                timed.looked_at_m = _NEVER
                if timed.deadline_m <= now_m:
                    try:
                        timed.expired()
                    except Exception:
                        log.exception("at a deadline")  # the other deadlines still hold
                elif timed.deadline_m < _NEVER:
                    self.watch(timed)


class Ticker:
    """Calls ``handler`` in the hub at instants exact to some microseconds.

    gevent's own timers are exact to a millisecond. This is a timer descriptor of the kernel
    in the poller's set.
    """

    def __init__(self, poller: Poller, handler: Callable[[], None]) -> None:
        """Raises OSError where the kernel has no timer descriptors."""
        self._fd = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._poller = poller
        self._handler = handler
        poller.add(self._fd, self._gone_off)

    def at(self, instant_m: float) -> None:
        """Go off once, at ``instant_m`` (at once if that has passed)."""
        self._set(0.0, max(instant_m, 1e-9))

    def every(self, period_s: float) -> None:
        """Go off every ``period_s`` seconds from now on."""
        self._set(period_s, self._poller.now() + period_s)

    def close(self) -> None:
        """Go off no more."""
        self._poller.close(self._fd, _Descriptor(self._fd))

    def _gone_off(self, mask: int) -> None:
        # A timer that was set anew since has nothing to be read.
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
            self._handler()

    def _set(self, period_s: float, first_m: float) -> None:
        spec = struct.pack("4q", *_split(period_s), *_split(first_m))
        if _libc.timerfd_settime(self._fd, 1, spec, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")


class _Descriptor:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        os.close(self._fd)


def _split(seconds: float) -> tuple[int, int]:
    nanoseconds = int(seconds * 1e9)
    return divmod(nanoseconds, 1_000_000_000)
