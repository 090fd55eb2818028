"""One lab for all tests that need a whole one: booting it is most of their cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.lab.handle import Running
from tests.lab.whole import lab as running_lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A healthy lab. A test that breaks something must wait until it is healthy again."""
    with running_lab(tmp_path_factory.mktemp("lab") / "state") as running:
        yield running


@pytest.fixture(scope="session")
def repo() -> Path:
    return Path(__file__).resolve().parents[1]
