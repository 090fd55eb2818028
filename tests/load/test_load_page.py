"""docs/load.md says of errors what the client says."""

from __future__ import annotations

import re
from pathlib import Path

from harness.load.wire.message import ERRORS

PAGE = Path(__file__).resolve().parents[2] / "docs/load.md"


def test_every_error_and_its_meaning_are_on_the_page():
    table = PAGE.read_text("utf-8").partition("| error |")[2]
    rows = re.findall(r"^\| `([\w-]+)` \| (.+) \|$", table, re.MULTILINE)
    assert dict(rows) == ERRORS
