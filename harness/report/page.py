"""``report.html``: verdict first, then why, then what happened, then how to do it again.

One file without anything from outside: no script, no font, no picture to fetch. It reads
the same offline in a year.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from harness.evidence.model import Evidence
from harness.plan.model import Plan
from harness.report import alerts, degradation, scaling, sections, story, words
from harness.report.figures import span
from harness.report.markup import Safe, tag, text
from harness.report.moments import moments
from harness.report.sections import Page

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render(plan: Plan, evidence: Evidence, verdict: Mapping[str, Any]) -> bytes:
    """The document as UTF-8 bytes."""
    start, end = span(evidence)
    page = Page(plan, evidence, verdict, moments(plan, evidence, verdict), start, end)
    body = text(
        sections.head(page),
        sections.notice(page),
        sections.why(page),
        story.timeline(page),
        story.failover(page),
        story.faults(page),
        sections.findings(page),
        sections.figures(page),
        sections.durability(page),
        alerts.section(page),
        scaling.section(page),
        degradation.section(page),
        sections.gaps(page),
        story.target(page),
        story.again(page),
        _footer(page),
    )
    title = f"{words.HEADLINES[page.outcome]}: {plan.name}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Safe(style())),
    )
    document = tag("html", head, tag("body", tag("main", body)), lang="en")
    return f"<!doctype html>\n{document}\n".encode()


def style() -> str:
    """The style sheet."""
    return resources.files("harness.report").joinpath("report.css").read_text(encoding="utf-8")


def _footer(page: Page) -> Safe:
    versions = page.plan.recorded.get("versions")
    version = versions.get("harness", "") if isinstance(versions, Mapping) else ""
    return tag(
        "footer",
        f"harness {version}".strip(),
        f" · run {page.verdict.get('run') or page.evidence.run}",
        " · the same run folder gives the same report, byte for byte",
        class_="hint",
    )
