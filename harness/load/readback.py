"""Is every acknowledged object there, unaltered, and every deleted one gone?

After the run all that are followed are asked for (:func:`read_back`), and the service's own list
is looked through for objects that are there twice; towards the end of each phase with a fault and
of each recovery a few are (:class:`Pass`), by whichever side serves then.

Asked through the service, as a client would. An object that cannot be asked about (errors,
timeouts) is ``error``, never ``present``; an object is ``missing`` only when the service
said so (404) in every attempt, since a single 404 may come from a side that is catching up.
Runs in the conductor's process, in a thread with an event loop of its own.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import gevent
from gevent.pool import Pool

from harness.clock import Clock, SystemClock
from harness.evidence.following import halvings
from harness.evidence.journal import Journal
from harness.load import ledger, outcome
from harness.load.ledger import Stored
from harness.load.resolver import Resolver
from harness.load.settings import Settings
from harness.load.steps import Ask, Steps, drive
from harness.load.wire.ask import HASH, KEEP
from harness.load.wire.client import Exchange, HttpClient
from harness.load.wire.poller import Poller
from harness.load.workload import VirtualUser, file_path

PRESENT = "present"
MISSING = "missing"
ALTERED = "altered"
ERROR = "error"

ATTEMPTS = 4
RETRY_AFTER_S = 0.5
#: Deleted objects that are asked for, and such whose upload failed; more would say little more.
DELETED_SAMPLE = 200
#: Pages of the service's list that are looked at after the run, and how many objects one holds.
LISTED_PAGES = 200
_PAGE_DIGITS, _PAGE_LIMIT = 2, 1000
#: Names written down of what is wrong with a page.
_NAMED = 20

#: While traffic is measured, read-back sends this share of the planned rate (within bounds, per
#: second), so few at a time, and asks for so many objects in a phase.
PASS_SHARE, PASS_RATE_MIN, PASS_RATE_MAX = 0.05, 1.0, 50.0
PASS_CONCURRENCY = 4
PASS_OBJECTS = 200
#: In which part of its phase, by the planned duration, and for how many seconds at most.
PASS_FROM, PASS_UNTIL, PASS_MAX_S = 0.5, 0.9, 20.0
#: How soon a pass sees that its phase is over; how long its end is waited for at most.
_LOOK_S, _END_S = 0.05, 5.0


class Answer(NamedTuple):
    """What one object's read-back gave. ``detail`` says why, where it is not ``present``.

    ``answers`` of gateways it took: Prometheus counts them too.
    """

    result: str
    region: str
    detail: str
    answers: int = 0


def read_back(
    run_dir: Path,
    *,
    service_url: str,
    dns_server: str | None,
    timeout_s: float,
    concurrency: int = 16,
    deadline_s: float,
    limit: int | None = None,
    clock: Clock | None = None,
    login: tuple[str, str] = (Settings.user, Settings.password),
) -> dict[str, Any]:
    """Read what the ledgers of ``run_dir`` say must be, may be, or must not be there.

    One line per object is appended to ``ledger/readback.jsonl`` (``expected`` says what
    the ledger promised; a must-be-gone object that is ``missing`` is right). Whatever is
    not asked within ``deadline_s`` seconds is ``error`` with detail ``deadline``.
    ``limit`` asks for at most that many objects, evenly spread, and says so in the result.

    Returns counts: ``objects``, ``read``, ``present``, ``missing``, ``altered``, ``error``,
    ``expected`` {expectation: {result: n}}, ``lost`` and ``changed`` (ids that must be
    present), ``undeleted`` (ids that must be gone), ``duration_s``, ``objects_per_s``.
    """
    clock = clock or SystemClock()
    every = ledger.stored(run_dir)
    stored = to_be_asked(every)
    chosen = _choose(stored, limit)
    started_m = clock.monotonic_s()
    give_up_m = started_m + deadline_s

    def ask_all() -> list[Answer]:
        journal = Journal(run_dir / "ledger" / "readback.jsonl", "readback", clock)
        try:
            with _reader(service_url, dns_server, clock, login, timeout_s, give_up_m) as reader:
                pool = Pool(concurrency)
                answers = list(pool.map(lambda item: _told(reader, item, journal), chosen))
                own = _Own(every)
                pool.map(lambda page: _list(reader, page, own, journal), pages(every))
            return answers
        finally:
            journal.close()

    answers = _in_a_thread(ask_all)
    return _summary(len(stored), chosen, answers, clock.monotonic_s() - started_m)


def to_be_asked(found: Sequence[Stored]) -> list[Stored]:
    """Those that read-back should ask for at the end; such as must not be there are sampled."""
    asked = [item for item in found if item.expected not in _ABSENT]
    for expected in _ABSENT:
        asked += _choose([i for i in found if i.expected == expected], DELETED_SAMPLE)
    return asked


def _choose(items: Sequence[Stored], limit: int | None) -> list[Stored]:
    """At most ``limit`` of them, evenly spread over the run."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


