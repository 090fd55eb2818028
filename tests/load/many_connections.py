"""More than 10,000 connections at once: is each used again, and none made anew?

``python -m tests.load.many_connections`` prints what was found as JSON; the server is a process of
its own. Where the system does not allow as many descriptors, as many as it does are used and
``limited`` is true.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass

import gevent

from harness.clock import SystemClock
from harness.load.resolver import Resolver
from harness.load.wire.ask import Ask
from harness.load.wire.client import HttpClient
from harness.load.wire.connection import Connection
from harness.load.wire.origin import Limits
from harness.load.wire.poller import Poller

WANTED = 10_500
#: Descriptors for everything else in a process.
RESERVE = 300
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@dataclass
class Found:
    """``connections`` were opened by as many requests at once, and ``rounds`` times used again."""

    connections: int
    limited: bool
    rounds: int
    requests: int
    failures: int
    #: made by the client, and accepted by the server, in the rounds
    new_connections: int
    new_at_server: int
    highest_descriptor: int
    duration_s: float


class _Waiting:
    """One request on its way."""

    connection: Connection | None = None

    def __init__(self, found: list[str]) -> None:
        self.found = found

    def finished(self, connection: Connection) -> None:
        whole = connection.head is not None and connection.head.status == 200
        self.found.append(connection.error or ("" if whole else "status"))
        self.highest = connection.fd


def measure(wanted: int = WANTED, rounds: int = 2) -> Found:
    """Open ``wanted`` connections to a server on loopback and use each of them ``rounds`` times."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = min(wanted, most - RESERVE)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.load.many_connections", "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None and server.stdout is not None
    poller = Poller()
    begun_m = time.monotonic()
    try:
        port = int(server.stdout.readline())
        limits = Limits(connect_s=30.0, max_age_s=3600.0, max_connections=count)
        client = HttpClient(
            f"http://127.0.0.1:{port}", Resolver(SystemClock()), poller=poller, limits=limits
        )
        request = Ask("GET", client.head("GET", "/x"), again=False)

        def all_at_once() -> tuple[list[str], int]:
            # So many requests before any answer is read: each needs a connection of its own.
            found: list[str] = []
            waiting = [_Waiting(found) for _ in range(count)]
            deadline_m = time.monotonic() + 60.0
            for one in waiting:
                client.origin.begin(one, request, None, deadline_m, poller.now())
            while len(found) < count:
                gevent.sleep(0.01)
            return found, max(one.highest for one in waiting)

        def accepted() -> int:
            server.stdin.write("\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        first, highest = all_at_once()
        made, at_server = client.counts.connections, accepted()
        failures = sum(map(bool, first))
        for _ in range(rounds):
            found, _ = all_at_once()
            failures += sum(map(bool, found))
        result = Found(
            connections=made,
            limited=count < wanted,
            rounds=rounds,
            requests=count * (rounds + 1),
            failures=failures,
            new_connections=client.counts.connections - made,
            new_at_server=accepted() - at_server,
            highest_descriptor=highest,
            duration_s=round(time.monotonic() - begun_m, 3),
        )
        client.close()
    finally:
        server.stdin.close()
        server.wait(10)
        server.stdout.close()
        gevent.sleep(0)
        poller.stop()
    return result


def serve() -> None:
    """Answer every request; say how many connections were accepted whenever a line comes in."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    events = select.epoll()
    events.register(listener, select.EPOLLIN)
    events.register(sys.stdin, select.EPOLLIN)
    print(listener.getsockname()[1], flush=True)
    peers: dict[int, socket.socket] = {}
    accepted = 0
    while True:
        for fd, _ in events.poll():
            if fd == listener.fileno():
                with suppress(BlockingIOError):
                    while True:
                        peer, _ = listener.accept()
                        accepted += 1
                        peer.setblocking(False)
                        peers[peer.fileno()] = peer
                        events.register(peer, select.EPOLLIN)
            elif fd == sys.stdin.fileno():
                if not sys.stdin.readline():
                    return
                print(accepted, flush=True)
            else:
                _answer(peers, fd)


def _answer(peers: dict[int, socket.socket], fd: int) -> None:
    # Requests are small and come one at a time: whole, in one segment.
    with suppress(OSError):
        if peers[fd].recv(4096):
            peers[fd].send(_ANSWER)
            return
    peers.pop(fd).close()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        print(json.dumps(asdict(measure())))
