"""What a Chaos Toolkit journal says happened, as one word and a reason.

The exit status of ``chaos run`` is not asked: it is 0 when the steady state was not met
beforehand, when an action failed, and when a rollback failed. The vocabulary is that of
Chaos Toolkit's own later versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["passed", "deviated", "baseline-not-met", "failed", "aborted", "interrupted"]


@dataclass(frozen=True)
class Reading:
    """A journal, read. ``status`` and ``deviated`` are as the journal has them."""

    outcome: Outcome
    because: str
    status: str | None = None
    deviated: bool = False


def read_journal(path: Path) -> Reading:
    """Read the journal at ``path``; one that is missing or cut short means aborted."""
    try:
        journal = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Reading("aborted", "no journal was written")
    except (OSError, ValueError) as error:
        return Reading("aborted", f"the journal cannot be read: {error}")
    if not isinstance(journal, dict) or "status" not in journal:
        return Reading("aborted", "the journal has no status")
    outcome, because = _judge(journal)
    return Reading(outcome, because, str(journal["status"]), bool(journal.get("deviated")))


def _judge(journal: Mapping[str, Any]) -> tuple[Outcome, str]:
    status = journal["status"]
    if status == "interrupted":
        return "interrupted", "stopped before its end"
    if status == "aborted":
        return "aborted", "ended early"
    states = journal.get("steady_states") or {}
    before = states.get("before")
    if before and not before.get("steady_state_met"):
        return "baseline-not-met", _first_bad_probe(before)
    for part in ("run", "rollbacks"):
        for run in journal.get(part) or ():
            if run.get("status") != "succeeded":
                return "failed", _tell(run)
    experiment = journal.get("experiment") or {}
    for part, key in (("run", "method"), ("rollbacks", "rollbacks")):
        planned, done = len(experiment.get(key) or ()), len(journal.get(part) or ())
        if done < planned:
            return "failed", f"only {done} of {planned} activities of the {key} were run"
    if journal.get("deviated"):
        return "deviated", _first_bad_probe(states.get("after") or {})
    # A continuous hypothesis that was lost and met again at the end does not count as deviated.
    for state in states.get("during") or ():
        if state and not state.get("steady_state_met"):
            return "deviated", f"lost in between: {_first_bad_probe(state)}"
    if status != "completed":
        return "failed", f"status is {status}"
    return "passed", "the hypothesis held before and after"


def _first_bad_probe(state: Mapping[str, Any]) -> str:
    for run in state.get("probes") or ():
        if run.get("status") != "succeeded" or run.get("tolerance_met") is False:
            return _tell(run)
    return "the system did not come back by itself"


def _tell(run: Mapping[str, Any]) -> str:
    name = (run.get("activity") or {}).get("name", "an activity")
    exception = run.get("exception") or ()
    # The last line of the traceback is the message.
    detail = str(exception[-1]).strip() if exception else f"returned {run.get('output')!r}"
    return f"{name}: {detail}"
