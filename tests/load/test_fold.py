"""What Locust's statistics know is the same, one request told at a time or many added up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_requests_added_up_at_once_are_known_as_if_each_had_been_told() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.load.batched"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["compared"] > 3_000