# ---- while traffic goes on -----------------------------------------------------------------


def pass_rate(planned: float) -> float:
    """Objects asked for per second where ``planned`` arrivals per second are measured."""
    return min(PASS_RATE_MAX, max(PASS_RATE_MIN, PASS_SHARE * planned))


def choose_for_pass(
    found: Sequence[Stored], before_t: float | None, at_most: int = PASS_OBJECTS
) -> list[Stored]:
    """Whom to ask for while traffic goes on, in this order.

    One by one: of the last acknowledged before the fault was made (``before_t``), which a copy
    that was behind has not got, the latest first; and of all, always the same as far as they
    are there, so that what is missing now and there later is seen.
    """
    kept = [item for item in found if item.expected == ledger.MUST_BE_PRESENT]
    early = [item for item in kept if before_t is not None and item.ack_t <= before_t]
    early.sort(key=lambda item: (-item.ack_t, item.object_id))
    always = sorted(kept, key=lambda item: (-halvings(item.object_id), item.object_id))
    chosen: dict[str, Stored] = {}
    for n in range(len(always)):
        for item in (*early[n : n + 1], always[n]):
            chosen.setdefault(item.object_id, item)
        if len(chosen) >= at_most:
            break
    return list(chosen.values())[:at_most]


class Pass:
    """Read-back of a few objects towards the end of one phase, while traffic goes on.

    Use as a context manager around the phase; leaving it early ends the asking.
    """

    def __init__(
        self,
        run_dir: Path,
        phase: str,
        fault: str | None,
        *,
        duration_s: float,
        planned_rate: float,
        service_url: str,
        dns_server: str | None,
        timeout_s: float,
        clock: Clock,
        login: tuple[str, str] = (Settings.user, Settings.password),
    ) -> None:
        """``duration_s`` of the phase as planned; ``planned_rate`` arrivals per second."""
        self._run_dir = run_dir
        self._phase = phase
        self._fault = fault
        self._rate = pass_rate(planned_rate)
        now_m = clock.monotonic_s()
        self._begin_m = now_m + PASS_FROM * duration_s
        self._give_up_m = min(now_m + PASS_UNTIL * duration_s, self._begin_m + PASS_MAX_S)
        self._reach = (service_url, dns_server, clock, login, timeout_s, self._give_up_m)
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"readback {phase}", daemon=True)

    def __enter__(self) -> Pass:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        if self._stop.wait(max(0.0, self._begin_m - self._clock.monotonic_s())):
            return
        source = f"readback/{self._phase}"
        journal = Journal(self._run_dir / "ledger" / "readback.jsonl", source, self._clock)
        try:
            found = ledger.stored(self._run_dir)
            room = int(self._rate * (self._give_up_m - self._begin_m))
            chosen = choose_for_pass(found, self._made_t(), min(PASS_OBJECTS, room))
            journal.write("pass.start", phase=self._phase, chosen=len(chosen), rate=self._rate)
            with _reader(*self._reach) as reader:
                asked = self._ask(reader, chosen, journal)
            journal.write("pass.end", phase=self._phase, asked=asked)
        finally:
            journal.close()

    def _ask(self, reader: _Reader, chosen: Sequence[Stored], journal: Journal) -> int:
        """Ask for one after another, no faster than planned; of how many it is known what
        became of them when the time was over."""
        pool = Pool(PASS_CONCURRENCY)
        begun_m = self._clock.monotonic_s()
        asking = []
        for n, item in enumerate(chosen):
            if self._over(begun_m + n / self._rate):
                break
            asking.append(pool.spawn(_told, reader, item, journal, phase=self._phase))
        while not (self._stop.is_set() or pool.join(timeout=_LOOK_S)):
            pass
        pool.kill()
        return sum(isinstance(one.value, Answer) for one in asking)

    def _over(self, until_m: float) -> bool:
        """Wait until then; whether the time, or the phase, is over."""
        while not self._stop.is_set() and self._clock.monotonic_s() < self._give_up_m:
            left_s = until_m - self._clock.monotonic_s()
            if left_s <= 0:
                return False
            gevent.sleep(min(left_s, _LOOK_S))
        return True

    def _made_t(self) -> float | None:
        """When this phase's fault began to be made, if it was."""
        instants = [
            line["call_start_t"]
            for line in ledger.read_lines(self._run_dir / "history.jsonl")
            if line["kind"] == "fault.made" and line.get("fault") == self._fault
        ]
        return min(instants, default=None)


