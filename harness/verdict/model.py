"""What a judged run is: findings, their outcome, and the one outcome of all.

Three values: pass, fail, unknown. The worst wins: a failure is a failure whatever else is
unknown, and nothing unknown is ever a pass.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from harness.errors import ExitStatus


class Outcome(StrEnum):
    """Of a finding, and of a whole run."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"


_ORDER = (Outcome.PASS, Outcome.UNKNOWN, Outcome.FAIL)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Fail over unknown over pass; unknown when there is nothing to go by."""
    return max(outcomes, key=_ORDER.index, default=Outcome.UNKNOWN)


def judge_interval(at_least: float, low: float, high: float) -> Outcome:
    """Whether a figure somewhere in ``[low, high]`` is at least ``at_least``."""
    if low >= at_least:
        return Outcome.PASS
    return Outcome.FAIL if high < at_least else Outcome.UNKNOWN


def judge_at_most(bound: float, low: float, high: float) -> Outcome:
    """Whether a figure somewhere in ``[low, high]`` is at most ``bound``."""
    if high <= bound:
        return Outcome.PASS
    return Outcome.FAIL if low > bound else Outcome.UNKNOWN


@dataclass(frozen=True)
class Measured:
    """A figure and the interval it surely lies in; None where it is unbounded or not known."""

    value: float | None
    low: float | None
    high: float | None
    unit: str


@dataclass(frozen=True)
class Finding:
    """One thing that was judged. ``evidence`` says where to look; ``because`` why it is so."""

    objective: str
    phase: str
    outcome: Outcome
    measured: Measured | None
    required: str
    because: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A step of a failover or failback: at ``t`` or up to ``uncertainty_s`` before.

    ``after_s`` counts from the landing (failover) or the restoration (failback). ``t`` is
    None when it did not happen, or nobody could see it; ``because`` says which.
    """

    fault: str
    part: str
    step: str
    what: str
    t: float | None
    uncertainty_s: float = 0.0
    after_s: float | None = None
    expected_s: float | None = None
    because: str = ""


@dataclass(frozen=True)
class Verdict:
    """A judged run. ``phases`` are figures per phase, ``gaps`` what evidence is missing."""

    outcome: Outcome
    exit_status: ExitStatus
    summary: str
    run: str
    target: Mapping[str, Any]
    findings: tuple[Finding, ...]
    timeline: tuple[Mapping[str, Any], ...]
    phases: tuple[Mapping[str, Any], ...]
    gaps: tuple[Mapping[str, Any], ...]
    plan: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of ``verdict.json``."""
        document: dict[str, Any] = {
            "outcome": str(self.outcome),
            "exit_status": int(self.exit_status),
            "summary": self.summary,
            "run": self.run,
            "plan": self.plan,
            "target": self.target,
            "findings": [finding_json(finding) for finding in self.findings],
            "timeline": self.timeline,
            "phases": self.phases,
            "gaps": self.gaps,
        }
        rounded: dict[str, Any] = _rounded(document)
        return rounded

    def to_bytes(self) -> bytes:
        """``verdict.json`` as bytes; the same for the same evidence."""
        text = json.dumps(self.to_json(), indent=2, sort_keys=True, allow_nan=False)
        return text.encode() + b"\n"


def finding_json(finding: Finding) -> dict[str, Any]:
    """One entry of ``findings`` in ``verdict.json``."""
    measured = finding.measured
    return {
        "objective": finding.objective,
        "phase": finding.phase,
        "outcome": str(finding.outcome),
        "measured": None
        if measured is None
        else {
            "value": measured.value,
            "low": measured.low,
            "high": measured.high,
            "unit": measured.unit,
        },
        "required": finding.required,
        "because": finding.because,
        "evidence": list(finding.evidence),
    }


def _rounded(value: Any) -> Any:
    """Floats to the microsecond, and no infinities: JSON has none."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
