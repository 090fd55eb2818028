"""After the run: is every acknowledged object there, unaltered, and every deleted one gone?

Asked through the service, as a client would. An object that cannot be asked about (errors,
timeouts) is ``error``, never ``present``; an object is ``missing`` only when the service
said so (404) in every attempt, since a single 404 may come from a side that is catching up.
Runs in the conductor's process, in a thread with an event loop of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import gevent
from gevent.pool import Pool

from harness.clock import Clock, SystemClock
from harness.evidence.journal import Journal
from harness.load import ledger, outcome
from harness.load.ledger import Stored
from harness.load.resolver import Resolver
from harness.load.settings import Settings
from harness.load.steps import Ask, Steps, drive
from harness.load.wire.ask import HASH
from harness.load.wire.client import Exchange, HttpClient
from harness.load.wire.poller import Poller
from harness.load.workload import VirtualUser, file_path

PRESENT = "present"
MISSING = "missing"
ALTERED = "altered"
ERROR = "error"

ATTEMPTS = 4
RETRY_AFTER_S = 0.5
#: Deleted objects that are asked for; more would say little more.
DELETED_SAMPLE = 200


class Answer(NamedTuple):
    """What one object's read-back gave. ``detail`` says why, where it is not ``present``."""

    result: str
    region: str
    detail: str


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
    stored = stored_objects(run_dir)
    chosen = _choose(stored, limit)
    started_m = clock.monotonic_s()
    give_up_m = started_m + deadline_s
    journal = Journal(run_dir / "ledger" / "readback.jsonl", "readback", clock)

    def ask_all() -> list[Answer]:
        poller = Poller(clock.monotonic_s)
        http = HttpClient(service_url, Resolver(clock, dns_server), poller=poller)
        reader = _Reader(http, VirtualUser(http, clock, *login), clock, timeout_s, give_up_m)

        def ask(item: Stored) -> Answer:
            answer = reader.ask(item)
            journal.write(
                "readback",
                object=item.object_id,
                result=answer.result,
                region=answer.region,
                detail=answer.detail,
                expected=item.expected,
            )
            return answer

        try:
            return list(Pool(concurrency).map(ask, chosen))
        finally:
            journal.close()
            http.close()
            poller.stop()
            gevent.get_hub().destroy()

    with ThreadPoolExecutor(1, thread_name_prefix="readback") as thread:
        answers = thread.submit(ask_all).result()
    return _summary(len(stored), chosen, answers, clock.monotonic_s() - started_m)


def stored_objects(run_dir: Path) -> list[Stored]:
    """Every object of the run that read-back should ask for; deleted ones are sampled."""
    found: list[Stored] = []
    for path in ledger.ledger_files(run_dir):
        found += ledger.fold(ledger.read_lines(path))
    gone = [item for item in found if item.expected == ledger.MUST_BE_GONE]
    kept = [item for item in found if item.expected != ledger.MUST_BE_GONE]
    return kept + _choose(gone, DELETED_SAMPLE)


def _choose(items: Sequence[Stored], limit: int | None) -> list[Stored]:
    """At most ``limit`` of them, evenly spread over the run."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


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
        for attempt in range(ATTEMPTS):
            if attempt:
                left_s = self._give_up_m - self._clock.monotonic_s()
                gevent.sleep(max(0.0, min(RETRY_AFTER_S, left_s)))
            if self._clock.monotonic_s() >= self._give_up_m:
                break
            latest = drive(self._attempt(item), self._perform)
            if latest.result == PRESENT:
                return latest
            if item.expected == ledger.MUST_BE_GONE and latest.result == MISSING:
                return latest
            # Anything in doubt outweighs "missing": only an unbroken series of 404 is a loss.
            if attempt == 0 or latest.result != MISSING or answer.result == MISSING:
                answer = latest
        return answer

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
