"""What a real Locust run counted, and what the server did: the same, to the last byte."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
BODIES = {"/ok": (200, 100), "/missing": (404, 30), "/broken": (503, 7), "/put": (201, 0)}
ENGINE = """
from harness.load.user import OpenLoopUser, get, put
class Site(OpenLoopUser):
    ok = get("/ok", weight=6, length=100)
    missing = get("/missing", weight=2)
    broken = get("/broken", weight=1)
    put = put("/put", weight=3, body=b"x" * 1000, expect=(201,))
"""
SURFACE = """
from locust import constant, task
from locust.exception import StopUser
from harness.load.session import HarnessUser
left = [4]
class Site(HarnessUser):
    wait_time = constant(0)
    @task
    def all(self):
        for _ in range(50):
            self.client.get("/ok")
            self.client.get("/missing")
            self.client.get("/broken")
            self.client.put("/put", data=b"x" * 1000)
        left[0] -= 1
        if not left[0]:
            self.environment.runner.quit()
        raise StopUser
"""


class Counting:
    """Answers, and counts requests and bytes by path."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Counting:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                path = head.split(" ", 2)[1]
                size = int((head.lower().partition("content-length: ")[2] or "0\r").split("\r")[0])
                await reader.readexactly(size)
                status, length = BODIES[path]
                said = f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n" + "y" * length
                self.requests[path] += 1
                self.bytes[path] += len(said) + size
                writer.write(said.encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def locust(folder: Path, text: str, url: str, *options: str, **variables: str) -> None:
    (folder / "locustfile.py").write_text(text)
    env = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
    ran = subprocess.run(
        [sys.executable, "-m", "locust", "--headless", "--host", url, "--only-summary", *options],
        cwd=folder,
        env={**env, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr


def test_the_engine_and_the_server_count_the_same(tmp_path: Path) -> None:
    with Counting() as server:
        variables = {"HARNESS_RUN_DIR": str(tmp_path), "DURATION": "1.5", "RATE": "200"}
        locust(tmp_path, ENGINE, server.url, "--json-file", "report", **variables)
        found: dict[str, Counter[str]] = {"n": Counter(), "bytes": Counter()}
        outcomes: Counter[tuple[str, str, str]] = Counter()
        lines = [json.loads(x) for x in (tmp_path / "tallies/w0.jsonl").read_text().splitlines()]
        for line in lines:
            for second in line.get("seconds", {}).values():
                for cell in second["cells"]:
                    outcomes[cell["op"], cell["outcome"], cell["error"]] += cell["n"]
                    for figure in found:
                        found[figure]["/" + cell["op"]] += cell[figure]
    end = next(line for line in lines if line["kind"] == "tally.end")
    assert found == {"n": server.requests, "bytes": server.bytes}
    assert end["planned"] == end["sent"] == server.requests.total()
    assert (end["not_sent"], end["in_flight"]) == (0, 0)
    assert outcomes == {
        ("ok", "ok", ""): server.requests["/ok"],
        ("put", "ok", ""): server.requests["/put"],
        ("missing", "failed", "status-404"): server.requests["/missing"],
        ("broken", "failed", "status-503"): server.requests["/broken"],
    }
    entries = json.loads((tmp_path / "report.json").read_text())
    assert {f"/{e['name']}": e["num_requests"] for e in entries} == server.requests


def test_the_surface_and_the_server_count_the_same(tmp_path: Path) -> None:
    with Counting() as server:
        locust(tmp_path, SURFACE, server.url, "-u", "4", "-r", "4", "--json-file", "report")
    entries = {e["name"]: e for e in json.loads((tmp_path / "report.json").read_text())}
    assert {name: e["num_requests"] for name, e in entries.items()} == server.requests
    assert dict(server.requests) == dict.fromkeys(BODIES, 200)
    for name, entry in entries.items():
        status, length = BODIES[name]
        assert entry["total_content_length"] == 200 * length
        assert entry["num_failures"] == (200 if status >= 400 else 0)
