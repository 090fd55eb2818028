"""Runs cases against the real client, many at once, and says what was not as it must be."""

from __future__ import annotations

import hashlib
import os
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import gevent
from gevent.pool import Pool

from harness.clock import SystemClock
from harness.load.resolver import Resolver
from harness.load.wire.ask import DROP, HASH, IDEMPOTENT, KEEP, Ask
from harness.load.wire.client import Exchange, HttpClient
from harness.load.wire.connection import FIRST_BYTES, NOT_KNOWN
from harness.load.wire.message import (
    CHUNKED,
    ERRORS,
    LAST_CHUNK_BYTES,
    Head,
    Malformed,
    one_chunk,
    parse_head,
)
from harness.load.wire.origin import Limits
from harness.load.wire.poller import Poller
from harness.load.wire.upload import Body, from_bytes
from tests.certificate import certificate
from tests.load.fuzz.hostile import Hostile, Slot
from tests.load.fuzz.oracle import Allowed, allowed
from tests.load.fuzz.script import BODY_MAX_BYTES, Asked, Case, stream

#: A deadline where silence is the likely end, and where it is not.
SHORT_S, LONG_S = 0.25, 6.0
#: Later than this after its deadline, an exchange hangs. The machine may be busy.
GRACE_S = 2.0
_TAKES = {"keep": KEEP, "hash": HASH, "drop": DROP}
_UPLOAD = bytes(range(256)) * 12_000


class Runner:
    """Cases on one poller. ``outcomes`` counts how exchanges ended."""

    def __init__(self, hostile: Hostile, poller: Poller, trust: ssl.SSLContext) -> None:
        self.outcomes: Counter[str] = Counter()
        self.cases = 0
        self._hostile = hostile
        self._poller = poller
        self._trust = trust
        self._resolver = Resolver(SystemClock())
        self._uploads: dict[int, Body] = {}

    def run(self, cases: Iterable[Case], at_once: int, found: Callable[[Case, str], None]) -> None:
        """Run all; ``found`` is told of each case that was not as it must be."""

        def one(case: Case) -> None:
            problem = self.problem(case)
            if problem:
                found(case, problem)

        pool = Pool(at_once)
        for case in cases:
            pool.spawn(one, case)
        pool.join()

    def problem(self, case: Case) -> str:
        """What was not as it must be in this case, or ``""``."""
        self.cases += 1
        token = f"token {self.cases} {time.monotonic_ns()}"
        sound = f"HTTP/1.1 200 OK\r\nContent-Length: {len(token)}\r\n\r\n{token}"
        # In the end a sound exchange: it must get its own answer and nothing else.
        last = Asked([["request"], ["send", sound]], expect=[""])
        case = replace(case, exchanges=[*case.exchanges, last])
        address, slot = self._hostile.open(case)
        client = HttpClient(
            f"{'https' if case.tls else 'http'}://{address}:{self._hostile.port}",
            self._resolver,
            poller=self._poller,
            limits=Limits(connect_s=LONG_S, body_max_bytes=BODY_MAX_BYTES, max_age_s=60.0),
            tls=self._trust,
        )
        try:
            return self._exchanges(case, client, slot) or self._counts(client, slot)
        except Exception as error:  # noqa: BLE001 - any is a finding
            return f"raised {error!r}"
        finally:
            client.close()
            self._hostile.forget(address)

    def _exchanges(self, case: Case, client: HttpClient, slot: Slot) -> str:
        asks: dict[tuple[str, int, str], Ask] = {}
        primes = self.cases % 2
        for number, asked in enumerate(case.exchanges):
            slot.current = number
            may = allowed(asked, case.tls)
            quiet = {"timeout", "connect-timeout"} & may.errors
            deadline_s = SHORT_S if quiet else LONG_S
            begun_m = time.monotonic()
            # The same request is the same object, as it is for those who declare one.
            key = (asked.method, asked.upload_bytes, asked.take)
            ask = asks[key] = asks.get(key) or self._ask(client, asked)
            if primes and isinstance(ask.body, Body) and not case.tls:
                ask.held = ask.held or ask.body.held_behind(ask.head)
            if primes and asked.method != "HEAD":
                # As if it had been asked before, and answered with this head.
                ask.known = _known(asked)
            exchange = client.perform(ask, begun_m + deadline_s)
            took_s = time.monotonic() - begun_m
            self.outcomes[exchange.error or f"whole-{exchange.status // 100}xx"] += 1
            wrong = _wrong(asked, may, exchange, slot, number)
            if took_s > deadline_s + GRACE_S:
                wrong = f"took {took_s:.1f} s with a deadline of {deadline_s:g} s"
            if wrong:
                return f"exchange {number}: {wrong}"
            # What the server still has to say must come while nobody asks.
            give_up_m = time.monotonic() + 3.0
            while number not in slot.played and client.origin.size:
                if time.monotonic() > give_up_m:
                    break
                gevent.sleep(0.002)
            if may.rest or "reset" in may.errors or client.origin.size:
                gevent.sleep(0.005)
        return ""

    def _ask(self, client: HttpClient, asked: Asked) -> Ask:
        body: bytes | Body = _UPLOAD[: asked.upload_bytes]
        if asked.upload_bytes == 200_000:
            body = self._uploads.setdefault(asked.upload_bytes, from_bytes(bytes(body)))
        head = client.head(asked.method, "/x", length=len(body) if body else None)
        return Ask(asked.method, head, body, take=_TAKES[asked.take])

    def _counts(self, client: HttpClient, slot: Slot) -> str:
        if client.origin.owners():
            return "a connection has an owner though nothing is asked"
        if client.origin.size != len(client.origin._idle):
            return f"{client.origin.size} connections, {len(client.origin._idle)} idle"
        client.close()
        if client.origin.size:
            return f"{client.origin.size} connections after the end"
        give_up_m = time.monotonic() + 2.0
        while slot.connections < client.counts.connections and time.monotonic() < give_up_m:
            gevent.sleep(0.002)
        if slot.connections != client.counts.connections:
            return f"{client.counts.connections} connections made, {slot.connections} came"
        return ""


