"""SLOs in words, in files of others and as thresholds of k6: read to what they say, or refused
with the place of what cannot be judged."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.errors import PlanInvalid
from harness.plan import Plan, parse_plan
from harness.plan.model import (
    Availability,
    BurnRate,
    ErrorBudget,
    ErrorRate,
    Latency,
    Mtbf,
    Mttr,
    Regression,
    Throughput,
)
from harness.plan.slo_files import read_slos

REPO = Path(__file__).resolve().parents[2]
LAB = REPO / "experiments" / "gamedays" / "lab.yaml"
SLOS = REPO / "experiments" / "slos"
HEAD = LAB.read_text().partition("objectives:\n")[0] + "objectives:\n"


def read(entry: str) -> Plan:
    return parse_plan(f"{HEAD}  - {entry}\n", LAB)


def refused(entry: str) -> str:
    with pytest.raises(PlanInvalid) as error:
        read(entry)
    assert error.value.where is not None and error.value.where.line
    assert error.value.hint
    return str(error.value)


# ---- in words -----------------------------------------------------------------------------------


def test_an_objective_may_be_of_some_operations() -> None:
    plan = read("{availability: at least 99 %, for: upload, in: baseline}")
    (only,) = plan.objectives
    assert isinstance(only, Availability)
    assert (only.operations, only.text) == (
        ("upload",),
        "availability: at least 99 % for upload",
    )
    some = read("{latency: p95 below 200ms, for: [image, list], in: baseline}").objectives[0]
    assert isinstance(some, Latency) and some.operations == ("image", "list")
    every = read("{error rate: below 1 %, for: all, in: baseline}").objectives[0]
    assert isinstance(every, ErrorRate) and every.operations == ()


def test_an_operation_that_is_never_sent_is_refused() -> None:
    assert "did you mean 'upload'?" in refused("{availability: at least 99 %, for: uplod}")
    assert "recovery has no for:" in refused("{recovery: within 5s, for: upload, of: pod}")


def test_a_budget_and_a_burn_rate_are_read_to_their_figures_and_back() -> None:
    plan = parse_plan(
        f"""{HEAD}
  - error budget: at most 5 % spent
    slo: 99 % within 300ms
    period: 30d
    for: upload
  - burn rate: below 14.4 over 1h and 5m
    slo: 99.9 %
    in: [baseline]
""",
        LAB,
    )
    budget, burn = plan.objectives
    assert isinstance(budget, ErrorBudget) and isinstance(burn, BurnRate)
    assert (budget.at_most, budget.slo, budget.period_s, budget.within_s) == (
        0.05,
        0.99,
        2_592_000,
        0.3,
    )
    assert budget.text == "error budget: at most 5 % spent for upload of 99 % within 300ms over 30d"
    assert (burn.below, burn.windows_s, burn.slo, burn.within_s) == (14.4, (3600, 300), 0.999, 0)
    assert plan.thresholds_s == (0.3,)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{error budget: at most 5 % spent, period: 30d}", "'slo' is missing"),
        ("{error budget: at most 5 % spent, slo: 99.9 %}", "'period' is missing"),
        ("{error budget: at most 5 % spent, slo: 100 %, period: 30d}", "no error budget"),
        ("{error budget: 5 %, slo: 99.9 %, period: 30d}", "at most 5 % spent"),
        ("{error budget: at most 5 % spent, slo: 0.999, period: 30d}", "is not an SLO"),
        ("{burn rate: below 14.4 over 1h, slo: 99.9 %, period: 30d}", "burn rate has no period:"),
        ("{burn rate: below 14.4 over 5m and 1h, slo: 99.9 %}", "write a shorter one"),
        ("{burn rate: below 14.4 over 1500ms, slo: 99.9 %}", "whole seconds"),
        ("{burn rate: below 0 over 1h, slo: 99.9 %}", "nothing is below a burn rate of 0"),
        ("{slo: experiments/slos/sloth.yml}", "did you mean experiments/slos/sloth.yaml?"),
        ("{slo: 99.9 %}", "there is no file 99.9 %"),
    ],
)
def test_what_says_too_little_or_too_much_is_refused(entry: str, said: str) -> None:
    assert said in refused(entry)


def test_times_of_the_past_are_asked_of_earlier_runs_or_of_prometheus() -> None:
    plan = parse_plan(
        f"""{HEAD}
  - mttr: below 15m
  - mtbf: above 720h
    incidents: error_ratio > bool 0.01
    over: 90d
