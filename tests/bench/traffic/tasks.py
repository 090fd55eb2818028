"""Plain Locust tasks that wait for their answers, on the base class ``BENCH_BASE`` names.

The same tasks and the same checks for all: what differs is the client.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from locust import FastHttpUser, HttpUser, constant_throughput

from harness.load.session import HarnessUser
from tests.bench.traffic import told
from tests.bench.workloads import WORKLOADS, Request

BASES = {"harness": HarnessUser, "fast": FastHttpUser, "http": HttpUser}
REQUESTS = WORKLOADS[os.environ["BENCH_WORKLOAD"]]
LENGTHS = {request.name: request.answer_bytes for request in REQUESTS}
PER_USER = float(os.environ.get("BENCH_PER_USER") or 0)


def task_of(request: Request) -> Callable[[Any], None]:
    """A task that sends ``request``."""
    name, path, body = request.name, request.path, b"z" * request.body_bytes

    def read(user: Any) -> None:
        user.client.get(path, name=name)

    def store(user: Any) -> None:
        user.client.put(path, data=body, name=name)

    return store if body else read


def is_right(name: str, length: int, response: Any) -> bool:
    """Whether an answer has the status and the length it must have."""
    return response.status_code == 200 and length == LENGTHS[name]


Visitor = type(
    "Visitor",
    (BASES[os.environ["BENCH_BASE"]],),
    {
        "tasks": {task_of(request): share for request, share in REQUESTS.items()},
        **({"wait_time": constant_throughput(PER_USER)} if PER_USER else {}),
    },
)

# Imported beside what is used of them, Locust would take them for users of this file.
del FastHttpUser, HttpUser, HarnessUser

told.at_the_end()
told.listen(is_right)
