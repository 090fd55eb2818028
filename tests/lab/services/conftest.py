from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from services_world import World


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    # Not below pytest's own folder: its path may be too long for a Unix socket.
    with tempfile.TemporaryDirectory(prefix="services-") as root:
        Path(root).chmod(0o755)
        world = World(Path(root), base=102)
        try:
            world.start()
            yield world
        finally:
            world.stop()
