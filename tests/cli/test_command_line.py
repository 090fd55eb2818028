"""The command line: quick, honest about mistakes, and ending with the documented status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import EXIT_STATUS_MEANING, ExitStatus
from harness.lab.defects import DEFECTS
from tests.load.server import StandIn


def harness(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_tells_every_exit_status(repo: Path) -> None:
    told = harness("--help", cwd=repo)
    assert told.returncode == 0
    for status, meaning in EXIT_STATUS_MEANING.items():
        assert f"{int(status):>3}  {meaning.split(':')[0]}"[:40] in told.stdout


def test_the_readme_lists_the_same_statuses(repo: Path) -> None:
    readme = (repo / "README.md").read_text()
    for status in ExitStatus:
        assert f"| {int(status)} |" in readme


def test_help_loads_nothing_heavy(repo: Path) -> None:
    code = (
        "import sys, harness.cli; "
        "heavy = {'boto3', 'kubernetes', 'locust', 'gevent', 'rich', 'aiohttp', 'pydantic'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_wrong_word_is_a_usage_error(repo: Path) -> None:
    assert harness("dance", cwd=repo).returncode == ExitStatus.USAGE


def test_defects_are_listed_by_name(repo: Path) -> None:
    told = harness("lab", "defects", cwd=repo)
    assert [line.split()[0] for line in told.stdout.splitlines()] == [d.name for d in DEFECTS]


def test_an_unknown_defect_is_refused_before_anything_starts(repo: Path, tmp_path: Path) -> None:
    plan = repo / "experiments/gamedays/lab.yaml"
    told = harness("run", str(plan), "--defect", "nope", "--runs", str(tmp_path), cwd=repo)
    assert told.returncode == ExitStatus.REFUSED
    assert "harness lab defects" in told.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "right", "says"),
    [
        ("hold: 8s ", "hold: 8 parsecs ", "hold"),
        ("arrivals: poisson", "arivals: poisson", "arrivals"),
        ("  timeout: 5s", "  verify: most\n  timeout: 5s", "percentage"),
        ("in: [baseline, cool-down]", "in: [basline, cool-down]", "baseline"),
    ],
)
def test_a_mistake_in_a_plan_is_shown_with_its_line(
    repo: Path, tmp_path: Path, wrong: str, right: str, says: str
) -> None:
    text = (repo / "experiments/gamedays/lab.yaml").read_text()
    assert wrong in text
    plan = tmp_path / "plan.yaml"
    plan.write_text(text.replace(wrong, right, 1))
    line = plan.read_text()[: plan.read_text().index(right)].count("\n") + 1
    told = harness("check", str(plan), cwd=repo)
    assert told.returncode == ExitStatus.PLAN_INVALID
    assert f"plan.yaml:{line}:" in told.stderr
    assert says in told.stderr


def test_check_shows_the_day_without_a_lab(repo: Path, tmp_path: Path) -> None:
    for name in ("experiments", "locustfiles"):
        (tmp_path / name).symlink_to(repo / name)
    told = harness("check", "experiments/gamedays/lab.yaml", cwd=tmp_path)
    assert told.returncode == 0
    assert "recovery:region" in told.stdout
    assert "no lab is up" in told.stdout


def test_check_says_how_the_users_of_a_plan_behave(repo: Path, tmp_path: Path) -> None:
    for name in ("experiments", "locustfiles"):
        (tmp_path / name).symlink_to(repo / name)
    text = (repo / "experiments/gamedays/lab.yaml").read_text()
    (tmp_path / "plan.yaml").write_text(text.replace("  seed: 7", "  seed: 7\n  verify: 10 %"))
    told = harness("check", "plan.yaml", cwd=tmp_path)
    assert told.returncode == 0
    assert "users: verify 0.1" in told.stdout


def test_a_folder_that_is_no_run_is_said_to_be_none(repo: Path, tmp_path: Path) -> None:
    told = harness("judge", str(tmp_path), cwd=repo)
    assert told.returncode == ExitStatus.UNKNOWN
    assert "plan.json" in told.stderr


MIXED = "locustfiles/mixed.py"


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (("--workers", "2"), ExitStatus.USAGE, "need a LOCUSTFILE"),
        ((MIXED,), ExitStatus.USAGE, "give --host URL"),
        (("no.py", "--host", "http://127.0.0.1:9"), ExitStatus.USAGE, "no file no.py"),
        ((MIXED, "--host", "http://127.0.0.1:9", "--workers", "x"), ExitStatus.USAGE, "'x'"),
        ((MIXED, "--host", "http://127.0.0.1:9", "--rate", "fast"), ExitStatus.USAGE, "not a rate"),
        ((MIXED, "--host", "http://x.example", "--calibrate"), ExitStatus.REFUSED, "not this mach"),
        ((MIXED, "--host", "http://127.0.0.1:9", "--listen", "x"), ExitStatus.USAGE, "HOST:PORT"),
    ],
)
def test_load_refuses_what_it_cannot_do_before_anything_is_sent(
    repo: Path, tmp_path: Path, args: tuple[str, ...], status: ExitStatus, says: str
) -> None:
    told = harness("load", *args, "--runs", str(tmp_path / "runs"), cwd=repo)
    assert told.returncode == status
    assert says in told.stderr
    assert not (tmp_path / "runs").exists()


def test_load_tells_what_became_of_the_traffic(repo: Path, tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    with StandIn() as server:
        args = ("--host", server.url, "--rate", "60/s", "--duration", "1s")
        told = harness("load", MIXED, *args, "--runs", runs, cwd=repo)
        assert told.returncode == ExitStatus.PASS, told.stdout + told.stderr
        assert "needed: 1 worker (60/s at the peak" in told.stdout
        total = next(line for line in told.stdout.splitlines() if line.startswith("all "))
        planned, sent, *others = total.split()[1:6]
        assert (planned, others) == (sent, ["0", "0", "0"])
        run_dir = Path(told.stdout.splitlines()[-1].removeprefix("evidence: "))
        assert [p.name for p in (run_dir / "tallies").iterdir()] == ["w0.jsonl"]


def test_check_says_how_many_workers_the_rate_needs(repo: Path) -> None:
    told = harness("check", "experiments/gamedays/lab.yaml", "--rate", "8000/s", cwd=repo)
    assert "workers: 1; 8000/s at the peak; one " in told.stdout
    assert "the rate needs " in told.stdout


#: The stock tool's ``chaos validate``, for one file after another: what costs is to start it.
VALIDATE = """
import sys
from chaostoolkit.cli import cli

