"""``python -m tests.mutants [MODULE …]``: is every decision of the judge noticed by a test?

The tests run once, to learn which lines of ``harness/verdict`` each of them executes. Then each
mutant lives in a child process, forked with everything imported, in which its function is given
other code; the tests that execute its line run there until one fails. One that none notices
survives, and is listed in ``build/mutants.txt``. ``docs/mutants.md`` explains those left; the exit
status is 1 where it does not, and where some were not run.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import random
import re
import select
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.mutants.left import DOCUMENT, Survivor, explained, unexplained
from tests.mutants.mutate import Mutant, functions, mutants

VERDICT = Path(__file__).resolve().parents[2] / "harness" / "verdict"
TESTS = "tests/verdict"
#: They take a quarter of an hour to be learned, and notice little but by chance.
LEFT_OUT = ("--ignore-glob=*/test_tampering*",)
LIST = VERDICT.parents[1] / "build" / "mutants.txt"
_LISTED = re.compile(r"(\w+)\.py:(\d+) \[(.+?)\] ")
#: A mutant in which a test takes so many times what it did, and at least this, does not end: it is
#: noticed. Of CPU time: how busy the machine is does not count.
LIMIT_TIMES, LIMIT_S = 20, 5.0
#: Tests tried on one mutant, the quickest first; more that execute its line would say the same.
MOST_TESTS = 400
#: What these keep does not come from the judge.
_KEPT = {"plan", "plan_of", "evidence_of"}


@dataclass
class Done:
    """What became of the mutants of one module."""

    killed: int = 0
    survived: list[Survivor] = field(default_factory=list)
    not_run: int = 0


@dataclass
class Mutating:
    """A pytest plugin: it runs the tests, then the mutants, instead of the tests alone."""

    modules: list[str]
    sample: int
    jobs: int
    give_up_m: float
    #: only these, where there are any: (module, line, what)
    again: frozenset[tuple[str, int, str]] = frozenset()
    #: (file, line) → tests by how long they took
    by_line: dict[tuple[str, int], list[tuple[float, Any]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    done: dict[str, Done] = field(default_factory=dict)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for item in session.items:
            self._learn(item)
        for tests in self.by_line.values():
            tests.sort(key=lambda test: test[0])
        work = [(module, mutant) for module in self.modules for mutant in self._of(module)]
        self._run(work)
        return True

    def _of(self, module: str) -> list[Mutant]:
        every = list(mutants((VERDICT / f"{module}.py").read_text()))
        self.done[module] = Done()
        if self.again:
            every = [m for m in every if (module, m.line, m.what) in self.again]
        if self.sample and len(every) > self.sample:
            every = random.Random(module).sample(every, self.sample)
        return sorted(every, key=lambda mutant: mutant.line)

    def _learn(self, item: Any) -> None:
        lines: set[tuple[str, int]] = set()
        prefix = str(VERDICT)

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            if not frame.f_code.co_filename.startswith(prefix):
                return None
            if event == "line":
                lines.add((frame.f_code.co_filename, frame.f_lineno))
            return trace

        begun_m = time.monotonic()
        sys.settrace(trace)
        try:
            reports = runtestprotocol(item, nextitem=None, log=False)
        finally:
            sys.settrace(None)
        if any(report.failed for report in reports):
            raise SystemExit(f"{item.nodeid} fails without any mutant")
        for line in lines:
            self.by_line[line].append((time.monotonic() - begun_m, item))

    def _run(self, work: list[tuple[str, Mutant]]) -> None:
        running: dict[int, tuple[int, str, Mutant]] = {}
        left = iter(work)
        for module, mutant in left:
            if time.monotonic() > self.give_up_m:
                self.done[module].not_run += 1
                continue
            while len(running) >= self.jobs:
                self._take(running)
            running |= self._start(module, mutant)
        while running:
            self._take(running)

    def _start(self, module: str, mutant: Mutant) -> dict[int, tuple[int, str, Mutant]]:
        path = str(VERDICT / f"{module}.py")
        tests = self._tests(path, mutant)[:MOST_TESTS]
        if not tests:
            self.done[module].survived.append(_survivor(module, mutant, "no test executes it"))
            return {}
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(out)
            os._exit(_live(module, path, mutant, tests))
        os.close(into)
        return {out: (child, module, mutant)}

    def _tests(self, path: str, mutant: Mutant) -> list[tuple[float, Any]]:
        if mutant.where:
            return self._executing(path, mutant.line)
        found = {
            id(item): (took_s, item)
            for at in _naming(path, mutant.line)
            for took_s, item in self._executing(*at)
        }
        # A default is taken when its class is made; the module's own tests may look at it.
        own = f"test_{Path(path).stem}"
        every = (test for tests in self.by_line.values() for test in tests)
        found |= {id(item): (s, item) for s, item in every if item.path.stem == own}
        return sorted(found.values(), key=lambda test: test[0])

    def _executing(self, path: str, line: int) -> list[tuple[float, Any]]:
        """The line a statement begins at is the one that is traced; look a little above."""
        at = range(line, max(0, line - 12), -1)
        return next((self.by_line[path, n] for n in at if self.by_line.get((path, n))), [])

    def _take(self, running: dict[int, tuple[int, str, Mutant]]) -> None:
        """Wait for one that has ended."""
        ready, _, _ = select.select(list(running), [], [])
        for descriptor in ready:
            child, module, mutant = running.pop(descriptor)
            os.close(descriptor)
            _, status = os.waitpid(child, 0)
            if status == 0:
                self.done[module].survived.append(_survivor(module, mutant, "survived"))
            else:
                self.done[module].killed += 1


def _naming(path: str, line: int) -> Iterator[tuple[str, int]]:
    """Where in the judge the constant that is set in this line is used."""
    name = re.match(r"\w+", Path(path).read_text().splitlines()[line - 1])
    assert name is not None
    word = re.compile(rf"\b{name[0]}\b")
    for file in sorted(VERDICT.glob("*.py")):
        for number, text in enumerate(file.read_text().splitlines(), 1):
            if word.search(text) and (str(file), number) != (path, line):
                yield str(file), number


def _survivor(module: str, mutant: Mutant, why: str) -> Survivor:
    source = (VERDICT / f"{module}.py").read_text().splitlines()[mutant.line - 1].strip()
    return Survivor(module, mutant.line, mutant.what, source, why)


def _live(module: str, path: str, mutant: Mutant, tests: list[tuple[float, Any]]) -> int:
    """In the child: 0 when no test notices the mutant."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    try:
        _become(module, path, mutant)
        _forget()
        for took_s, item in tests:
            signal.setitimer(signal.ITIMER_PROF, max(LIMIT_S, LIMIT_TIMES * took_s))
            if any(report.failed for report in runtestprotocol(item, nextitem=None, log=False)):
                return 1
    except BaseException:  # noqa: BLE001 - whatever it raises, the mutant was noticed
        return 1
    return 0


