"""The users of the file service, one thing after another, without Locust.

As a program: uploads files of the sizes given to a service, in parts that are often cut off,
and prints what became of them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from harness.clock import SystemClock
from harness.load import checks, content
from harness.load.ledger import Ledger
from harness.load.outcome import OK, Outcome
from harness.load.resolver import Resolver
from harness.load.settings import Settings
from harness.load.steps import Ask, Steps, drive
from harness.load.wire.client import Exchange, HttpClient
from harness.load.wire.poller import Poller
from harness.load.workload import Workload
from harness.plan.behaviour import Behaviour


class Users:
    """A workload, and a way to do one thing after another with it."""

    timeout_s = 5.0

    def __init__(
        self, url: str, planned: Mapping[str, float] | None = None, **behaviour: float
    ) -> None:
        """``planned``: what the plan says; the rest is what the locustfile does."""
        clock = SystemClock()
        self.http = HttpClient(url, Resolver(clock, None), poller=Poller())
        self.workload = Workload(
            Settings(seed=7, behaviour=planned or {}),
            self.http,
            clock,
            Ledger(self),
            "t",
            Behaviour(**behaviour),
        )
        self.planned_t = 1000.0
        #: lines of the ledger
        self.lines: list[dict[str, Any]] = []

    def write(self, kind: str, /, **data: Any) -> None:
        self.lines.append({"kind": kind, **data})

    def close(self) -> None:
        self.http.close()

    def call(self):
        self.planned_t += 0.1
        return self.workload.call(self.planned_t)

    def do(self, steps: Steps):
        return drive(steps, self._perform)

    def _perform(self, ask: Ask) -> Exchange:
        deadline_m = time.monotonic() + (self.timeout_s if ask.within_s is None else ask.within_s)
        return self.http.perform(ask, deadline_m)

    def store(self, n: int) -> None:
        for steps in self.workload.warm_up()[:n]:
            assert self.do(steps()).outcome == OK

    def download(self) -> Outcome:
        call = self.call()
        stored, _ = call.file()
        exchange = self.do(call.get_file(stored))
        return checks.whole_file(exchange, sha256=stored.sha256, size_bytes=stored.size_bytes)

    def upload(self, size_bytes: int) -> tuple[str, bytes, Outcome]:
        """Upload a file of this size: its id, its bytes, what became of it."""
        object_id = self.workload.new_object_id("f")
        body = content.file_bytes(7, object_id, size_bytes)
        kind = content.FILE_TYPE
        steps = self.call().upload(object_id, body, op="upload", content_type=kind)
        return object_id, body, self.do(steps)


if __name__ == "__main__":
    users = Users(sys.argv[1], resumed=1.0, interrupted=0.4)
    results = [users.upload(int(size))[2] for size in sys.argv[2:]]
    print(json.dumps({"results": results, "about": users.workload.about(), "ledger": users.lines}))
    users.close()
