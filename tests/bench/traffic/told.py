"""What a Locust process counted, written to ``BENCH_TOLD`` when it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from locust import events
from locust.runners import WorkerRunner

_counted = {"events": 0, "wrong": 0}


def listen(is_right: Callable[[str, int, Any], bool]) -> None:
    """Look at every request that Locust tells of: outcome, then status and length."""

    def check(
        name: str, response_length: int, exception: object, response: Any, **_: object
    ) -> None:
        _counted["events"] += 1
        if exception is not None or not is_right(name, response_length, response):
            _counted["wrong"] += 1

    events.request.add_listener(check)


def at_the_end() -> None:
    """Have the sums written when all is over: at ``quitting`` users may still be sending."""

    def keep(environment: Any, runner: object, **_: object) -> None:
        # What workers counted is in their master's statistics.
        if not isinstance(runner, WorkerRunner):
            events.quit.add_listener(lambda **_: _write(environment.stats.total))

    events.init.add_listener(keep)


def _write(total: Any) -> None:
    told = {
        **_counted,
        "requests": total.num_requests,
        "failures": total.num_failures,
        "max_ms": total.max_response_time,
        **{f"p{p}_ms": total.get_response_time_percentile(p / 100) for p in (50, 95, 99)},
    }
    Path(os.environ["BENCH_TOLD"]).write_text(json.dumps(told))
