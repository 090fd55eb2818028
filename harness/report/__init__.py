"""How a verdict is told: values in, documents out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.evidence.model import Evidence
from harness.plan.model import Plan
from harness.report import junit, markdown, page


def documents(plan: Plan, evidence: Evidence, verdict: Mapping[str, Any]) -> dict[str, bytes]:
    """File name → content of every document of a run; the same bytes for the same run."""
    return {
        "report.html": page.render(plan, evidence, verdict),
        "junit.xml": junit.render(verdict),
        "summary.md": markdown.render(plan.name, verdict),
    }
