"""Waking somebody up: a fault that could not be undone is told to who is on call.

One POST, without redirects, within a deadline; whether it was taken is said, never raised: nothing
about it may get in the way of the undo.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from harness.chaos.undo import UndoReport
from harness.secrets import redact
from harness.target.deadline import Late, call_within
from harness.target.model import Target

DEADLINE_S = 5.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """No other address than the one named is told anything."""


def page(target: Target, run_dir: Path, report: UndoReport) -> str:
    """Tell the target's ``pager`` of what ``report`` leaves in place.

    With a routing key an event of PagerDuty's Events API v2, else a JSON object whose ``text`` is
    what Slack and those like it show. Returns what became of it, for a log; never raises.
    """
    pager = target.pager
    if pager is None:
        return "nobody is paged: the target names no `pager`"
    document = json.loads(redact(json.dumps(_event(target, run_dir, report))))
    if pager.routing_key is not None:
        summary = document["text"].splitlines()[0]
        payload = {"summary": summary, "source": target.name, "severity": "critical",
                   "custom_details": document}  # fmt: skip
        document = {"routing_key": pager.routing_key, "event_action": "trigger",
                    "dedup_key": f"harness {run_dir.resolve()}", "payload": payload}  # fmt: skip
    body = json.dumps(document).encode()
    request = urllib.request.Request(
        pager.url, body, {"Content-Type": "application/json"}, method="POST"
    )
    opener = urllib.request.build_opener(_NoRedirect)

    def post() -> int:
        with opener.open(request, timeout=DEADLINE_S) as answer:
            return int(answer.status)

    try:
        return f"paged: HTTP {call_within(DEADLINE_S, post)}"
    except urllib.error.HTTPError as error:
        return f"NOT PAGED: HTTP {error.code}"
    except Late:
        return f"NOT PAGED: no answer within {DEADLINE_S:g} s"
    except Exception as error:  # noqa: BLE001 - see above
        return f"NOT PAGED: {type(error).__name__}"


def _event(target: Target, run_dir: Path, report: UndoReport) -> dict[str, Any]:
    faults = sorted({failure.record.fault for failure in report.failed})
    lines = [line for failure in report.failed for line in failure.by_hand]
    run = f"{run_dir.resolve()}"
    text = [f"harness could not undo {', '.join(faults)} on {target.name}",
            *(f"{f.record.fault}: {f.error}" for f in report.failed),
            f"harness recover {run}", *lines]  # fmt: skip
    return {"text": "\n".join(text), "target": target.name, "run": run, "faults": faults,
            "by_hand": lines}  # fmt: skip