""",
        LAB,
    )
    mttr, mtbf = plan.objectives
    assert isinstance(mttr, Mttr) and isinstance(mtbf, Mtbf)
    assert (mttr.text, mtbf.text) == (
        "mttr: below 15m",
        "mtbf: above 720h, incidents of 90d",
    )
    assert (mttr.below_s, mttr.incidents, mttr.series_name) == (900, "", "")
    assert (mtbf.above_s, mtbf.over_s) == (2_592_000, 7_776_000)
    assert plan.past_queries == {mtbf.series_name: ("error_ratio > bool 0.01", 7_776_000)}
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{mttr: below 15}", "write one such as 90s"),
        ("{mtbf: below 720h}", "write: above 720h"),
        ("{mttr: below 15m, in: [baseline]}", "mttr has no in:"),
        ("{mttr: below 15m, of: [pod]}", "mttr has no of:"),
        ("{mttr: below 15m, over: 30d}", "belong together"),
        ("{mtbf: above 720h, incidents: up == bool 0}", "belong together"),
        ("{mtbf: above 720h, incidents: up == bool 0, over: 29d}", "less than 30 days"),
        ("{availability: at least 99 %, over: 30d}", "availability has no over:"),
    ],
)
def test_what_cannot_be_told_of_the_past_is_refused(entry: str, said: str) -> None:
    assert said in refused(entry)


def test_a_regression_is_read_to_its_figures() -> None:
    plan = read("{regression: error rate at most 0.5 % above the last 5 green runs, in: baseline}")
    (only,) = plan.objectives
    assert isinstance(only, Regression)
    assert (only.figure, only.at_most, only.runs) == ("error rate", 0.005, 5)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    for wrong, said in (
        ("p95 at most 20 % below the last 5 green runs", "is worse when it is above"),
        ("availability at most 1 % above the last 5 green runs", "is worse when it is below"),
        ("p95 at most 20 % above the last 2 green runs", "write 3 to 100"),
        ("p95 at most 0 % above the last 5 green runs", "allow some change"),
        ("p95 no worse", "write: p95 at most 20 % above the last 10 green runs"),
    ):
        assert said in refused(f"{{regression: {wrong}}}")


# ---- as k6 writes them ---------------------------------------------------------------------------


def test_thresholds_of_k6_are_objectives_of_ours() -> None:
    plan = parse_plan(
        f"""{HEAD}
  - http_req_duration: ["p(95)<200", "p(99.9) <= 1000", med<50, max<3000]
    in: [baseline]
  - "http_req_duration{{op:upload}}": p(90)<500
  - http_req_failed: rate<0.01
  - checks: rate>=0.99
  - http_reqs: rate>190
    for: [download, list]
