"""One real AWS server for this folder, and the two ends that talk to it."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from harness.lab import proc
from harness.lab.aws import server
from harness.lab.aws.seed import SeedConfig

HOST, PORT = "127.104.0.21", 4566
URL = f"http://{HOST}:{PORT}"
CONFIG = SeedConfig(base=104, time_scale=10.0)


@dataclass
class Aws:
    """The server as callers (``client``) and as the supervisor (``state`` …) see it."""

    pid: int
    ready_s: float

    def client(self, service: str, region: str = "us-east-1") -> Any:
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=URL,
            aws_access_key_id="lab",
            aws_secret_access_key="lab",
            config=Config(retries={"max_attempts": 0}),
        )

    def poll(self, after: int = -1, wait_s: float = 0.0) -> dict[str, Any]:
        return self._get(f"state?after={after}&wait_s={wait_s}")

    def state(self) -> dict[str, Any]:
        return self.poll()["state"]

    def one(self, kind: str, **match: str) -> dict[str, Any]:
        """The entry of a kind of state that has these values."""
        found = [e for e in self.state()[kind] if match.items() <= e.items()]
        assert len(found) == 1, found
        return found[0]

    @property
    def seed(self) -> dict[str, Any]:
        return self._get("seed")

    def put_truth(self, **truth: Any) -> None:
        body = json.dumps(truth).encode()
        with urllib.request.urlopen(
            urllib.request.Request(f"{URL}/_lab/truth", data=body, method="PUT"), timeout=10
        ):
            pass

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{URL}/_lab/{path}", timeout=30) as answer:
            return json.load(answer)


def _start(folder: Path) -> Iterator[Aws]:
    seed = CONFIG.write(folder / "seed.json")
    log = folder / "aws.log"
    start = time.monotonic()
    process = proc.spawn(server.command(HOST, PORT, seed), log=log)
    try:
        while True:
            with contextlib.suppress(OSError):
                aws = Aws(process.pid, time.monotonic() - start)
                assert aws.seed
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() - start < 30, log.read_text()
            time.sleep(0.05)
        yield aws
    finally:
        proc.end(process)


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    yield from _start(tmp_path_factory.mktemp("aws"))
