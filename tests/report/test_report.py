"""The documents: everything the judge said is told, in words that cannot mislead or break out."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest

from harness.evidence import histogram
from harness.evidence.model import (
    Evidence,
    Listing,
    Readback,
    ReadbackPass,
    TallyCell,
    TallySecond,
)
from harness.plan.model import Plan
from harness.report import documents, junit, markdown, page, terminal
from harness.verdict import judge
from tests.verdict.build import LAST, T0, Day, plan

NOTHING = Evidence("r", (), (), (), (), (), (), (), {}, ())
HOSTILE = "</td><script>alert(1)</script>\"'&<img src=x onerror=alert(1)>\x1b[2J|`*"
LAB = {
    "name": "lab",
    "simulated": True,
    "time_scale": 10,
    "simulates": ["DNS with failover records"],
    "not_simulated": ["CloudFront"],
}


def lab_plan() -> Plan:
    expected = {"health_check_red_s": {"value_s": 3.0, "low_s": 2.0, "because": "10 s × 3"}}
    return plan().with_recorded(target_description=LAB, expected=expected, versions={"x": "1.2"})


@cache
def told(case: str) -> tuple[Plan, Evidence, dict[str, Any], dict[str, bytes]]:
    """A judged day and its documents."""
    evidence = {
        "pass": lambda: Day().evidence(),
        "fail": lambda: Day(dns_fails_over=False).read_back("obj-020", "missing").evidence(),
        "unknown": lambda: Day(landed=False).evidence(),
        "stopped": lambda: Day(stopped="SIGINT").without(lambda e: e.t > T0 + 60).evidence(),
        "nothing": lambda: NOTHING,
    }[case]()
    verdict = judge(lab_plan(), evidence).to_json()
    return lab_plan(), evidence, verdict, documents(lab_plan(), evidence, verdict)


CASES = ("pass", "fail", "unknown", "stopped", "nothing")


class Text(HTMLParser):
    """The visible text of a page, its elements, and whether they are closed in order."""

    VOID = frozenset({"meta", "br", "hr"})

    def __init__(self, content: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(content.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def html(case: str) -> Text:
    return Text(told(case)[3]["report.html"])


def flat(value: object) -> str:
    return " ".join(str(value).split())


@pytest.mark.parametrize("case", CASES)
def test_the_same_run_gives_the_same_bytes(case: str) -> None:
    plan_, evidence, verdict, found = told(case)
    assert documents(plan_, evidence, verdict) == found
    assert set(found) == {"report.html", "junit.xml", "summary.md"}


@pytest.mark.parametrize("case", CASES)
def test_every_finding_is_told_with_its_reason_and_what_was_required(case: str) -> None:
    _, _, verdict, found = told(case)
    text = html(case).text
    assert verdict["findings"]
    for finding in verdict["findings"]:
        for key in ("objective", "because", "required"):
            assert flat(finding[key]) in text, finding
        for place in finding["evidence"]:
            assert place in text
    shown = re.findall(r"<tr><td><span class=\"mark-word", found["report.html"].decode())
    assert len(shown) == len(verdict["findings"])


@pytest.mark.parametrize("case", CASES)
def test_every_step_of_the_timeline_is_told_and_numbered_if_it_happened(case: str) -> None:
    _, _, verdict, found = told(case)
    text = html(case).text
    for step in verdict["timeline"]:
        assert flat(step["what"]) in text
        assert flat(step["because"]) in text
    happened = [s for s in verdict["timeline"] if s["t"] is not None]
    drawn = found["report.html"].decode().count('<g class="mark ')
    assert drawn >= len(happened)
    if case in ("pass", "fail"):
        assert drawn == len(happened) > 10


def test_measured_and_expected_times_stand_side_by_side() -> None:
    text = html("pass").text
    step = next(s for s in told("pass")[2]["timeline"] if s["step"] == "health_check_red")
    assert step["expected_s"] == 3.0
    assert f"{step['after_s']:.1f} s after landing 3.0 s" in text
    assert "as expected" in text
    assert "10 s × 3" in text


def test_a_step_that_did_not_happen_has_no_number_and_says_so() -> None:
    missing = [s for s in told("fail")[2]["timeline"] if s["t"] is None]
    assert missing
    rows = told("fail")[3]["report.html"].decode().count('<tr class="missing"><td>–</td>')
    assert rows == 2 * len(missing)  # in the list below the drawing, and in the failover


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_comes_first_and_is_not_shown_by_colour_alone(case: str) -> None:
    verdict = told(case)[2]
    word = {"pass": "✓ PASS", "fail": "✗ FAIL", "unknown": "? UNKNOWN"}[verdict["outcome"]]
    text = html(case).text
    assert word in text[:80]
    assert flat(verdict["summary"]) in text[:1500]
    others = {"✓ PASS", "✗ FAIL", "? UNKNOWN"} - {word}
    assert not any(other in text for other in others)


@pytest.mark.parametrize("outcome", ["fail", "unknown", "skipped", "", None, "PASS"])
def test_what_is_not_a_pass_never_gets_the_mark_of_one(outcome: str | None) -> None:
    plan_, evidence, verdict, _ = told("pass")
    findings = [{**finding, "outcome": outcome} for finding in verdict["findings"]]
    changed = {**verdict, "outcome": outcome, "findings": findings}
    found = documents(plan_, evidence, changed)
    assert b"\xe2\x9c\x93" not in found["report.html"]
    assert b'class="verdict pass"' not in found["report.html"]
    assert "✅" not in found["summary.md"].decode()
    assert "✓" not in terminal.render(plan_, changed)
    assert "PASS" not in terminal.render(plan_, changed)
    root = ElementTree.fromstring(found["junit.xml"])
    assert len(root.findall(".//failure")) + len(root.findall(".//error")) == len(findings)


def hostile(value: Any) -> Any:
    """Every text in a value replaced; what the report must recognise stays."""
    kept = {"outcome", "unit", "kind", "part"}
    if isinstance(value, Mapping):
        return {k: v if k in kept else hostile(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [hostile(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


def test_text_from_evidence_never_becomes_markup() -> None:
    plan_, evidence, verdict, _ = told("fail")
    faults = tuple(
        dataclasses.replace(f, action=HOSTILE, fault=HOSTILE, targets=(HOSTILE,))
        for f in evidence.faults
    )
    phases = tuple(dataclasses.replace(p, name=HOSTILE, fault=HOSTILE) for p in evidence.phases)
    cell = TallyCell("get", HOSTILE, HOSTILE, "ok", HOSTILE, 5, 0, {1000: 5}, {}, {})
    tally = dataclasses.replace(evidence.tallies[0], seconds=(TallySecond(T0 + 5, 5, (cell,)),))
    bad = dataclasses.replace(evidence, faults=faults, phases=phases, tallies=(tally,))
    bad_plan = dataclasses.replace(plan_, name=HOSTILE, text=HOSTILE, file=HOSTILE)
    bad_verdict = hostile({**verdict, "gaps": [{"source": "", "what": "", "detail": ""}]})
    content = documents(bad_plan, bad, bad_verdict)
    parsed = Text(content["report.html"])
    assert parsed.open == []
    names = {name for name, _ in parsed.tags}
    assert not names & {"script", "img", "iframe", "object", "link"}
    assert not any(key.startswith("on") for _, attrs in parsed.tags for key in attrs)
    assert b"\x1b" not in content["report.html"] + content["junit.xml"] + content["summary.md"]
    assert "\x1b[2J" not in terminal.render(bad_plan, bad_verdict)
    ElementTree.fromstring(content["junit.xml"])
    markup = re.sub(r"\\.", "", content["summary.md"].decode())
    assert "<script" not in markup
    assert "<img" not in markup


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_well_formed_and_asks_for_nothing_from_outside(case: str) -> None:
    content = told(case)[3]["report.html"].decode()
    parsed = html(case)
    assert parsed.open == []
    assert parsed.tags[0][0] == "html"
    for name, attrs in parsed.tags:
        assert name not in ("script", "link", "img", "iframe")
        assert not {"src", "href"} & set(attrs)
    assert "url(" not in content
    assert "@import" not in content


def test_tables_have_headers_and_the_drawing_a_description() -> None:
    parsed = html("pass")
    names = [name for name, _ in parsed.tags]
    assert all(attrs.get("scope") for name, attrs in parsed.tags if name == "th")
    assert names.count("table") >= 8
    assert "desc" in names
    drawing = next(attrs for name, attrs in parsed.tags if name == "svg")
    assert drawing["role"] == "img"
    assert "viewbox" in drawing


def test_lab_times_are_never_shown_as_production_times() -> None:
    plan_, evidence, verdict, found = told("pass")
    said = "not production times"
    assert said in html("pass").text[:700]
    assert "divided by 10" in html("pass").text[:700]
    assert said in found["summary.md"].decode()
    assert said in terminal.render(plan_, verdict)
    real = {**verdict, "target": {"name": "eu-prod"}}
    assert said not in page.render(plan_, evidence, real).decode()


def test_an_hour_of_traffic_makes_a_small_page() -> None:
    """Six zones and operations a second, with latencies spread over hundreds of buckets."""
    plan_, evidence, verdict, _ = told("pass")
    spread = {1200 + 3 * n: 1 + n % 3 for n in range(60)}
    cells = tuple(
        TallyCell(
            "get", f"region-{z % 3}", f"z{z}", "ok" if z else "failed", "", 9, 0, spread, {}, {}
        )
        for z in range(6)
    )
    seconds = tuple(TallySecond(T0 + s, 200, cells) for s in range(3600))
    tally = dataclasses.replace(evidence.tallies[0], seconds=seconds)
    phases = tuple(
        dataclasses.replace(
            p,
            start_t=T0 + (p.start_t - T0) * 3600 / LAST,
            end_t=T0 + ((p.end_t or 0) - T0) * 3600 / LAST,
        )
        for p in evidence.phases
    )
    hour = dataclasses.replace(evidence, tallies=(tally,), phases=phases)
    content = page.render(plan_, hour, verdict)
    assert len(content) < 350_000
    assert "1 h 00 min" in Text(content).text


def test_nothing_recorded_still_makes_whole_documents() -> None:
    empty = {"outcome": "unknown", "exit_status": 111, "summary": "nothing", "run": "r"}
    for verdict in (empty, {}, told("nothing")[2]):
        content = documents(lab_plan(), NOTHING, verdict)
        assert "? UNKNOWN" in Text(content["report.html"]).text
        ElementTree.fromstring(content["junit.xml"])
        assert "UNKNOWN" in terminal.render(lab_plan(), verdict)
    assert "nothing to draw" in html("nothing").text


def test_a_phase_without_an_end_and_a_fault_never_undone_are_still_drawn() -> None:
    plan_, evidence, verdict, _ = told("stopped")
    assert evidence.phases[-1].end_t is None
    content = documents(plan_, evidence, verdict)["report.html"].decode()
    assert '<rect class="band fault"' in content
    assert "zone: in place, never undone" in content


@pytest.mark.parametrize("case", CASES)
def test_junit_counts_failures_and_unknowns(case: str) -> None:
    verdict, content = told(case)[2], told(case)[3]["junit.xml"]
    root = ElementTree.fromstring(content)
    outcomes = [finding["outcome"] for finding in verdict["findings"]]
    cases = [c for c in root.iter("testcase") if c.get("name") != "verdict"]
    assert root.tag == "testsuites"
    assert len(cases) == len(outcomes)
    assert len(root.findall(".//failure")) == outcomes.count("fail") == int(root.get("failures"))
    assert len(root.findall(".//error")) == outcomes.count("unknown") == int(root.get("errors"))
    names = [suite.get("name") for suite in root.iter("testsuite")]
    assert names == ["all", *(p["phase"] for p in verdict["phases"])]


def test_a_stopped_run_is_an_error_in_junit_though_every_finding_passes() -> None:
    verdict = {**told("pass")[2], "outcome": "unknown", "exit_status": 105, "summary": "stopped"}
    root = ElementTree.fromstring(junit.render(verdict))
    assert root.get("errors") == "1"
    assert root.find(".//error/..").get("name") == "verdict"  # type: ignore[union-attr]


def test_the_summary_tells_what_failed_before_anything_else() -> None:
    plan_, _, verdict, found = told("fail")
    text = found["summary.md"].decode()
    failed = [f for f in verdict["findings"] if f["outcome"] == "fail"]
    assert text.startswith("# ❌ FAIL")
    for finding in failed:
        assert text.index(finding["objective"].split(":")[0]) < text.index("<details>")
    assert text.count("\n| ❌ fail |") == len(failed)
    assert text.count("\n| ✅ pass |") == len(verdict["findings"]) - len(failed)
    assert markdown.render(plan_, verdict) == found["summary.md"]


@pytest.mark.parametrize("case", CASES)
def test_the_terminal_tells_every_finding_in_its_place(case: str) -> None:
    plan_, _, verdict, _ = told(case)
    shown = re.sub(r"\x1b\[\d+m", "", terminal.render(plan_, verdict))
    marks = {"pass": "✓", "fail": "✗", "unknown": "?"}
    for outcome, mark in marks.items():
        expected = sum(f["outcome"] == outcome for f in verdict["findings"])
        assert len(re.findall(rf"^    {re.escape(mark)} ", shown, re.M)) == expected
    for finding in verdict["findings"]:
        if finding["outcome"] != "pass":
            assert flat(finding["because"]) in flat(shown)
    for step in verdict["timeline"]:
        if step["part"] != "fault":
            assert step["what"] in shown


def test_what_is_needed_to_run_it_again_is_there() -> None:
    plan_ = told("pass")[0]
    text = html("pass").text
    for needed in ("harness run ", plan_.sha256, f"Seed {plan_.traffic.seed}", "x 1.2", "50/s"):
        assert needed in text


def test_client_and_prometheus_figures_stand_side_by_side() -> None:
    figures = next(p for p in told("pass")[2]["phases"] if p["phase"] == "baseline")
    row = r"Baseline 2,000 2,000 100 % 50/s 10 ms 10 ms 10 ms 100 % "
    assert re.search(row + f"{figures['prometheus']['requests']:,.0f} 0 %", html("pass").text)


def test_uploads_that_should_be_there_are_counted_without_those_deleted() -> None:
    evidence = told("pass")[1]
    text = html("fail").text
    acked = sum(e.outcome == "acked" for e in told("fail")[1].ledger)
    assert f"Uploads verified {acked - 1} read back whole, of {acked} acknowledged" in text
    entry = evidence.ledger[0]
    deleted = dataclasses.replace(entry, kind="delete", op="delete")
    less = dataclasses.replace(evidence, ledger=(*evidence.ledger, deleted))
    shown = Text(page.render(told("pass")[0], less, told("pass")[2])).text
    kept = sum(e.outcome == "acked" for e in evidence.ledger) - 1
    assert f"Uploads verified {kept} read back whole, of {kept} acknowledged" in shown


def test_the_latency_drawn_is_the_latency_measured() -> None:
    slow = Day(latency_s=0.5).evidence()
    verdict = judge(lab_plan(), slow).to_json()
    content = page.render(lab_plan(), slow, verdict).decode()
    found = histogram.bounds_us(histogram.index_of(500_000))
    shown = {round(float(ms)) for ms in re.findall(r"P50 (\d+) ms, P95", content)}
    assert shown
    assert all(found.low / 1e3 - 1 <= ms <= found.high / 1e3 + 1 for ms in shown)


def test_budgets_and_what_was_before_the_run_are_among_the_figures_that_matter() -> None:
    last = "  - agreement: client and Prometheus within 2 %\n    in: [baseline]\n"
    more = """\
  - error budget: at most 5 % spent
    slo: 99.9 %
    period: 30d
  - burn rate: below 14.4 over 10s and 2s
    slo: 99.9 %
    in: [baseline]
  - mttr: below 15m
  - mtbf: above 720h
  - regression: p95 at most 20 % above the last 5 green runs
    in: [baseline]
