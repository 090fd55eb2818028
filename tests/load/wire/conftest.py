"""A poller, and clients that use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from harness.clock import SystemClock
from harness.load.resolver import Resolver
from harness.load.wire.client import HttpClient
from harness.load.wire.origin import Limits
from harness.load.wire.poller import Poller
from tests import certificate as certificates


@pytest.fixture
def poller() -> Iterator[Poller]:
    poller = Poller()
    yield poller
    poller.stop()


@pytest.fixture
def client(poller: Poller) -> Iterator[Callable[..., HttpClient]]:
    """Makes clients of a URL; closes them in the end."""
    made: list[HttpClient] = []

    def make(url: str, resolver: Resolver | None = None, **limits: float) -> HttpClient:
        resolver = resolver or Resolver(SystemClock())
        made.append(HttpClient(url, resolver, poller=poller, limits=Limits(**limits)))
        return made[-1]

    yield make
    for one in made:
        one.close()
    gevent.sleep(0)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a self-signed certificate for localhost, in one file."""
    return certificates.certificate(tmp_path_factory.mktemp("tls"))
