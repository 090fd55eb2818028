"""``make fuzz``: the client against a hostile server, for as long as is wanted."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.load.fuzz.parsers import compare
from tests.load.fuzz.runner import Runner, running, shrunk
from tests.load.fuzz.script import CORPUS, Case, cases, corpus, mutants


def main() -> int:
    """Fuzz; 0 when nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--at-once", type=int, default=64)
    options = parser.parse_args()
    end_m = time.monotonic() + options.minutes * 60
    problems: list[tuple[Case, str]] = []
    wrong = False
    print(f"seed {options.seed}, {options.minutes:g} minutes", flush=True)

    # A fifth of the time for the parsers alone, which are faster.
    read = compare(options.seed, time.monotonic() + options.minutes * 12)
    print(f"parsers: {read.answers} answers, {dict(read.kinds.most_common())}", flush=True)
    for said, problem in read.problems:
        print(f"FOUND {problem}: {said!r}"[:500], flush=True)

    def until_the_end(source):
        return itertools.takewhile(lambda _: time.monotonic() < end_m, source)

    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as runner:

        def found(case: Case, problem: str) -> None:
            if len(problems) < 20:
                problems.append((case, problem))
                print(f"FOUND {problem}", flush=True)

        kept = (case for _, case in corpus())
        generated, mutated = cases(options.seed), mutants(options.seed)
        mixed = itertools.chain(kept, _interleaved(generated, generated, mutated))
        begun_m = time.monotonic()
        runner.run(until_the_end(mixed), options.at_once, found)
        took_s = time.monotonic() - begun_m
        for case, problem in problems:
            wrong |= keep(runner, case, problem)
        exchanges = sum(runner.outcomes.values())
        print(
            f"sockets: {runner.cases} cases, {exchanges} exchanges in {took_s:.0f} s; outcomes:",
            *(f"  {name:20} {n}" for name, n in runner.outcomes.most_common()),
            sep="\n",
        )
    return 1 if wrong or read.problems else 0


def _interleaved(*sources: Iterator[Case]) -> Iterator[Case]:
    while True:
        for source in sources:
            yield next(source)


def keep(runner: Runner, case: Case, problem: str) -> bool:
    """Shrink what was found and put it into the corpus; False for what is not seen again and may
    be the machine's fault."""
    if not any(runner.problem(case) for _ in range(4)):
        print(f"not seen again: {problem}", flush=True)
        if "timeout" in problem or "took" in problem:
            return False
    else:
        case = shrunk(case, lambda c: bool(runner.problem(c)))
    text = replace(case, why=problem).to_json()
    path = CORPUS / f"found-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"
    path.write_text(text)
    print(f"kept {path.name}: {problem}", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
