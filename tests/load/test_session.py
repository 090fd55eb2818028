"""A locustfile written for FastHttpUser says the same on HarnessUser: same answers, same events.

Each surface is used on both base classes against one server, in a process of its own (Locust
patches it), and what the user and the listeners saw is compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("surface.py")


@pytest.fixture(scope="module")
def seen() -> dict[str, dict[str, list]]:
    """base class → case → what was seen."""
    found = {}
    for base in ("FastHttpUser", "HarnessUser"):
        ran = subprocess.run(
            [sys.executable, str(PROGRAM), base], capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, ran.stderr
        found[base] = json.loads(ran.stdout.splitlines()[-1])
    return found


def cases() -> list[str]:
    import re

    return re.findall(r"^def case_(\w+)", PROGRAM.read_text(), re.MULTILINE)


@pytest.mark.parametrize("case", cases())
def test_both_classes_see_the_same(seen: dict[str, dict[str, list]], case: str) -> None:
    assert seen["HarnessUser"][case] == seen["FastHttpUser"][case]
    assert seen["HarnessUser"][case]
