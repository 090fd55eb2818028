"""``summary.md``: what a pull request or a chat shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from harness.plan.model import Plan
from harness.report import words

_ICONS = {"pass": "✅", "fail": "❌", "unknown": "❔"}
_REASONS = 10
#: Characters that mean something to Markdown or HTML where text is expected.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~@])")


def render(plan: Plan, verdict: Mapping[str, Any]) -> bytes:
    """The summary as UTF-8 bytes; first what is not a pass, then everything, folded away."""
    outcome = words.outcome_of(verdict.get("outcome"))
    findings = list(verdict.get("findings") or ())
    lines = [
        f"# {_ICONS[outcome]} {words.HEADLINES[outcome]}: {_plain(plan.name)}",
        "",
        _plain(verdict.get("summary") or "no summary"),
        "",
        *_notice(verdict),
        *_why(findings),
        *_failover(verdict.get("timeline") or ()),
        *_findings(findings),
        f"Run {_plain(verdict.get('run'))} of {_plain(plan.file)}, "
        f"{plan.traffic.rate_words}, seed {plan.traffic.seed}; "
        f"exit status {verdict.get('exit_status')}.",
        "",
    ]
    return "\n".join(lines).encode()


def _plain(value: object) -> str:
    """Text that stays text, on one line."""
    one_line = " ".join(str(value).split())
    return _SPECIAL.sub(r"\\\1", "".join(c for c in one_line if c.isprintable()))


def _notice(verdict: Mapping[str, Any]) -> list[str]:
    target = verdict.get("target") or {}
    if not target.get("simulated"):
        return []
    scale = target.get("time_scale")
    scaled = f", AWS intervals divided by {scale:g}" if scale and scale != 1 else ""
    name = _plain(target.get("name", "a stand-in"))
    return [f"> Measured on **{name}**, a simulated target on one machine{scaled}: "
            "its times are not production times.", ""]  # fmt: skip


def _why(findings: Iterable[Mapping[str, Any]]) -> list[str]:
    bad = [f for o in ("fail", "unknown") for f in findings
           if words.outcome_of(f.get("outcome")) == o]  # fmt: skip
    if not bad:
        return []
    lines = ["## Why", ""]
    for f in bad[:_REASONS]:
        mark = _mark(f)
        phase = words.phase(f.get("phase"))
        lines.append(f"- {mark} **{_plain(f.get('objective'))}** ({_plain(phase)}): "
                     f"{_plain(f.get('because'))}")  # fmt: skip
    if bad[_REASONS:]:
        lines.append(f"- and {len(bad) - _REASONS} more, below")
    return [*lines, ""]


def _failover(timeline: Iterable[Mapping[str, Any]]) -> list[str]:
    steps = [s for s in timeline if s.get("part") in ("failover", "failback")]
    if not steps:
        return []
    lines = ["## Failover and failback", "", "| step | after | expected within |", "|---|--:|--:|"]
    for step in steps:
        after = words.seconds(step.get("after_s")) if step.get("t") is not None else "not seen"
        expected = words.seconds(step.get("expected_s"))
        lines.append(f"| {_plain(step.get('what'))} | {after} | {expected} |")
    return [*lines, ""]


def _findings(findings: list[Mapping[str, Any]]) -> list[str]:
    if not findings:
        return []
    lines = [f"<details><summary>All {len(findings)} findings</summary>", "",
             "| | what | phase | measured | required |", "|---|---|---|---|---|"]  # fmt: skip
    for f in findings:
        cells = (f.get("objective"), words.phase(f.get("phase")),
                 words.measured(f.get("measured")), f.get("required"))  # fmt: skip
        lines.append(f"| {_mark(f)} | " + " | ".join(_plain(c) for c in cells) + " |")
    return [*lines, "", "</details>", ""]


def _mark(finding: Mapping[str, Any]) -> str:
    outcome = words.outcome_of(finding.get("outcome"))
    return f"{_ICONS[outcome]} {outcome}"
