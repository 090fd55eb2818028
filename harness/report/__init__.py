"""Values in, documents out: the same run folder gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.evidence.model import Evidence
from harness.plan.model import Plan


def documents(plan: Plan, evidence: Evidence, verdict: Mapping[str, Any]) -> dict[str, bytes]:
    """``report.html``, ``junit.xml`` and ``summary.md`` of one judged run.

    ``verdict`` is the content of ``verdict.json``. No clock, no randomness, no file.
    """
    from harness.report import junit, markdown, page

    return {
        "report.html": page.render(plan, evidence, verdict),
        "junit.xml": junit.render(verdict),
        "summary.md": markdown.render(plan, verdict),
    }