"""
    past = {
        "complete": True, "watched_s": 3600, "failures": 0, "started_t": 0.0, "ended_t": 9.0,
        "repairs": [{"fault": "zone", "low_s": 9.0, "high_s": 10.0}],
        "plan": "other", "plan_sha256": "", "traffic": "",
    }  # fmt: skip
    with_it = plan((last, last + more)).with_recorded(history={"runs": [past, past, past]})
    evidence = Day().evidence()
    verdict = judge(with_it, evidence).to_json()
    found = documents(with_it, evidence, verdict)
    text = Text(found["report.html"]).text
    assert "Error budget spent 0.153 %" in text
    assert "MTTR 10 s (4.29–36.69)" in text
    assert "MTBF more than 1 h" in text
    assert "2154 h (89.7 days) more without a failure are needed to tell" in text
    assert "burnt 0 times as fast as it lasts" in text
    assert "0 green runs of this same plan" in text
    for finding in verdict["findings"]:
        assert flat(finding["because"]) in text
    assert b"MTBF" not in found["junit.xml"] and b"mtbf: above 720h" in found["junit.xml"]
    assert "mttr: below 15m" in terminal.render(with_it, verdict)


def test_what_was_read_back_during_the_run_is_told_apart_from_the_end() -> None:
    evidence = Day().evidence()
    asked = (
        Readback("obj-073", "missing", "us-west-2", "", "fault:region", T0 + 85.0, 1),
        Readback("obj-070", "present", "us-west-2", "", "fault:region", T0 + 86.0, 1),
    )
    listing = Listing("obj-", "", 246, 1, 2, 0, 0, {"twice": ("obj-001",)})
    evidence = dataclasses.replace(
        evidence,
        readbacks=(*evidence.readbacks, *asked),
        passes=(ReadbackPass("fault:region", 2, 2, T0 + 90.0),),
        listings=(listing,),
        followed=0.25,
    )
    verdict = judge(lab_plan(), evidence).to_json()
    text = " ".join(Text(documents(lab_plan(), evidence, verdict)["report.html"]).texts)
    text = re.sub(r"\s+", " ", text)
    assert "Objects read back: missing 0" in text
    assert "Asked for during Fault: region 2 Asked for during Fault: region: missing 1" in text
    assert "Objects in the service's list 246" in text
    assert "Listed twice, or under a second id 3" in text
    assert "Counted are the objects followed: 25 % of all, chosen by a hash." in text
