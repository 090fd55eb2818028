"""One lab for all tests that need a whole one: booting it is most of their cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.lab.handle import Running
from tests.lab.whole import lab as running_lab


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With two workers: what needs the lab on one, the rest by folder on both.

    Tests of one folder share addresses, so they never run at the same time.
    """
    for item in items:
        name = "lab" if item.get_closest_marker("lab") else str(item.path.parent)
        item.add_marker(pytest.mark.xdist_group(name))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A healthy lab. A test that breaks something must wait until it is healthy again."""
    with running_lab(tmp_path_factory.mktemp("lab") / "state") as running:
        yield running


@pytest.fixture(scope="session")
def repo() -> Path:
    return Path(__file__).resolve().parents[1]
