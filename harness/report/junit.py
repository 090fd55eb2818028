"""``junit.xml``: one case per finding, so that any CI shows the verdict.

A failed objective is a failure, an unknown one an error: neither is ever green. A run that
is not a pass though no finding says so (stopped, a fault left in place) is an error too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from harness.report import words

#: What XML 1.0 cannot hold, escaped or not.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(verdict: Mapping[str, Any]) -> bytes:
    """The document as UTF-8 bytes; a suite per phase, the whole run first."""
    document = JUnitXml("harness")
    run, outcome = str(verdict.get("run") or ""), words.outcome_of(verdict.get("outcome"))
    findings = list(verdict.get("findings") or ())
    order = [str(p.get("phase")) for p in verdict.get("phases") or ()]
    grouped = words.by_phase(findings, order)
    if outcome != "pass" and words.worst(findings) in ("pass", "unknown") and not _errors(findings):
        grouped = {"all": [_whole(verdict, outcome), *grouped.pop("all", [])], **grouped}
    for phase, found in grouped.items():
        document.add_testsuite(_suite(phase, found, run, outcome))
    document.update_statistics()
    content: bytes = document.tostring()
    return content


def _errors(findings: Iterable[Mapping[str, Any]]) -> bool:
    return any(words.outcome_of(f.get("outcome")) != "pass" for f in findings)


def _whole(verdict: Mapping[str, Any], outcome: str) -> Mapping[str, Any]:
    """A case of its own for a verdict that no finding explains."""
    because = str(verdict.get("summary") or "")
    return {"objective": "verdict", "phase": "all", "outcome": outcome, "measured": None,
            "required": "pass", "because": because}  # fmt: skip


def _suite(phase: str, findings: Iterable[Mapping[str, Any]], run: str, outcome: str) -> TestSuite:
    suite = TestSuite(_xml(phase))
    suite.add_property("run", _xml(run))
    suite.add_property("outcome", outcome)
    for finding in findings:
        suite.add_testcase(_case(phase, finding))
    return suite


def _case(phase: str, finding: Mapping[str, Any]) -> TestCase:
    case = TestCase(_xml(finding.get("objective")), classname=f"harness.{_xml(phase)}", time=0)
    measured, required = words.measured(finding.get("measured")), finding.get("required")
    said = f"{finding.get('because')}. Measured {measured}; required {required}."
    outcome = words.outcome_of(finding.get("outcome"))
    if outcome == "fail":
        case.result = [Failure(_xml(said), "objective failed")]
    elif outcome == "unknown":
        case.result = [Error(_xml(said), "unknown")]
    else:
        case.system_out = _xml(said)
    return case


def _xml(value: object) -> str:
    return _NOT_XML.sub("�", "" if value is None else str(value))
