"""Nobody goes on sending when the harness, or Locust's master, is killed.

One of each kind here; ``make orphans`` does fifty (HARNESS_ORPHANS).
"""

from __future__ import annotations

import os
from pathlib import Path

from . import orphans

COUNT = int(os.environ.get("HARNESS_ORPHANS", "0"))


def test_no_request_comes_two_seconds_after_the_harness_or_the_master_was_killed(
    tmp_path: Path,
) -> None:
    kinds = [orphans.KINDS[n % len(orphans.KINDS)] for n in range(COUNT)] or orphans.KINDS[1:2]
    found = []
    for number, (killed, processes) in enumerate(kinds):
        found.append(orphans.orphaned(tmp_path / str(number), killed, processes))
        print(number, found[-1], flush=True)
    for kind in sorted({(one.killed, one.processes) for one in found}):
        last = sorted(one.last_s for one in found if (one.killed, one.processes) == kind)
        print(f"{kind[0]} of {kind[1]} killed {len(last)} times: last request after "
              f"{last[len(last) // 2]:.3f} s (median), {last[-1]:.3f} s (longest)")  # fmt: skip
    assert [one for one in found if one.late] == []
