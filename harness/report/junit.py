"""``junit.xml``: one case per finding, so that any CI shows the verdict.

A failed objective is a failure, an unknown one an error: neither is ever green.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from harness.report import words


def render(verdict: Mapping[str, Any]) -> bytes:
    """The document as UTF-8 bytes; a suite per phase."""
    by_phase: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for finding in verdict["findings"]:
        by_phase[finding["phase"] or "run"].append(finding)
    document = JUnitXml("harness")
    for phase, findings in by_phase.items():
        suite = TestSuite(phase)
        suite.add_property("run", str(verdict["run"]))
        suite.add_property("outcome", str(verdict["outcome"]))
        for finding in findings:
            suite.add_testcase(_case(phase, finding))
        document.add_testsuite(suite)
    content: bytes = document.tostring()
    return content


def _case(phase: str, finding: Mapping[str, Any]) -> TestCase:
    case = TestCase(finding["objective"], classname=f"harness.{phase}", time=0)
    text = (
        f"measured {words.measured(finding['measured'])}; required {finding['required']}. "
        f"{finding['because']}"
    )
    if finding["outcome"] == "fail":
        case.result = [Failure(text, "objective failed")]
    elif finding["outcome"] != "pass":
        case.result = [Error(text, "unknown")]
    return case