""",
        LAB,
    )
    p95, p999, med, most, uploads, failed, checks, reqs = plan.objectives
    latencies = [(o.fraction, o.below_s) for o in (p95, p999, med, most) if isinstance(o, Latency)]
    assert latencies == [(0.95, 0.2), (0.999, 1.0), (0.5, 0.05), (1.0, 3.0)]
    assert isinstance(uploads, Latency) and uploads.operations == ("upload",)
    assert uploads.text == (
        "latency: p90 below 500ms for upload (k6 http_req_duration{op:upload}: p(90)<500)"
    )
    assert isinstance(failed, ErrorRate) and failed.below == 0.01
    assert isinstance(checks, Availability) and checks.at_least == 0.99
    assert isinstance(reqs, Throughput) and 190 < reqs.at_least_per_s < 190.000001
    assert reqs.operations == ("download", "list")
    assert (p95.phases, len(failed.phases)) == (("baseline",), 8)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{http_req_duration: avg<200}", "cannot be judged by 'avg<200'"),
        ('{http_req_duration: "p(95)>200"}', "cannot be judged"),
        ('{http_req_duration: "p(95)"}', "is not a threshold"),
        ("{http_req_duration: {threshold: p(95)<200, abortOnFail: true}}", "is not a threshold"),
        ("{http_req_failed: rate<1.5}", "cannot be judged"),
        ("{http_req_failed: rate<0}", "cannot be judged"),
        ("{http_req_failed: rate==0}", "cannot be judged"),
        ("{http_req_waiting: p(95)<200}", "http_req_waiting of k6 has no counterpart here"),
        ("{iterations: rate>10}", "iterations of k6 has no counterpart here"),
        ('{"http_req_duration{status:200}": p(95)<200}', "{status:200} cannot be told here"),
        ('{"http_req_duration{op:uplod}": p(95)<200}', "did you mean 'upload'?"),
        ('{"http_req_duration{op:upload}": p(95)<200, for: upload}', "said twice"),
        ("{http_req_duration: p(95)<200, http_req_failed: rate<0.1}", "unknown key"),
    ],
)
def test_a_threshold_that_would_be_judged_as_something_else_is_refused(
    entry: str, said: str
) -> None:
    assert said in refused(entry)


# ---- from files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "period_s"), [("openslo", 2_419_200), ("sloth", 2_592_000)])
def test_both_formats_say_the_same(name: str, period_s: float) -> None:
    answered, uploads = read_slos(SLOS / f"{name}.yaml")
    assert (answered.name, answered.target, answered.within_s) == ("files-availability", 0.999, 0)
    assert (answered.period_s, answered.operations) == (2_592_000, ())
    assert (uploads.target, uploads.within_s) == (0.95, 0.5)
    assert (uploads.operations, uploads.period_s) == (("upload",), period_s)


def test_each_slo_of_a_file_is_an_objective_of_the_phases_named() -> None:
    plan = read("{slo: experiments/slos/openslo.yaml, in: [baseline, cool-down]}")
    answered, uploads = plan.objectives
    assert isinstance(answered, Availability) and answered.at_least == 0.999
    assert isinstance(uploads, Latency)
    assert (uploads.fraction, uploads.below_s, uploads.operations) == (0.95, 0.5, ("upload",))
    said = "latency: 95 % within 500ms for upload (uploads-latency, experiments/slos/openslo.yaml:"
    assert re.fullmatch(re.escape(said) + r"\d+\)", uploads.text)
    assert uploads.phases == ("baseline", "cool-down")
    assert plan.thresholds_s == (0.5,)


def test_a_budget_is_that_of_the_slo_in_the_file() -> None:
    plan = read(
        "{error budget: at most 2 % spent, slo: experiments/slos/sloth.yaml#uploads-latency}"
    )
    (budget,) = plan.objectives
    assert isinstance(budget, ErrorBudget)
    assert (budget.slo, budget.within_s, budget.operations) == (0.95, 0.5, ("upload",))
    assert budget.period_s == 2_592_000
    wrong = "{error budget: at most 2 % spent, slo: experiments/slos/sloth.yaml"
    assert "write FILE#NAME: files-availability, uploads-latency" in refused(wrong + "}")
    assert "there is no SLO 'x'" in refused(wrong + "#x}")
    period = refused(wrong + "#uploads-latency, period: 7d}")
    assert "the file says its period itself" in period
    assert "said twice" in refused(wrong + "#uploads-latency, for: upload}")


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("openslo", "openslo/v1\nkind: SLO\n", "openslo/v1alpha\nkind: SLO\n", "is not read"),
        ("openslo", "kind: SLI", "kind: Sli", "no kind of OpenSLO"),
        ("openslo", "Occurrences", "Timeslices", "budgetingMethod Timeslices is not read"),
        ("openslo", "      isRolling: true", "      calendar: {}", "a calendar window is not read"),
        ("openslo", "duration: 30d", "duration: 1M", "'1M' is not a period"),
        ("openslo", "indicatorRef: uploads-fast", "indicatorRef: other", "no SLI 'other'"),
        ("openslo", "target: 0.999", "target: 99.9", "leaves no error budget"),
        ("openslo", "target: 0.999", "target: 0.999\n      op: lt", "unknown key 'op'"),
        ("openslo", "ratioMetric:", "thresholdMetric:", "a thresholdMetric is not read"),
        ("openslo", "type: Prometheus", "type: Datadog", "Datadog is not read"),
        ("openslo", 'code!~"5.."', 'method="GET"', "not told apart by status"),
        ("openslo", 'code!~"5.."', 'code="200",method="GET"', "not told apart by status"),
        ("openslo", 'code!~"5.."', 'code!="500"', "good is not 200 and no 5xx"),
        ("openslo", 'le="0.5"', 'le=~"0.5|1"', "the bucket is not one"),
        ("openslo", "_seconds_bucket", "_bucket", "are not of one histogram"),
        ("sloth", "prometheus/v1", "prometheus/v2", "'prometheus/v2' is not read"),
        ("sloth", "objective: 99.9", 'objective: "99.9"', "is not a number"),
        ("sloth", "      events:", "      plugin:", "sli.plugin is not read"),
        ("sloth", 'code=~"5.."', 'code="503"', "bad is not every 5xx and no 200"),
        ("sloth", 'code=~"5.."', 'code=~"[45].."', ""),
        ("sloth", "sum(rate(http_requests_total", "max(rate(http_requests_total", "not understood"),
        ("sloth", "error_query: sum", "error_qury: sum", "unknown key 'error_qury'"),
    ],
)
def test_what_cannot_be_judged_in_a_file_is_refused_at_its_place(
    tmp_path: Path, name: str, old: str, new: str, said: str
) -> None:
    text = (SLOS / f"{name}.yaml").read_text()
    path = tmp_path / f"{name}.yaml"
    assert old in text
    path.write_text(text.replace(old, new, 1))
    if not said:  # another way to say the same
        assert len(read_slos(path)) == 2
        return
    with pytest.raises(PlanInvalid) as error:
        read_slos(path)
    assert said in str(error.value)
    where = error.value.where
    assert where is not None and where.file == str(path) and where.line and where.column
    assert error.value.hint


def test_labels_that_clients_cannot_tell_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sloth.yaml"
    text = (SLOS / "sloth.yaml").read_text()
    path.write_text(text.replace('op="upload"', 'handler="/upload"'))
    with pytest.raises(PlanInvalid, match="clients cannot tell requests by handler"):
        read_slos(path)
    path.write_text(text.replace('service="gateway",op="upload",le', 'op="upload",le'))
    with pytest.raises(PlanInvalid, match="total has service, this has not"):
        read_slos(path)
    path.write_text("just text")
    with pytest.raises(PlanInvalid, match="a mapping of keys"):
        read_slos(path)
    path.write_text("a: 1\na: 2\n")
    with pytest.raises(PlanInvalid, match="keep one of the two lines"):
        read_slos(path)
