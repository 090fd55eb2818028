"""``harness selftest``: what it prints and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli import cli
from harness.errors import ExitStatus, PlanInvalid

CASE = """\
- name: mine
  what: all of it is slow
  in: service
  change: {service.trouble: [{phase: baseline, latency_s: 1}]}
  finds: latency
  exit: 99
"""


@pytest.fixture
def run(repo: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    monkeypatch.chdir(repo)

    def run(*args: str) -> tuple[int, str]:
        result: Result = CliRunner().invoke(cli, ["selftest", *args], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return int(result.return_value), result.output

    return run


def test_all_is_well_when_every_case_is_told_right(run: Callable[..., tuple[int, str]]) -> None:
    status, told = run("--fast", "--only", "slow", "--only", "as-planned")
    assert status == ExitStatus.PASS
    lines = told.splitlines()
    assert [line.split() for line in lines[:2]] == [["caught", "slow"], ["right", "as-planned"]]
    assert lines[-1].split() == ["all", "1", "1", "0", "1", "0"]


def test_a_case_of_ones_own_that_is_missed_ends_with_99(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(CASE)
    assert run(str(path))[0] == ExitStatus.PASS
    path.write_text(CASE.replace("finds: latency", "finds: durability"))
    status, told = run(str(path))
    assert status == ExitStatus.OBJECTIVE_FAILED
    assert "MISSED       mine" in told
    assert "no such finding" in told


def test_run_folders_are_kept_where_that_is_asked_for(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    run("--fast", "--only", "slow", "--keep", str(tmp_path))
    assert (tmp_path / "slow" / "history.jsonl").is_file()


def test_a_name_nobody_has_and_a_file_nobody_wrote_are_refused(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    from click import BadParameter

    with pytest.raises(BadParameter, match="no case named nothing"):
        run("--fast", "--only", "nothing")
    with pytest.raises(PlanInvalid, match="cannot be read"):
        run(str(tmp_path / "none.yaml"))
