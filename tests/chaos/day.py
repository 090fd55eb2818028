"""A whole game day of the real command line, but without traffic: ``python -m tests.chaos.day``.

Runs ``harness run`` with the conductor, its signals, watchdog, guards, Chaos Toolkit, faults,
preflight of the plan, judge and reports as they are. Only what needs a service to look at is left
out: nothing is sent or watched, and whether the service is well is not asked. Such a day is
*unknown* (111) when it is not stopped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

#: A pod, a zone and the primary region; the experiments of the repository without their hypotheses,
#: which need the whole service.
FAULTS = {
    "pod": "pods/kill-file-pods.json",
    "zone": "zones/lose-us-east-1a.json",
    "region": "region/lose-us-east-1.json",
}

PLAN = """\
version: 1
name: storm
target: {{service: "http://127.107.1.1:8080", primary: us-east-1, standby: us-west-2}}
traffic:
  locustfile: {locustfile}
  rate: 50/s
  arrivals: even
  seed: 7
  mix: {{download: 97, upload: 2, image: 1}}
  timeout: 5s
baseline: 300ms
faults:
{faults}
cool_down: 200ms
objectives:
  - error rate: below 1 %
"""


class Quiet:
    """Stands for traffic, watching and preflight alike: whatever is asked, nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None: ...


def write_plan(folder: Path, only: Sequence[str] = tuple(FAULTS), hold_s: float = 0.4) -> Path:
    """The plan of the day and its experiments, in ``folder``; ``only`` these faults."""
    faults = []
    for name in only:
        file = FAULTS[name]
        experiment = json.loads((ROOT / "experiments" / file).read_text())
        for key in ("steady-state-hypothesis", "secrets"):
            experiment.pop(key, None)
        experiment["rollbacks"] = experiment["rollbacks"][:1]
        path = folder / f"{name}.json"
        path.write_text(json.dumps(experiment))
        times = f"hold: {hold_s:g}s, recovery: 300ms"
        faults.append(f"  - {{name: {name}, experiment: {path}, {times}}}")
    plan = folder / "day.yaml"
    locustfile = ROOT / "locustfiles" / "mixed.py"
    plan.write_text(PLAN.format(locustfile=locustfile, faults="\n".join(faults)))
    return plan


def main() -> None:
    """``harness`` with what ``sys.argv`` says."""
    from harness import conductor
    from harness.cli import main as command_line
    from harness.target import preflight

    for name in ("LoadDriver", "Pass", "read_back", "fetch_series"):
        setattr(conductor, name, Quiet)
    preflight._checks = lambda *_: {}  # type: ignore[assignment]
    conductor.expected = lambda _: {}  # type: ignore[assignment]
    conductor.observers = lambda _: []  # type: ignore[assignment]
    command_line()


if __name__ == "__main__":
    main()
