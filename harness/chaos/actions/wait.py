"""Waiting until the system is back where it should be, for experiments run on their own."""

from __future__ import annotations

import logging
from typing import Any

from harness.chaos import probes
from harness.chaos import session as sessions
from harness.errors import HarnessError

logger = logging.getLogger("chaostoolkit")

POLL_PERIOD_S = 0.5
#: Answers in a row that make a recovery: one alone may be luck.
IN_A_ROW = 3


class NotRecovered(HarnessError):
    """The service did not come back in time."""


def recovered(region: str, timeout_s: float = 180.0) -> dict[str, Any]:
    """Wait until DNS answers with ``region`` and the service answers from there.

    Returns ``{"waited_s": seconds}``, or ``{"skipped": why}`` inside a game day, where the
    conductor watches the recovery itself. Raises NotRecovered after ``timeout_s``.
    """
    if sessions.in_gameday():
        logger.info("Not waiting here: the game day watches the recovery")
        return {"skipped": "the game day watches the recovery"}
    clock = sessions.current().clock
    start = clock.monotonic_s()
    in_a_row = 0
    while in_a_row < IN_A_ROW:
        in_a_row = in_a_row + 1 if probes.served_by(region) else 0
        if clock.monotonic_s() - start > timeout_s:
            raise NotRecovered(
                f"the service is not served by {region} after {timeout_s:g} s",
                hint="look at the health checks and the DNS records",
            )
        clock.sleep(POLL_PERIOD_S)
    return {"waited_s": round(clock.monotonic_s() - start, 3)}
