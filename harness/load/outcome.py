"""Whether an operation happened: ok, degraded, failed (surely not), or unsure (it may have).

A timed-out upload may well be stored. Calling it failed would make the service look
worse than it is when it is found later, and calling it lost would accuse it of losing
what it never acknowledged; so it is ``unsure``, and read-back asks.

A service that cannot give what was asked for may give something less instead: an older copy, a
placeholder. Where it says so, in the header ``X-Degraded``, that is ``degraded``: no error, and no
success either.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from harness.load.wire.client import Exchange

OK = "ok"
DEGRADED = "degraded"
FAILED = "failed"
UNSURE = "unsure"
NOT_SENT = "not_sent"

#: Statuses by which an intermediary or the service says that it does not know.
_UNKNOWN_STATUSES = frozenset({408, 500, 502, 504})
_DOUBT_WORDS = ("timeout", "timed out", "reset", "disconnect")


class Outcome(NamedTuple):
    """``outcome`` is one of ok, degraded, failed, unsure, not_sent; ``error`` a stable short name
    of what was wrong; of a degraded answer, what it is instead."""

    outcome: str
    error: str = ""


def of_read(exchange: Exchange, expected: tuple[int, ...]) -> Outcome:
    """Outcome of an operation that changes nothing; the body is checked by the caller."""
    if exchange.error:
        return Outcome(FAILED, exchange.error)
    if exchange.status not in expected:
        return Outcome(FAILED, f"status-{exchange.status}")
    return Outcome(OK)


def of_write(exchange: Exchange, expected: tuple[int, ...]) -> Outcome:
    """Outcome of an upload or delete.

    A refusal by the service itself (4xx, or 503 with a JSON error) surely did not
    happen; anything an intermediary says about a request it passed on is unsure, and so
    is a success whose body is an error.
    """
    if exchange.error:
        return Outcome(UNSURE if exchange.sent else FAILED, exchange.error)
    if exchange.status in expected:
        return Outcome(UNSURE, "error-body") if is_error_body(exchange) else Outcome(OK)
    name = f"status-{exchange.status}"
    return Outcome(FAILED if _is_refusal(exchange) else UNSURE, name)


def is_error_body(exchange: Exchange) -> bool:
    """Whether the body is a JSON object that reports an error, whatever the status says."""
    document = json_object(exchange)
    return document is not None and bool(document.get("error") or document.get("errors"))


def json_object(exchange: Exchange) -> dict[str, object] | None:
    """The body as a JSON object, or None when it is not one."""
    if exchange.body[:1] != b"{":
        return None
    try:
        document = json.loads(exchange.body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _is_refusal(exchange: Exchange) -> bool:
    if exchange.status in _UNKNOWN_STATUSES:
        return False
    if 400 <= exchange.status < 500:
        return True
    if exchange.status != 503 or not is_error_body(exchange):
        return False
    text = exchange.body.decode("utf-8", "replace").lower()
    return not any(word in text for word in _DOUBT_WORDS)
