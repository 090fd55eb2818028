"""``summary.md``: what a pull request or a chat shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report import words

_ICONS = {"pass": "🟢", "fail": "🔴", "unknown": "🟡"}


def render(plan_name: str, verdict: Mapping[str, Any]) -> bytes:
    """The summary as UTF-8 bytes; first what is not a pass, then everything."""
    lines = [
        f"# {_ICONS[verdict['outcome']]} {words.HEADLINES[verdict['outcome']]} — {plan_name}",
        "",
        verdict["summary"],
        "",
    ]
    if verdict["target"].get("simulated"):
        lines += [
            f"> Measured on the {verdict['target']['name']}, a stand-in on one machine; "
            "its times are not production times.",
            "",
        ]
    bad = [f for f in verdict["findings"] if f["outcome"] != "pass"]
    if bad:
        lines += ["## Why", ""]
        lines += [f"- **{f['objective']}** ({f['phase']}): {f['because']}" for f in bad] + [""]
    lines += [
        "## Findings",
        "",
        "| | objective | phase | measured | required |",
        "|---|---|---|---|---|",
    ]
    for f in verdict["findings"]:
        cells = (
            words.MARKS[f["outcome"]],
            f["objective"],
            f["phase"],
            words.measured(f["measured"]),
            f["required"],
        )
        lines.append("| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |")
    lines += ["", f"Run `{verdict['run']}`, exit status {verdict['exit_status']}.", ""]
    return "\n".join(lines).encode()
