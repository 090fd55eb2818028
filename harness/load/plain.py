"""Traffic of users who bring nothing along: no tokens, no ledger, no warm-up."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlencode

from harness.load.outcome import FAILED, UNSURE, Outcome
from harness.load.steps import Ask, Steps
from harness.load.wire.ask import KEEP
from harness.load.wire.client import Exchange, HttpClient
from harness.load.wire.upload import Body


class PlainTraffic:
    """Calls to one service, and nothing beside them."""

    def __init__(self, http: HttpClient, seed: int, worker: int) -> None:
        self.http = http
        self.random = random.Random(f"behaviour:{seed}:{worker}")

    def warm_up(self) -> list[Callable[[], Steps[Outcome]]]:
        return []

    def housekeeping(self) -> Iterator[Steps[None]]:
        return iter(())

    def close(self) -> None:
        pass

    def about(self) -> dict[str, object]:
        return {}

    def call(self, planned_t: float) -> PlainCall:
        return PlainCall(self)


class Getting:
    """GETs with a query string, for calls that send."""

    __slots__ = ()

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        take: int = KEEP,
    ) -> Steps[Exchange]:
        raise NotImplementedError

    def get(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        take: int = KEEP,
        **query: object,
    ) -> Steps[Exchange]:
        """GET ``path``; ``query`` becomes the query string."""
        if query:
            path = f"{path}?{urlencode({k: str(v) for k, v in query.items()})}"
        return (yield from self.send("GET", path, headers, take=take))


class PlainCall(Getting):
    """One arrival. Its methods are steps: ``answer = yield from call.get(…)``."""

    __slots__ = ("_http", "bytes_sent", "exchange", "method", "random")

    def __init__(self, traffic: PlainTraffic) -> None:
        self._http = traffic.http
        self.random = traffic.random
        #: The last answer.
        self.exchange = Exchange()
        self.method = ""
        self.bytes_sent = 0

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Body = b"",
        *,
        take: int = KEEP,
    ) -> Steps[Exchange]:
        """Any request. Raises ValueError for a path or header that is none."""
        self.method = method
        size_bytes = len(body)
        head = self._http.head(method, path, headers or {}, size_bytes or None)
        exchange = yield Ask(method, head, body, take=take)
        self.bytes_sent += size_bytes
        self.exchange = exchange
        return exchange

    def unfinished(self) -> Outcome:
        """What to call this if it is given up now."""
        return Outcome(FAILED if self.method in ("", "GET", "HEAD") else UNSURE, "unfinished")
