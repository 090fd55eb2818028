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


ODD = """
import gevent.monkey; gevent.monkey.patch_all()
import gzip, json
from locust.env import Environment
from harness.load import session
from tests.load.wire.scripted import Scripted, answer

session.DECODED_MAX_BYTES = 1000

def seen(said):
    with Scripted([[said]]) as server:
        environment, events = Environment(), []
        environment.events.request.add_listener(lambda **event: events.append(event))
        made = type("Odd", (session.HarnessUser,), {"host": server.url, "network_timeout": 2.0})
        made(environment).client.get("/x")
        return [type(event["exception"]).__name__ for event in events]

print(json.dumps(
    [seen(answer(b"", "302 Found", Location=to)) for to in ("http://[", "http://:80/", "http://h:x/")]
    + [seen(answer(b, Content_Encoding=e)) for b, e in (
        (gzip.compress(b"x" * 1000), "gzip"), (gzip.compress(b"x" * 9999), "gzip"),
        (gzip.compress(b"x")[:-4], "gzip"), (b"no", "br"))]
))
"""


def test_an_answer_that_leads_nowhere_or_cannot_be_decoded_is_counted_once() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", ODD],
        cwd=PROGRAM.parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    nowhere, wrong = ["ConnectionError"], ["ValueError"]
    assert json.loads(ran.stdout.splitlines()[-1]) == [
        *[nowhere] * 3,
        ["NoneType"],
        wrong,
        ["error"],
        wrong,
    ]
