"""A plan for another account, region, cluster or zone than the target has is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import PlanInvalid
from harness.plan import Plan, parse_plan, plan_for_experiment
from harness.target.aims import require_same_names, unknown_metrics
from harness.target.model import Target
from tests.target.sample_target import sample

REPO = Path(__file__).resolve().parents[2]
LAB = REPO / "experiments/gamedays/lab.yaml"
TEXT = LAB.read_text()


def plan(*lines: str) -> Plan:
    """The plan of the lab, with these lines below ``target:``."""
    return parse_plan(TEXT.replace("\ntarget:", "\n".join(("\ntarget:", *lines))), LAB)


def refused(plan: Plan, target: Target) -> str:
    with pytest.raises(PlanInvalid) as raised:
        require_same_names(plan, target)
    assert raised.value.hint
    return str(raised.value)


def test_a_plan_of_this_target_is_accepted() -> None:
    named = plan('  account: "123456789012"', "  clusters: [us-east-1a, us-west-2]")
    assert named.target.account == "123456789012"
    for accepted in (plan(), named):
        require_same_names(accepted, sample())


@pytest.mark.parametrize(
    ("lines", "change", "said"),
    [
        ((), {"service_url": "http://other"}, "lab.yaml:9:12 (target.service): the plan is for"),
        ((), {"primary": "us-east-2"}, "lab.yaml:10:12 (target.primary): the plan is for primary"),
        ((), {"standby": "eu-west-1"}, "lab.yaml:11:12 (target.standby): the plan is for standby"),
        (
            ('  account: "123456789012"',),
            {"account": "210987654321"},
            "lab.yaml:9:12 (target.account): the plan is for account 123456789012, the target is "
            "210987654321",
        ),
        (
            ("  clusters: [us-east-1a, us-east-1x]",),
            {},
            "lab.yaml:9:13 (target.clusters): the target has no cluster us-east-1x",
        ),
    ],
)
def test_what_the_plan_names_must_be_the_targets(
    lines: tuple[str, ...], change: dict[str, str], said: str
) -> None:
    assert f"experiments/gamedays/{said}" in refused(plan(*lines), sample(**change))


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("pods/kill-file-pods", '"cluster": "us-east-1a"', '"cluster": "us-east-1"', "cluster"),
        ("zones/lose-us-east-1a", '"zone": "us-east-1a"', '"zone": "us-east-1c"', "zone"),
        ("zones/lose-us-east-1a", '"region": "us-east-1"', '"region": "us-east-2"', "region"),
        ("region/lose-us-east-1", '"region": "us-east-1"', '"region": "us-east-1a"', "region"),
    ],
)
def test_what_experiments_name_must_be_the_targets(
    file: str, old: str, new: str, said: str, tmp_path: Path
) -> None:
    text = (REPO / f"experiments/{file}.json").read_text()
    assert old in text
    changed = tmp_path / "experiment.json"
    changed.write_text(text.replace(old, new))
    line = text[: text.index(old)].count("\n") + 1
    told = refused(plan_for_experiment(changed), sample())
    assert f"experiment.json:{line}:" in told
    assert f"the target has no {said} {new.split(':')[1].strip(' ' + chr(34))}" in told


def test_the_contexts_of_stock_probes_must_be_the_targets(tmp_path: Path) -> None:
    text = (REPO / "experiments/zones/lose-us-east-1a.json").read_text()
    old = '"KUBERNETES_CONTEXT": "us-east-1b"'
    if old not in text:
        text = text.replace(
            '"runtime":', '"secrets": {"b": {"KUBERNETES_CONTEXT": "us-east-1b"}},\n  "runtime":'
        )
    changed = tmp_path / "experiment.json"
    changed.write_text(text.replace(old, '"KUBERNETES_CONTEXT": "minikube"'))
    told = refused(plan_for_experiment(changed), sample())
    assert "the target has no context of a cluster minikube" in told


@pytest.mark.parametrize(
    ("condition", "column"),
    [("{alarm: a, region: us-east-2}", 32), ("{safety_lever: us-east-2}", 28)],
)
def test_stop_conditions_are_of_regions_of_the_target(condition: str, column: int) -> None:
    named = parse_plan(f"{TEXT}stop_when: [{condition}]\n", LAB)
    line = TEXT.count("\n") + 1
    told = refused(named, sample())
    assert f"lab.yaml:{line}:{column} " in told and "no region us-east-2" in told


def test_a_probe_that_asks_for_an_unknown_metric_is_found(tmp_path: Path) -> None:
    import json

    document = json.loads((REPO / "experiments/pods/kill-file-pods.json").read_text())
    probe = {
        "type": "probe", "name": "few errors", "tolerance": True,
        "provider": {"type": "python", "module": "harness.chaos.probes",
                     "func": "prometheus_value",
                     "arguments": {"query": "sum(erors_total)", "at_most": 1}},
    }  # fmt: skip
    document["steady-state-hypothesis"]["probes"].append(probe)
    file = tmp_path / "experiment.json"
    file.write_text(json.dumps(document, indent=2))
    day = plan_for_experiment(file)
    assert unknown_metrics(day, ["erors_total"]) == []
    [(name, where, hint)] = unknown_metrics(day, ["errors_total", "hits_total"])
    assert (name, hint) == ("erors_total", "did you mean 'errors_total'?")
    assert where.line == 1 + file.read_text().split("sum(erors_total)")[0].count("\n")
    assert where.column is not None
    assert replace(where, line=None, column=None).file.endswith("experiment.json")
