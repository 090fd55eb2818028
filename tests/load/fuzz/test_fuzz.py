"""Some fuzzing with fixed seeds, and everything that was ever found. ``make fuzz`` has more."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.load.fuzz.parsers import compare, difference
from tests.load.fuzz.runner import Runner, running
from tests.load.fuzz.script import Asked, Case, cases, corpus, stream


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("fuzz")) as runner:
        yield runner


def test_whatever_was_found_once_is_not_found_again(runner: Runner) -> None:
    found: list[str] = []
    kept = [case for _, case in corpus()]
    assert kept
    runner.run(kept, 16, lambda case, problem: found.append(f"{case.why}: {problem}"))
    assert found == []
    for case in kept:
        for asked in case.exchanges:
            assert difference(stream(asked.steps), asked.method)[1] == "", case.why


def test_the_client_meets_a_hostile_server(runner: Runner) -> None:
    found: list[tuple[Case, str]] = []
    before = runner.outcomes.total()
    runner.run(
        itertools.islice(cases(20), 150), 32, lambda case, problem: found.append((case, problem))
    )
    # What a stalled machine does to a deadline is no finding: it does not come again.
    found = [(case, first) for case, first in found if runner.problem(case)]
    assert found == []
    assert runner.outcomes.total() - before > 300
    assert {"bad-response", "timeout", "unasked", "tls", "whole-2xx"} <= set(runner.outcomes)


def test_a_wrong_outcome_is_found(runner: Runner) -> None:
    said = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    sound = Asked([["request"], ["send", said]], expect=["reset"])
    assert "'a whole answer' where ['reset'] may be" in runner.problem(Case([sound]))


def test_both_parsers_read_the_same() -> None:
    found = compare(20, time.monotonic() + 60.0, most=2_000)
    assert found.problems == []
    assert found.answers == 2_000
    assert {"whole", "cut", "bad-response", "wrong-length"} <= set(found.kinds)


def test_a_difference_between_the_parsers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.load.fuzz.parsers.CHUNKED", -3)  # chunks not understood
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert difference(said, "GET")[1]