def _become(module: str, path: str, mutant: Mutant) -> None:
    """Give the functions of a module the mutant's code, or the modules its other number."""
    name = f"harness.verdict.{module}"
    mine = sys.modules[name]
    code = mutant.code(path)
    if mutant.where:
        _function(mine, mutant.where).__code__ = functions(code)[mutant.where]
        return
    before = dict(vars(mine))
    fresh: dict[str, Any] = {"__name__": name, "__file__": path}
    # Classes made anew would be others; only plain values are taken over.
    exec(code, fresh)
    for key, value in before.items():
        if isinstance(value, (int, float, tuple, frozenset)) and fresh.get(key) != value:
            for other in list(sys.modules.values()):
                if getattr(other, "__name__", "").startswith("harness.verdict") and (
                    vars(other).get(key) is value
                ):
                    setattr(other, key, fresh[key])


def _function(holder: Any, qualified: str) -> Any:
    for part in qualified.split("."):
        holder = vars(holder)[part]
    for inner in ("fget", "func", "__func__", "__wrapped__"):
        holder = getattr(holder, inner, None) or holder
    return holder


def _forget() -> None:
    """Verdicts that tests keep from before."""
    for name, module in list(sys.modules.items()):
        if name.startswith("tests."):
            for value in vars(module).values():
                if isinstance(value, functools._lru_cache_wrapper) and (
                    value.__name__ not in _KEPT
                ):
                    value.cache_clear()


def _modules(wanted: list[str]) -> list[str]:
    every = sorted(p.stem for p in VERDICT.glob("*.py") if p.stem != "__init__")
    unknown = [name for name in wanted if name not in every]
    if unknown:
        raise SystemExit(f"no module {unknown[0]}; there are {', '.join(every)}")
    return wanted or every


def _again(listed: str) -> frozenset[tuple[str, int, str]]:
    """The mutants in a list of survivors."""
    found = (match.groups() for line in listed.splitlines() if (match := _LISTED.match(line)))
    return frozenset((module, int(line), what) for module, line, what in found)


def _report(done: dict[str, Done]) -> Iterator[str]:
    total: Counter[str] = Counter()
    yield f"{'module':16} {'killed':>7} {'survived':>9} {'not run':>8}"
    for module, found in done.items():
        n = len(found.survived)
        total += Counter(killed=found.killed, survived=n, not_run=found.not_run)
        yield f"{module:16} {found.killed:7} {n:9} {found.not_run:8}"
    yield f"{'all':16} {total['killed']:7} {total['survived']:9} {total['not_run']:8}"
    yield ""
    for found in done.values():
        yield from map(str, found.survived)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", help="of harness/verdict; default: all")
    parser.add_argument("--sample", type=int, default=0, help="mutants of each module (0: all)")
    parser.add_argument("--tests", default=TESTS, help="files or folders, with commas between")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=30.0, help="after which none is begun")
    parser.add_argument("--again", help="only what survived in this file, which is made anew")
    parser.add_argument("--into", default=str(LIST), help="file for the list of survivors")
    given = parser.parse_args()
    for module in _modules([]):
        importlib.import_module(f"harness.verdict.{module}")
    again = _again(Path(given.again).read_text()) if given.again else frozenset()
    modules = _modules(given.modules or sorted({module for module, _, _ in again}))
    give_up_m = time.monotonic() + 60 * given.minutes
    plugin = Mutating(modules, given.sample, given.jobs, give_up_m, again)
    quiet = ["-q", "-p", "no:cacheprovider", "-p", "no:timeout", *LEFT_OUT]
    pytest.main([*quiet, "--override-ini=addopts=", *given.tests.split(",")], plugins=[plugin])
    lines = list(_report(plugin.done))
    into = Path(given.again or given.into)
    into.parent.mkdir(exist_ok=True)
    into.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    survived = [survivor for found in plugin.done.values() for survivor in found.survived]
    new = list(unexplained(survived, explained(DOCUMENT.read_text())))
    if new:
        print(f"\n{len(new)} of them docs/mutants.md does not explain:", *new, sep="\n")
    missing = sum(found.not_run for found in plugin.done.values())
    if missing:
        print(f"\n{missing} were not run: give it more than {given.minutes:g} minutes")
    return 0 if plugin.done and not new and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