# ---- asking ----------------------------------------------------------------------------------


def _in_a_thread(call: Callable[[], list[Answer]]) -> list[Answer]:
    with ThreadPoolExecutor(1, thread_name_prefix="readback") as thread:
        return thread.submit(call).result()


@contextmanager
def _reader(
    service_url: str,
    dns_server: str | None,
    clock: Clock,
    login: tuple[str, str],
    timeout_s: float,
    give_up_m: float,
) -> Iterator[_Reader]:
    """Who asks, with an event loop of this thread's own."""
    poller = Poller(clock.monotonic_s)
    http = HttpClient(service_url, Resolver(clock, dns_server), poller=poller)
    user = VirtualUser(http, clock, *login)
    try:
        yield _Reader(http, user, clock, timeout_s, give_up_m)
    finally:
        http.close()
        poller.stop()
        gevent.get_hub().destroy()


def _told(reader: _Reader, item: Stored, journal: Journal, **more: str) -> Answer:
    """What asking for an object gave, also written down."""
    answer = reader.ask(item)
    journal.write(
        "readback",
        object=item.object_id,
        result=answer.result,
        region=answer.region,
        detail=answer.detail,
        expected=item.expected,
        answers=answer.answers,
        **more,
    )
    return answer


def pages(found: Sequence[Stored]) -> list[str]:
    """Beginnings of names under which the objects are listed, spread over the run."""
    beginnings = dict.fromkeys(
        item.object_id[:-_PAGE_DIGITS] for item in found if item.object_id[-_PAGE_DIGITS:].isdigit()
    )
    every = list(beginnings)
    if len(every) <= LISTED_PAGES:
        return every
    return [every[i * len(every) // LISTED_PAGES] for i in range(LISTED_PAGES)]


class _Own:
    """What is known of the objects that may be listed."""

    def __init__(self, found: Sequence[Stored]) -> None:
        self.expected = {item.object_id: item.expected for item in found}
        self.by_sha256 = {item.sha256: item.object_id for item in found if item.sha256}
        #: beginning of their names → objects that a page must hold
        self.under: dict[str, set[str]] = {}
        for item in found:
            if item.expected == ledger.MUST_BE_PRESENT:
                beginning = item.object_id[:-_PAGE_DIGITS]
                self.under.setdefault(beginning, set()).add(item.object_id)


def _list(reader: _Reader, beginning: str, own: _Own, journal: Journal) -> None:
    entries, error = reader.list(beginning)
    journal.write(
        "listing", prefix=beginning, error=error, **compare(beginning, entries, error, own)
    )


def compare(
    beginning: str, entries: Sequence[tuple[str, str]], error: str, own: _Own
) -> dict[str, Any]:
    """A page of the service's list, entries ``(id, sha256)``, beside what was stored.

    ``twice``: an id more than once; ``copies``: the bytes of an object that was stored, under an
    id that nobody gave; ``undeleted``: its delete was acknowledged; ``absent``: acknowledged, and
    not in the list. As numbers, with a few names.
    """
    times = Counter(name for name, _ in entries)
    wrong = {
        "twice": sorted(name for name, n in times.items() if n > 1),
        "copies": sorted(
            f"{name} of {own.by_sha256[sha256]}"
            for name, sha256 in set(entries)
            if sha256 in own.by_sha256 and name not in own.expected
        ),
        "undeleted": sorted(
            name for name in times if own.expected.get(name) == ledger.MUST_BE_GONE
        ),
        "absent": sorted(own.under.get(beginning, set()) - set(times)) if not error else [],
    }
    return {
        "listed": len(entries),
        **{what: len(names) for what, names in wrong.items()},
        "names": {what: names[:_NAMED] for what, names in wrong.items() if names},
    }


class _Reader:
    """Asks for objects, one greenlet each."""

    def __init__(
        self,
        http: HttpClient,
        user: VirtualUser,
        clock: Clock,
        timeout_s: float,
        give_up_m: float,
    ) -> None:
        self._http = http
        self._user = user
        self._clock = clock
        self._timeout_s = timeout_s
        self._give_up_m = give_up_m

    def ask(self, item: Stored) -> Answer:
        """Ask until the object is there, unaltered, or the attempts or the time are used up."""
        answer = Answer(ERROR, "", "deadline")
        answers = 0
        for attempt in range(ATTEMPTS):
            if attempt:
                left_s = self._give_up_m - self._clock.monotonic_s()
                gevent.sleep(max(0.0, min(RETRY_AFTER_S, left_s)))
            if self._clock.monotonic_s() >= self._give_up_m:
                break
            latest = drive(self._attempt(item), self._perform)
            answers += bool(latest.region)
            if latest.result == PRESENT:
                return latest._replace(answers=answers)
            if item.expected in _ABSENT and latest.result == MISSING:
                return latest._replace(answers=answers)
            # Anything in doubt outweighs "missing": only an unbroken series of 404 is a loss.
            if attempt == 0 or latest.result != MISSING or answer.result == MISSING:
                answer = latest
        return answer._replace(answers=answers)

    def list(self, beginning: str) -> tuple[list[tuple[str, str]], str]:
        """(id, sha256) of the objects listed whose ids begin so; or why they cannot be told."""
        exchange = Exchange("deadline")
        for attempt in range(ATTEMPTS):
            if attempt:
                gevent.sleep(RETRY_AFTER_S)
            if self._clock.monotonic_s() >= self._give_up_m:
                break
            exchange = drive(self._page(beginning), self._perform)
            if exchange.status == 200 and not exchange.error:
                return _entries(exchange)
        return [], exchange.error or f"status-{exchange.status}"

    def _page(self, beginning: str) -> Steps[Exchange]:
        token, error = yield from self._user.token()
        if error:
            return Exchange(error)
        headers = {"Authorization": f"Bearer {token}"}
        target = f"/v1/files?limit={_PAGE_LIMIT}&prefix={quote(beginning)}"
        return (yield Ask("GET", self._http.head("GET", target, headers), take=KEEP))

    def _attempt(self, item: Stored) -> Steps[Answer]:
        token, error = yield from self._user.token()
        if error:
            return Answer(ERROR, "", error)
        headers = {"Authorization": f"Bearer {token}"}
        head = self._http.head("GET", file_path(item.object_id), headers)
        exchange = yield Ask("GET", head, take=HASH)
        if exchange.status == 401:
            self._user.reject(token)
        return judge(exchange, item)

    def _perform(self, ask: Ask) -> Exchange:
        deadline_m = min(self._clock.monotonic_s() + self._timeout_s, self._give_up_m)
        return self._http.perform(ask, deadline_m)


_ABSENT = (ledger.MUST_BE_GONE, ledger.NEVER_STORED)


def _entries(exchange: Exchange) -> tuple[list[tuple[str, str]], str]:
    """(id, sha256) of each entry of a list; sha256 is empty where the service says none."""
    document = outcome.json_object(exchange)
    entries = document.get("files") if document else None
    if not isinstance(entries, list):
        return [], "not-a-list"
    found = []
    for entry in entries:
        name, sha256 = (
            (entry.get("id"), entry.get("sha256", "")) if isinstance(entry, dict) else (entry, "")
        )
        if not isinstance(name, str) or not isinstance(sha256, str):
            return [], "not-a-list"
        found.append((name, sha256))
    return found, ""


def judge(exchange: Exchange, item: Stored) -> Answer:
    """What one response says about an object."""
    region = exchange.served[0]
    if exchange.error:
        return Answer(ERROR, region, exchange.error)
    if exchange.status == 404:
        return Answer(MISSING, region, "status-404")
    if exchange.status != 200:
        return Answer(ERROR, region, f"status-{exchange.status}")
    if exchange.sha256 == item.sha256:
        return Answer(PRESENT, region, "")
    if outcome.is_error_body(exchange):
        return Answer(ERROR, region, "error-body")
    size = exchange.size_bytes
    detail = f"{size} bytes for {item.size_bytes}" if size != item.size_bytes else "checksum"
    return Answer(ALTERED, region, detail)


def _summary(
    objects: int, chosen: Sequence[Stored], answers: Sequence[Answer], duration_s: float
) -> dict[str, Any]:
    pairs = list(zip(chosen, answers, strict=True))
    results = Counter(answer.result for answer in answers)
    expected: dict[str, Counter[str]] = {}
    for item, answer in pairs:
        expected.setdefault(item.expected, Counter())[answer.result] += 1

    def ids(wrong: Callable[[Stored, Answer], bool]) -> list[str]:
        return [item.object_id for item, answer in pairs if wrong(item, answer)]

    return {
        "objects": objects,
        "read": len(answers),
        **{name: results[name] for name in (PRESENT, MISSING, ALTERED, ERROR)},
        "expected": {name: dict(sorted(counts.items())) for name, counts in expected.items()},
        "lost": ids(lambda i, a: i.expected == ledger.MUST_BE_PRESENT and a.result == MISSING),
        "changed": ids(lambda i, a: i.expected != ledger.MUST_BE_GONE and a.result == ALTERED),
        "undeleted": ids(
            lambda i, a: i.expected == ledger.MUST_BE_GONE and a.result in (PRESENT, ALTERED)
        ),
        "duration_s": round(duration_s, 3),
        "objects_per_s": round(len(answers) / duration_s, 1) if duration_s > 0 else 0.0,
    }