for path in sys.argv[2:]:
    print(path, flush=True)
    log = ["--no-version-check", "--log-file", sys.argv[1]]
    # It returns the experiment, or the status it would exit with.
    if cli([*log, "validate", path], standalone_mode=False) in range(1, 256):
        sys.exit(f"{path} is not valid")
"""


def test_every_experiment_passes_chaos_validate(repo: Path, tmp_path: Path) -> None:
    found = sorted(str(path) for path in (repo / "experiments").rglob("*.json"))
    assert len(found) >= 10
    told = subprocess.run(
        [sys.executable, "-c", VALIDATE, str(tmp_path / "log"), *found],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert [line for line in told.stdout.splitlines() if line in found] == found


def test_a_receiver_that_the_target_does_not_have_is_refused(repo: Path, tmp_path: Path) -> None:
    target = (repo / "docs" / "target-example.yaml").read_text()
    plan = (repo / "experiments" / "gamedays" / "alerts.yaml").read_text()
    (tmp_path / "target.yaml").write_text(target)
    names = plan.replace("http://api.fileservice.lab:8080", "https://api.example.com")
    (tmp_path / "plan.yaml").write_text(names.replace(" to webhook, slack,", " to pager, slack,"))
    told = harness(
        "check", f"{tmp_path}/plan.yaml", "--target", f"{tmp_path}/target.yaml", cwd=repo
    )
    assert told.returncode == ExitStatus.PLAN_INVALID
    assert "expects alerts at pager, pagerduty" in told.stderr
    assert "audit, mail, oncall, team" in told.stderr
