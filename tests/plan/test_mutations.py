"""No plan and no experiment with a mistake in it is begun; each is told where, and what to try."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.errors import PlanInvalid, Where
from harness.plan import parse_plan, plan_for_experiment, read_plan
from harness.plan.experiment import read_experiment
from harness.plan.functions import check_functions, parameters_of
from tests.plan.mutations import EXPERIMENTS, GAME_DAYS, Mutant, experiments, plans

#: `make refusals` reads all of them and prints how long each took; here one of sixteen.
EVERY = int(os.environ.get("HARNESS_MUTANTS_EVERY", "16"))


def test_what_is_right_is_accepted() -> None:
    for file in GAME_DAYS:
        read_plan(file)
    for file in EXPERIMENTS:
        plan_for_experiment(file, hold_s=60)


def refusal(mutant: Mutant, folder: Path) -> tuple[PlanInvalid, float]:
    """How the mutant is refused, and how long that took (seconds)."""
    begun = time.perf_counter()
    with pytest.raises(PlanInvalid) as raised:
        if mutant.file.suffix == ".json":
            file = folder / mutant.file.name
            file.write_text(mutant.text)
            check_functions(read_experiment(file, Where("plan.yaml")))
        else:
            parse_plan(mutant.text, mutant.file)
    return raised.value, time.perf_counter() - begun


def is_placed(error: PlanInvalid, mutant: Mutant) -> bool:
    """Whether it names file, line and column of the mistake, and says what to try."""
    where = error.where
    if where is None or where.line is None or where.column is None or not error.hint:
        return False
    lines = mutant.text.splitlines()
    return mutant.file.name in where.file and mutant.at in lines[where.line - 1]


def test_each_mistake_is_refused_where_it_stands(tmp_path: Path) -> None:
    mutants = [*experiments(), *plans()]
    assert len(mutants) > 1000
    chosen = mutants[:: max(1, EVERY)]
    assert len(chosen) >= 100
    took, accepted, misplaced = [], [], []
    for mutant in chosen:
        try:
            error, seconds = refusal(mutant, tmp_path)
        except pytest.fail.Exception:
            accepted.append(mutant.name)
            continue
        took.append(seconds)
        if not is_placed(error, mutant):
            misplaced.append(f"{mutant.name}: {error}")
    assert accepted == []
    assert misplaced == []
    print(f"\n{len(took)} refused, the slowest in {max(took) * 1000:.0f} ms")
    # Held to a second on a machine of its own by `make refusals`.
    assert max(took) < (1.0 if EVERY == 1 else 10.0)


@pytest.mark.parametrize(
    ("module", "name", "types", "required"),
    [
        ("harness.chaos.actions.pods", "kill_pods", "app:str", "cluster app"),
        ("harness.chaos.probes", "prometheus_value", "at_least:float/none", "query"),
        ("chaosk8s.deployment.probes", "deployment_fully_available", "timeout:int", "name"),
    ],
)
def test_a_signature_is_read_without_importing(
    module: str, name: str, types: str, required: str
) -> None:
    parameters = parameters_of(module, name)
    assert parameters is not None
    parameter, _, kinds = types.partition(":")
    (found,) = [p.types for p in parameters if p.name == parameter]
    assert found == frozenset(kinds.split("/"))
    assert [p.name for p in parameters if p.required] == required.split()


def test_a_plan_may_allow_a_function_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "our_probes.py").write_text("def is_empty(queue: str) -> bool: raise SystemExit\n")
    text = EXPERIMENTS[0].read_text().replace("harness.chaos.probes", "our_probes")
    text = text.replace('"service_answers"', '"is_empty"')
    import json

    document = json.loads(text)
    document["steady-state-hypothesis"]["probes"][0]["provider"]["arguments"] = {"queue": "q"}
    file = tmp_path / "experiment.json"
    file.write_text(json.dumps(document))
    experiment = read_experiment(file, Where("plan.yaml"))
    with pytest.raises(PlanInvalid, match=r"our_probes\.is_empty is not among"):
        check_functions(experiment)
    check_functions(experiment, ["our_probes.is_empty"])
    plan = GAME_DAYS[-1].read_text() + "functions: [our_probes.is_empty]\n"
    assert parse_plan(plan, GAME_DAYS[-1])
