"""The page for whoever adds an objective is true: what it says to do is done, on a copy."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

#: What the page changes, and what must be there to try it.
COPIED = (
    "harness", "experiments", "locustfiles", "pyproject.toml",
    "tests/verdict/build.py", "tests/selftest/test_defects.py",
)  # fmt: skip
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"(?:In|New,) `([\w./-]+\.(?:py|yaml))`")
TRIED = "in_doubt or in-doubt or enough_of_both or every_objective or every_check_named"


def changed(text: str, block: str) -> str:
    """``text`` with one block of the page applied, whose lines must be in it once."""
    lines = block.splitlines()
    old = "".join(f"{line[1:]}\n" for line in lines if line[:1] in (" ", "-"))
    new = "".join(f"{line[1:]}\n" for line in lines if line[:1] in (" ", "+"))
    assert text.count(old) == 1, f"not there, or more than once:\n{old}"
    return text.replace(old, new)


@pytest.fixture(scope="module")
def page(repo: Path) -> str:
    return (repo / "docs/adding-an-objective.md").read_text()


@pytest.fixture(scope="module")
def copy(repo: Path, page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source with everything done that the page says."""
    root = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (repo / name).is_dir():
            shutil.copytree(repo / name, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(repo / name, place)
    (root / "tests/conftest.py").write_text("")
    for found in FENCE.finditer(page):
        kind, block = found.groups()
        if kind not in ("diff", "python"):
            continue
        path = root / FILE.findall(page[: found.start()])[-1]
        path.write_text(block if kind == "python" else changed(path.read_text(), block))
    return root


def test_what_comes_out_does_what_the_page_says(copy: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", "-k", TRIED,
         "tests/verdict/test_in_doubt.py", "tests/selftest/test_defects.py"],
        cwd=copy, env={"PYTHONPATH": str(copy)}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-1000:]
    for name in (
        "test_what_timed_out_is_in_doubt[21-fail]",
        "test_the_judge_says_what_is_so[uploads-in-doubt]",
        "test_the_judge_says_what_is_so[two-uploads-in-doubt]",
        "test_there_are_enough_of_both_and_each_kind_of_finding_is_tried",
        "test_every_check_named_is_one_of_the_judges_and_every_defect_named_is_there",
    ):
        assert re.search(rf"^PASSED .*{re.escape(name)}$", told.stdout, re.MULTILINE), name


def test_what_comes_out_is_written_as_the_rest_is(copy: Path) -> None:
    files = ["harness/plan", "harness/verdict", "tests/verdict/test_in_doubt.py"]
    for how in (["check", "-q"], ["format", "--check", "-q"]):
        told = subprocess.run(
            [sys.executable, "-m", "ruff", *how, *files],
            cwd=copy, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stdout


def test_what_the_page_names_is_there(repo: Path, page: str) -> None:
    judges = {path.name: path.read_text() for path in (repo / "harness/verdict").glob("*.py")}
    known = "".join(judges.values()) + (repo / "harness/plan/model.py").read_text()
    table = page.partition("## When one phase at a time is not enough")[2]
    named = re.findall(r"`(_[A-Za-z_]+|[A-Z][a-z]+)`", table)
    assert len(named) > 8
    for name in named:
        assert re.search(rf"\b{name}\b", known), name
    for kind, file in re.findall(r"`(\w+)` in `(\w+\.py)`", table):
        assert f"def judge_{kind.lower()}(" in judges[file], (kind, file)
    for link in re.findall(r"\]\(([\w./-]+)\)", page):
        assert (repo / "docs" / link).exists(), link
