"""``stop_when:`` is read to the conditions it says, and what could stop nothing is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import PlanInvalid
from harness.plan import Plan, parse_plan, read_plan
from harness.plan.guards import Guard

LAB = Path(__file__).resolve().parents[2] / "experiments/gamedays/lab.yaml"
TEXT = LAB.read_text()
BEGIN = TEXT.count("\n") + 2


def reading(*lines: str) -> Plan:
    return parse_plan(TEXT + "\n".join(("stop_when:", *lines)) + "\n", LAB)


def test_each_kind_of_condition_is_read() -> None:
    plan = reading(
        "  - {prometheus: 'sum(errors) / sum(hits)', above: 60 %, no_data: 10s}",
        "  - {prometheus: up, below: 1}",
        "  - {alarm: 5xx, region: us-west-2}",
        "  - {probe: the service answers, of: zone}",
        "  - {file: /srv/STOP}",
        "  - {parameter: /gameday}",
        "  - {safety_lever: us-east-1}",
    )
    assert plan.guards == (
        Guard("prometheus", "sum(errors) / sum(hits)", BEGIN, above=0.6, no_data_s=10.0),
        Guard("prometheus", "up", BEGIN + 1, below=1.0),
        Guard("alarm", "5xx", BEGIN + 2, region="us-west-2"),
        Guard("probe", "the service answers", BEGIN + 3, fault="zone"),
        Guard("file", "/srv/STOP", BEGIN + 4),
        Guard("parameter", "/gameday", BEGIN + 5),
        Guard("safety_lever", "us-east-1", BEGIN + 6),
    )
    assert [guard.text for guard in plan.guards] == [
        "sum(errors) / sum(hits) above 0.6",
        "up below 1",
        "alarm 5xx in us-west-2",
        "probe 'the service answers' of zone",
        "file /srv/STOP",
        "parameter /gameday",
        "safety lever of us-east-1 engaged",
    ]
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_plan_without_conditions_is_recorded_as_before() -> None:
    assert "guards" not in read_plan(LAB).to_json()


@pytest.mark.parametrize(
    ("entry", "column", "said", "hint"),
    [
        ("promtheus: up", 5, "unknown key 'promtheus'", "did you mean 'prometheus'?"),
        ("above: 60 %", 5, "names no condition", "one of prometheus, alarm"),
        ("alarm: b\n    file: /a", 11, "two conditions", "start a new"),
        ("prometheus: up", 17, "has no bound", "add above:"),
        ("prometheus: up\n    above: 1\n    below: 2", 17, "both above and below", "add above:"),
        ("prometheus: up\n    above: lots", 12, "'lots'", ""),
        ("prometheus: up\n    above: true", 12, "True is not a bound", "write a number"),
        ("prometheus: ''\n    above: 1", 17, "'' is not text", "write some words"),
        ("file: STOP", 11, "stops nothing", "write its whole path"),
        ("file: /a\n    above: 1", 5, "unknown key 'above'", ""),
        ("probe: the service answers", 12, "of no fault", "add a line of:"),
        ("probe: the service answers\n    of: zon", 9, "no fault 'zon'", "did you mean 'zone'?"),
        (
            "probe: the servce answers\n    of: zone",
            12,
            "no probe 'the servce answers'",
            "did you mean 'the service answers'?",
        ),
        ("file: /a\n    no_data: 1s", 14, "one slow answer would stop the run", "write 2s"),
        ("file: /a\n    no_data: 5", 14, "5", ""),
        ("file: /a\n  - file: /a", 5, "there already", "remove one"),
    ],
)
def test_a_condition_that_could_stop_nothing_is_refused(
    entry: str, column: int, said: str, hint: str
) -> None:
    with pytest.raises(PlanInvalid) as raised:
        reading(f"  - {entry}")
    error = raised.value
    assert said in error.message
    assert error.hint and hint in error.hint
    assert error.where is not None and error.where.file == "experiments/gamedays/lab.yaml"
    assert error.where.line is not None and error.where.line >= BEGIN
    assert error.where.column == column


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{file: /a}", "unknown key 'file'"),
        ("{prometheus: up}", "has no bound"),
        ("{below: 5}", "'prometheus' is missing"),
        ("{prometheus: up, above: 1, no_data: 5s}", "unknown key 'no_data'"),
    ],
)
def test_what_a_run_waits_for_is_promql_with_a_bound(entry: str, said: str) -> None:
    with pytest.raises(PlanInvalid, match=said) as raised:
        parse_plan(f"{TEXT}start_when: [{entry}]\n", LAB)
    assert raised.value.where is not None and raised.value.where.line == BEGIN - 1


def test_what_a_run_waits_for_is_kept() -> None:
    plan = parse_plan(f"{TEXT}start_when: [{{prometheus: max(lag), below: 5}}]\n", LAB)
    assert plan.starts == (Guard("prometheus", "max(lag)", BEGIN - 1, below=5.0),)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
