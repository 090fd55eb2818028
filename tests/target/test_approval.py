"""A production target is broken only with the approval of a second person, for this very run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError, PlanInvalid, Refused
from harness.lab import debian
from harness.plan import Plan, read_plan
from harness.target.approval import Approval, approve, claim, require_approval
from harness.target.model import Target
from harness.target.reader import read_target, write_target
from tests.target.sample_target import sample

LAB = Path(__file__).resolve().parents[2] / "experiments/gamedays/lab.yaml"
NOON = 1_764_072_000.0


@pytest.fixture(scope="module", autouse=True)
def ssh_keygen() -> Iterator[None]:
    """A machine without OpenSSH's client gets it, for these tests only."""
    with pytest.MonkeyPatch.context() as patch:
        if not shutil.which("ssh-keygen"):
            root = debian.program("openssh-client", "usr/bin/ssh-keygen")
            patch.setenv("PATH", str(root / "usr/bin"), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of ada and eve; ada's counts."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ada", "eve"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name]
        subprocess.run(argv, check=True, timeout=20)
    public = (folder / "ada.pub").read_text()
    (folder / "approvers").write_text(f"ada@example.com {public}")
    return folder


class Case:
    """A plan, a production target, and an approval of them."""

    def __init__(self, folder: Path, keys: Path) -> None:
        self.keys, self.folder = keys, folder
        self.plan: Plan = read_plan(LAB)
        self.target_file = folder / "target.yaml"
        self.target: Target = sample(production=True, approvers=str(keys / "approvers"))
        write_target(self.target, self.target_file)
        self.file = folder / "approval.json"
        self.approve()

    def approve(self, **changes: Any) -> None:
        given = {
            "key": self.keys / "ada", "approver": "ada@example.com", "runner": "bob",
            "begin_t": NOON, "end_t": NOON + 3600,
        }  # fmt: skip
        self.file.write_bytes(approve(self.plan, self.target_file, **{**given, **changes}))

    def required(self, **changes: Any) -> Approval:
        given = {
            "file": self.file, "plan": self.plan, "target": self.target,
            "target_file": self.target_file, "begin_t": NOON + 60, "end_t": NOON + 600,
            "state": self.folder, "runner": "bob",
        }  # fmt: skip
        return require_approval(**{**given, **changes})


@pytest.fixture
def case(tmp_path: Path, keys: Path) -> Case:
    return Case(tmp_path, keys)


def test_a_run_that_a_second_person_approved_may_begin_once(case: Case) -> None:
    approval = case.required()
    claim(approval, case.folder)
    with pytest.raises(Refused, match="one run, which has begun already"):
        case.required()
    with pytest.raises(Refused, match="one run, which has begun already"):
        claim(approval, case.folder)
    case.approve()
    case.required()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"file": None}, "nobody has approved this run"),
        ({"runner": "carl"}, "a run by bob, not by carl"),
        ({"runner": "Ada"}, "cannot approve a run of their own"),
        ({"begin_t": NOON - 1}, "a run from 2025-11-25 12:00 UTC to 2025-11-25 13:00 UTC"),
        ({"end_t": NOON + 3601}, "a run from 2025-11-25 12:00 UTC"),
    ],
)
def test_an_approval_is_for_one_person_and_time(
    case: Case, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(Refused, match=said) as raised:
        case.required(**changes)
    assert raised.value.hint


def test_an_approval_is_of_what_was_looked_at(case: Case, tmp_path: Path) -> None:
    changed = replace(case.plan, text=case.plan.text + "\n")
    with pytest.raises(Refused, match="another plan"):
        case.required(plan=changed)
    faster = replace(case.plan, traffic=replace(case.plan.traffic, rate=1000.0))
    with pytest.raises(Refused, match="another plan"):
        case.required(plan=faster)
    # The plan is the same, an experiment of it is not.
    fault = case.plan.faults[0]
    copy = tmp_path / "experiment.json"
    copy.write_text(Path(fault.experiment).read_text() + "\n")
    faults = (replace(fault, experiment=str(copy)), *case.plan.faults[1:])
    with pytest.raises(Refused, match="another plan"):
        case.required(plan=replace(case.plan, faults=faults))
    case.target_file.write_text(case.target_file.read_text() + "\n")
    with pytest.raises(Refused, match="another target file"):
        case.required()


def test_the_signature_of_somebody_else_is_none(case: Case) -> None:
    case.approve(key=case.keys / "eve")
    with pytest.raises(Refused, match="cannot be verified"):
        case.required()
    case.approve(approver="eve@example.com", key=case.keys / "eve")
    with pytest.raises(Refused, match="cannot be verified"):
        case.required()


@pytest.mark.parametrize(
    ("field", "value"),
    [("runner", "carl"), ("end_t", NOON + 1e9), ("nonce", "00"), ("approver", "dan")],
)
def test_an_approval_that_was_changed_is_none(case: Case, field: str, value: Any) -> None:
    document = json.loads(case.file.read_text())
    text = json.loads(document["approval"])
    document["approval"] = json.dumps({**text, field: value}, sort_keys=True)
    case.file.write_text(json.dumps(document))
    with pytest.raises(Refused, match="cannot be verified"):
        case.required()


def test_nobody_approves_a_run_of_their_own_or_one_that_never_is(case: Case) -> None:
    with pytest.raises(Refused, match="cannot approve a run of their own"):
        case.approve(runner="ada")
    with pytest.raises(Refused, match="ends before it begins"):
        case.approve(end_t=NOON)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"approval": "{}", "signature": ""}'])
def test_a_file_that_is_no_approval_is_refused(case: Case, content: str) -> None:
    case.file.write_text(content)
    with pytest.raises(PlanInvalid, match="no approval"):
        case.required()


def test_a_production_target_names_its_approvers(tmp_path: Path) -> None:
    path = tmp_path / "target.yaml"
    write_target(sample(production=True, approvers="approvers"), path)
    assert read_target(path).approvers == str(tmp_path / "approvers")
    write_target(sample(production=True), path)
    with pytest.raises(PlanInvalid, match="nobody can approve") as raised:
        read_target(path)
    error: HarnessError = raised.value
    assert error.where is not None and error.where.key == "production"


def test_the_verb_approves_what_the_runner_then_needs(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    from harness.cli.runs import approve as verb

    monkeypatch.chdir(LAB.parents[2])
    argv = [str(LAB), "--target", str(case.target_file), "--for", "bob", "--within", "1h"]
    argv += ["--as", "ada@example.com", "--key", str(case.keys / "ada"), "--out", str(case.file)]
    assert verb.main(argv, standalone_mode=False) == 0
    now = time.time()
    assert case.required(begin_t=now, end_t=now + 600).runner == "bob"
    with pytest.raises(Refused, match="a run from"):
        case.required(begin_t=now, end_t=now + 3700)
