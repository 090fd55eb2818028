"""The judge held against real runs on a lab with seeded defects.

A case names the defects the lab starts with, which faults of the plan are made, and what must be
found. Cases that need the same lab share it. Each run is a process of its own, ``harness run``, as
a user would start it, and is given no longer than it can need.
"""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from harness.plan.model import Plan
from harness.plan.reader import read_plan
from harness.selftest.cases import FOLDER, Case, Entry, entries, expectation
from harness.selftest.check import FALSE_ALARM, MISSED, Result, compare, judge_folder
from harness.selftest.liar import LIES, Liar, asking

LAB = FOLDER / "lab.yaml"
#: What is run, by the word after ``day:``; the first where there is none.
DAYS = {
    "losses": Path("experiments/gamedays/lab.yaml"),
    "deliveries": Path("experiments/gamedays/delivery.yaml"),
    "alerts": Path("experiments/gamedays/alerts.yaml"),
    "scaling": Path("experiments/gamedays/scaling.yaml"),
    "degradation": Path("experiments/gamedays/degradation.yaml"),
}
#: What a run may take beyond its phases: preflight, faults made and undone, reading back, judging.
MORE_S = 150.0
STOP_S = 30.0
#: The metric that is lied about: the one objectives are judged by.
METRIC = "http_requests_total"
_OWN = ("lab", "load", "lie", "faults", "rate")


@dataclass(frozen=True)
class LabCase:
    """A case and how it is run. ``plan_file``: its day; ``lab``: seeded defects; ``load``: one that
    the generator carries out; ``lie``: how Prometheus lies about the requests; ``faults``: those of
    the plan that are made; ``rate``: arrivals, such as ``60/s``."""

    case: Case
    plan_file: Path
    lab: tuple[str, ...]
    load: str
    lie: str
    faults: tuple[str, ...]
    rate: str


#: A lab with these defects; gives the path of its target file.
Lab = Callable[[tuple[str, ...]], AbstractContextManager[Path]]


def read_lab_cases(days: Mapping[str, Plan], path: Path = LAB) -> list[LabCase]:
    """The cases in ``path``, each with a plan of ``days``. PlanInvalid as of ``read_cases``."""
    return [_lab_case(entry, entry.day(days)) for entry in entries(path)]


def _lab_case(entry: Entry, plan: Plan) -> LabCase:
    case = expectation(entry, plan, _OWN)
    faults = entry.names("faults")
    for name in faults:
        if name not in [fault.name for fault in plan.faults]:
            entry.refuse(f"there is no fault {name!r}", "as in the plan", "faults")
    lie = entry.text("lie")
    if lie and lie not in [known.name for known in LIES]:
        known = ", ".join(known.name for known in LIES)
        entry.refuse(f"there is no lie {lie!r}", f"one of {known}", "lie")
    rate = entry.text("rate") or f"{plan.traffic.rate:g}/s"
    lab, load = entry.names("lab"), entry.text("load")
    return LabCase(case, Path(plan.file), lab, load, lie, faults, rate)


class LabChecker:
    """Runs cases on labs started with ``lab``; ``work`` is where plans and run folders go."""

    def __init__(self, work: Path, lab: Lab) -> None:
        self._work, self._lab = work, lab

    def check(self, cases: Iterable[LabCase]) -> Iterator[Result]:
        """What the judge makes of each case."""
        ordered = sorted(cases, key=lambda case: case.lab)
        for defects, group in groupby(ordered, key=lambda case: case.lab):
            with self._lab(defects) as target_file:
                for case in group:
                    yield self._run(case, target_file)

    def _run(self, case: LabCase, target_file: Path) -> Result:
        plan_file = self._work / "plans" / f"{case.case.name}.yaml"
        plan_file.parent.mkdir(parents=True, exist_ok=True)
        plan_file.write_text(with_faults(case.plan_file.read_text(), case.faults))
        plan = read_plan(plan_file, rate=case.rate)
        runs = self._work / "runs" / case.case.name / f"{time.time_ns()}"
        with ExitStack() as stack:
            if case.lie:
                target_file = stack.enter_context(self._lying(case, target_file))
            argv = [sys.executable, "-m", "harness.cli", "run", str(plan_file)]
            argv += ["--target", str(target_file), "--rate", case.rate, "--runs", str(runs)]
            argv += ["--defect", case.load] if case.load else []
            status, told = run_bounded(argv, plan.duration_s + MORE_S)
        folder = next(iter(sorted(runs.glob("*/*/"))), None)
        if folder is None or not (folder / "history.jsonl").is_file():
            return _wrong(case.case, f"there was no run (exit status {status}): {told[-300:]}")
        verdict = judge_folder(folder)
        if status != int(verdict.exit_status):
            said = f"harness run ended with {status}, its folder is judged {verdict.exit_status}"
            return _wrong(case.case, said)
        return compare(case.case, verdict)

    @contextlib.contextmanager
    def _lying(self, case: LabCase, target_file: Path) -> Iterator[Path]:
        """A target file beside the lab's own, with a Prometheus that lies about requests."""
        yaml = YAML(typ="safe")
        document = yaml.load(target_file.read_text())
        lie = next(known for known in LIES if known.name == case.lie)
        liar = Liar(lie, asking(document["prometheus_url"]), about=METRIC)
        try:
            document["prometheus_url"] = liar.url
            lying = target_file.with_name(f"lying-{case.lie}.yaml")
            with lying.open("w") as out:
                yaml.dump(document, out)
            yield lying
        finally:
            liar.close()


def with_faults(text: str, faults: tuple[str, ...]) -> str:
    """The plan with those faults only, and what its objectives say of them and of no others."""
    yaml = YAML(typ="rt")
    plan: Any = yaml.load(text)
    made = plan.pop("faults", [])
    gone = {str(f["name"]) for f in made if f["name"] not in faults}
    if faults:
        plan["faults"] = [fault for fault in made if fault["name"] in faults]
    objectives = []
    for objective in plan["objectives"]:
        for key in ("in", "of"):
            if key in objective:
                given = objective[key]
                named = [str(name) for name in (given if isinstance(given, list) else [given])]
                objective[key] = [n for n in named if n.rpartition(":")[2] not in gone]
        if all(objective[key] for key in ("in", "of") if key in objective):
            objectives.append(objective)
    plan["objectives"] = objectives
    out = io.StringIO()
    yaml.dump(plan, out)
    return out.getvalue()


def run_bounded(argv: list[str], deadline_s: float) -> tuple[int, str]:
    """Exit status and output; after ``deadline_s`` the process is asked to stop, then killed."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        told, _ = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            told, _ = process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            told, _ = process.communicate()
    except BaseException:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        raise
    return process.returncode, told


def _wrong(case: Case, why: str) -> Result:
    outcome = FALSE_ALARM if case.healthy else MISSED
    return Result(case.name, case.area, case.what, case.expected, outcome, why)
