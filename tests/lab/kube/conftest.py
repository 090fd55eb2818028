"""The cluster most tests here need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.kube.kube_world import LabCluster, deployment, service, wait_until


@pytest.fixture()
def kube(tmp_path: Path) -> Iterator[LabCluster]:
    """A cluster with the app ``file``: two ready pods behind a service."""
    made = LabCluster(tmp_path, 10)
    try:
        made.apply(service())
        made.apply(deployment())
        wait_until(lambda: len(made.endpoints()) == 2)
        yield made
    finally:
        made.close()
