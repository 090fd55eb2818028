"""Beyond 10,000 connections, each is used again and none is made anew."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.load.many_connections import RESERVE, WANTED


def test_more_than_ten_thousand_connections_are_all_used_again() -> None:
    # A process of its own: its limit of descriptors is raised as far as the system lets it.
    ran = subprocess.run(
        [sys.executable, "-m", "tests.load.many_connections"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    found = json.loads(ran.stdout)
    if found["limited"]:
        print(f"only {found['connections']} connections: the system allows no more descriptors")
    else:
        assert found["connections"] == WANTED
        assert found["highest_descriptor"] > WANTED
    assert found["connections"] + RESERVE > 1024
    assert (found["new_connections"], found["new_at_server"], found["failures"]) == (0, 0, 0)
    assert found["requests"] == found["connections"] * (found["rounds"] + 1)
