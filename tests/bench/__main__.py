"""``make bench``: what the generator costs beside others, and how true its figures are.

Prints the bounds with what was measured. A run of everything in full length also writes
``docs/performance.md`` and the JSON it is made from.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.errors import LabError
from tests.bench import machine, own, programs, report, scenarios
from tests.bench.contestants import OURS, REPO, STOCK, others
from tests.bench.runs import BenchError
from tests.bench.target import Nginx

OWN = "own"
BUILD = REPO / "build"
DOCS = REPO / "docs"


def main(argv: list[str] | None = None) -> int:
    """The exit status: 0 whatever was measured, 1 when the bench itself did not work."""
    options = _options(argv)
    everything = [*scenarios.SCENARIOS, OWN]
    wanted = options.scenario or everything
    facts = machine.facts()
    lengths = scenarios.QUICK if options.quick else scenarios.FULL
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    generator, target = _cores()
    # The bench itself mostly sleeps; where it wakes up must not be the generator's core.
    os.sched_setaffinity(0, target)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            folder = Path(scratch)
            with Nginx(folder / "nginx", target, fetched=options.fetched) as nginx:
                found, missing = _programs(options.fetched)
                bench = scenarios.Bench(
                    nginx,
                    [*OURS, *STOCK, *others(found)],
                    lengths,
                    folder,
                    generator=generator,
                    both=generator | target,
                )
                bench.results |= {
                    "date": datetime.now(UTC).strftime("%Y-%m-%d"),
                    "machine": facts,
                    "lengths": asdict(lengths),
                    "tools": [
                        {"name": n, "version": p.version}
                        for n, p in {"nginx": nginx.program, **found}.items()
                    ],
                    "missing": missing,
                }
                scenarios.run(bench, [name for name in wanted if name != OWN])
        if OWN in wanted:
            bench.results["recording"] = own.recording(lengths.rounds)
            bench.results["judging"] = own.judging(lengths.rounds)
    except (BenchError, LabError) as error:
        print(f"bench: {error}", file=sys.stderr)
        if getattr(error, "hint", ""):
            print(f"hint: {error.hint}", file=sys.stderr)  # type: ignore[union-attr]
        return 1
    _write(bench.results, publish=not options.quick and set(wanted) == set(everything))
    print(report.summary(bench.results))
    return 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, for development")
    parser.add_argument(
        "--fetched",
        action="store_true",
        help="nginx, wrk, hey and h2load from the package archive even where they are installed",
    )
    parser.add_argument("scenario", nargs="*", choices=[*scenarios.SCENARIOS, OWN, []])
    return parser.parse_args(argv)


def _cores() -> tuple[set[int], set[int]]:
    """One core for the generator and another for the target."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("bench: needs two cores, one for the generator and one for the target")
    return {cores[0]}, {cores[1]}


def _programs(fetched: bool) -> tuple[dict[str, programs.Program], list[dict[str, str]]]:
    found: dict[str, programs.Program] = {}
    missing = []
    for source in programs.SOURCES:
        try:
            found[source.name] = programs.find(source, fetched=fetched)
        except LabError as error:
            why = str(error).splitlines()[0]
            print(f"not measured: {why}; get it: {source.get}", file=sys.stderr)
            missing.append({"name": source.name, "get": source.get})
    return found, missing


def _write(results: dict[str, Any], *, publish: bool) -> None:
    text = _lines(results) + "\n"
    # From what was written: the page is a function of that file.
    page = report.render(json.loads(text))
    BUILD.mkdir(exist_ok=True)
    places = [(BUILD / "bench.json", BUILD / "performance.md")]
    if publish:
        places.append((DOCS / "performance.json", DOCS / "performance.md"))
    for json_path, page_path in places:
        json_path.write_text(text)
        page_path.write_text(page)
        print(f"written: {page_path.relative_to(REPO)}", file=sys.stderr)


def _lines(value: Any, depth: int = 0) -> str:
    """JSON with a line for each run, so that two files can be compared."""
    inner = "\n" + " " * (depth + 1)
    if isinstance(value, dict) and "cpu_us" not in value:
        pairs = [f"{json.dumps(k)}: {_lines(v, depth + 1)}" for k, v in sorted(value.items())]
        return "{" + inner + f",{inner}".join(pairs) + "\n" + " " * depth + "}" if pairs else "{}"
    if isinstance(value, list) and value and isinstance(value[0], (dict, str)):
        parts = [_lines(v, depth + 1) for v in value]
        return "[" + inner + f",{inner}".join(parts) + "\n" + " " * depth + "]"
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
