"""The fixture of the tests that run the lab's real programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.lab.part import Part


@pytest.fixture
def parts() -> Iterator[list[Part]]:
    """Parts put in here are killed when the test ends, however it ends."""
    started: list[Part] = []
    yield started
    for part in started:
        part.kill()