def _known(asked: Asked) -> Head | None:
    """The head that will be said, if it is one that would have been remembered."""
    said = stream(asked.steps)
    end = said.find(b"\r\n\r\n") + 4
    try:
        head = parse_head(said[:end])
    except Malformed:
        return None
    if head.length == CHUNKED and asked.take == "drop" and len(said) < FIRST_BYTES:
        start = one_chunk(bytearray(said), end, len(said))
        head = head.of_this_answer(said, len(said) - LAST_CHUNK_BYTES - start) if start else head
    return head if head.whole not in NOT_KNOWN else None


def _wrong(asked: Asked, may: Allowed, exchange: Exchange, slot: Slot, number: int) -> str:
    error = exchange.error
    if error and error not in ERRORS:
        return f"{error!r} is no name of an error"
    if error not in may.errors:
        return f"{error or 'a whole answer'!r} where {sorted(may.errors)} may be"
    if not exchange.sent and slot.received_bytes[number]:
        return f"surely not sent, and {slot.received_bytes[number]} bytes came"
    if error or may.unknown:
        return ""
    if not exchange.sent_m <= exchange.first_m <= exchange.done_m:
        return f"instants {exchange.sent_m}, {exchange.first_m}, {exchange.done_m}"
    if exchange.status != may.status:
        return f"status {exchange.status} for {may.status}"
    if asked.method != "HEAD" and exchange.size_bytes != len(may.body):
        return f"a body of {exchange.size_bytes} bytes for {len(may.body)}"
    if asked.take == "keep" and exchange.body != may.body:
        return "another body"
    if asked.take == "hash" and exchange.sha256 != hashlib.sha256(may.body).hexdigest():
        return "another checksum"
    verbs = [step[0] for step in asked.steps]
    came, sends = slot.requests[number], 2 if asked.method in IDEMPOTENT else 1
    if verbs[:1] == ["request"] and not 1 <= came <= sends:
        return f"answered, and {came} whole requests came"
    return ""


def shrunk(case: Case, fails: Callable[[Case], bool], tries: int = 150) -> Case:
    """A smaller case that fails too."""
    left = [tries]

    def smaller(of: Case) -> Iterator[Case]:
        for i in range(len(of.exchanges)):
            if len(of.exchanges) > 1:
                yield replace(of, exchanges=of.exchanges[:i] + of.exchanges[i + 1 :])
        for i, asked in enumerate(of.exchanges):
            for j, step in enumerate(asked.steps):
                if asked.expect is not None:
                    continue  # of other steps something else may be expected
                without = asked.steps[:j], asked.steps[j + 1 :]
                options = [[*without[0], *without[1]]]
                if step[0] == "send" and len(step[1]) > 1:
                    size = len(step[1])
                    for n in (2, 4, 8, 16):
                        for k in range(n):
                            cut = step[1][: size * k // n] + step[1][size * (k + 1) // n :]
                            options.append([*without[0], ["send", cut], *without[1]])
                for steps in options:
                    new = replace(asked, steps=steps)
                    yield replace(of, exchanges=[*of.exchanges[:i], new, *of.exchanges[i + 1 :]])

    going = True
    while going and left[0] > 0:
        going = False
        for candidate in smaller(case):
            left[0] -= 1
            if left[0] <= 0:
                break
            if fails(candidate):
                case, going = candidate, True
                break
    return case


@contextmanager
def running(folder: Path) -> Iterator[Runner]:
    """A runner and its server. In the end nothing may be left over: raises AssertionError."""
    trust = ssl.create_default_context(cafile=str(pem := certificate(folder)))
    trust.check_hostname = False  # asked by address
    # As some builds of Python have it from the start; the client must not rely on it.
    trust.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)  # the server is a thread of this process
    gevent.get_hub()
    poller = Poller()
    before = _descriptors()
    with Hostile(pem) as hostile:
        runner = Runner(hostile, poller, trust)
        yield runner
        runner._uploads.clear()
        gevent.sleep(0.05)
    left = [h for h in poller._handlers if h is not None]
    after = _descriptors()
    poller.stop()
    sys.setswitchinterval(switch_s)
    assert not left, f"{len(left)} sockets are still watched"
    assert after <= before, f"{after - before} sockets are still open"


def _descriptors() -> int:
    """How many sockets are open; a body's file goes with the last connection that knew it."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return sum(link.startswith("socket:") for link in links)
