"""A whole zone in small: real database, Redis, queue, stores and pods, and a little DNS."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.lab import manifests, proc
from harness.lab.layout import (
    DB_PORT,
    DB_WRITER_HOST,
    DNS_PORT,
    POD_PORT,
    QUEUE_PORT,
    REDIS_PORT,
    SERVICES,
    STORE_PORT,
    Layout,
)
from harness.lab.postgres import Postgres
from harness.lab.queue import Queue
from harness.lab.redis import Redis
from harness.lab.services.metadata import SCHEMA
from harness.lab.zygote import ZygoteRunner

DEADLINE_S = 10.0


class Dns:
    """Answers A questions from a dictionary, with a TTL of one second."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.records: dict[str, list[str]] = {}
        self.silent = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                query, client = self._socket.recvfrom(512)
            except OSError:
                return
            if query and not self.silent:
                self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        found = self.records.get(".".join(labels), [])
        code = 0x8180 if found else 0x8183
        head = query[:2] + struct.pack(">5H", code, 1, len(found), 0, 0) + query[12 : at + 5]
        record = struct.pack(">3HIH", 0xC00C, 1, 1, 1, 4)
        return head + b"".join(record + socket.inet_aton(ip) for ip in found)

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True)
class Spec:
    """What the Kubernetes part hands to a runner."""

    cluster: str
    zone: str
    region: str
    namespace: str
    name: str
    uid: str
    app: str
    version: str
    ip: str
    port: int
    env: Mapping[str, str]
    log_path: Path


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    host: str,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    port: int = POD_PORT,
) -> Answer:
    """One HTTP request on a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=8)
    with contextlib.closing(connection):
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, received, response.read())


def until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, f"{what} did not happen within {deadline_s} s"
        time.sleep(0.02)


def answers(host: str, port: int, path: str = "/health") -> bool:
    try:
        return call(host, "GET", path, port=port).status == 200
    except OSError:
        return False


class StoreProcess:
    """One regional store as the lab starts it."""

    def __init__(self, layout: Layout, region: str, peer: str, root: Path, lag_s: float) -> None:
        self.host = layout.store(region)
        self.bucket = layout.region(region).bucket
        self._root = root
        self._argv = [sys.executable, "-m", "harness.lab.store", "--host", self.host]
        self._argv += ["--port", str(STORE_PORT), "--region", region, "--bucket", self.bucket]
        self._argv += ["--dir", str(root / region), "--lag-s", str(lag_s)]
        self._argv += ["--peer", f"http://{layout.store(peer)}:{STORE_PORT}"]
        self._log = root / f"{region}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = proc.spawn(self._argv, log=self._log)
        until(lambda: answers(self.host, STORE_PORT), f"start of the store, see {self._log}")

    def end(self) -> None:
        if self.process:
            proc.end(self.process)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        return call(self.host, method, path, body, headers, STORE_PORT)

    def has(self, key: str) -> bool:
        return self.call("HEAD", f"/{self.bucket}/{key}").status == 200

    def replication(self, **settings: object) -> Any:
        if settings:
            return self.call("PUT", "/_store/replication", json.dumps(settings).encode()).json
        return self.call("GET", "/_store/replication").json


class World:
    """The services of cluster us-east-1a with what they need."""

    zone = "us-east-1a"
    region = "us-east-1"

    def __init__(self, root: Path, base: int) -> None:
        self.root = root
        self.layout = Layout(base)
        self.dns = Dns((self.layout.dns, DNS_PORT))
        self.loop = asyncio.Runner()
        logs = root / "logs"
        layout, zone = self.layout, self.zone
        self.database = Postgres("files-db", layout.db(zone), DB_PORT, root / "db", logs / "db.log")
        self.redis = Redis("redis", layout.redis(zone), REDIS_PORT, root / "r", logs / "redis.log")
        (root / "q").mkdir()
        self.queue = Queue("queue", layout.queue(zone), QUEUE_PORT, root / "q", logs / "queue.log")
        self.store = StoreProcess(layout, "us-east-1", "us-west-2", root, 0.2)
        self.peer = StoreProcess(layout, "us-west-2", "us-east-1", root, 0.2)
        self.runner = ZygoteRunner(root / "zygote.sock", logs / "zygote.log")
        self.exits: dict[str, int] = {}
        self.ips: Iterator[str] = iter(layout.pod_ips(zone))
        self.pids: dict[str, int] = {}

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(work)

    async def _start_parts(self) -> None:
        self.dns.records[DB_WRITER_HOST] = [self.layout.db(self.zone)]
        await self.redis.start()
        await self.queue.start()
        await self.runner.open()
        await self.database.init_primary(SCHEMA)
        await self.redis.ready()
        await self.queue.ready()

    def start(self) -> None:
        self.run(self._start_parts())
        self.store.start()
        self.peer.start()
        # A pod is ready once those it calls are.
        for service in sorted(SERVICES, key=lambda name: name == "gateway"):
            self.pod(service, f"{service}-0")
        self.pod("file", "file-1")

    def pod(self, app: str, uid: str, *, listed: bool = True, defects: str = "") -> str:
        """Start a pod, wait until it is ready, and put it into the DNS; returns its address."""
        ip = next(self.ips)
        cluster = self.layout.zone(self.zone).cluster
        env = manifests.pod_env(self.layout, cluster, [d for d in [defects] if d])
        spec = Spec(
            cluster, self.zone, self.region, "files", uid, uid, app, "v1", ip, POD_PORT, env,
            self.root / "logs" / f"{uid}.log",
        )  # fmt: skip
        start = self.runner.start(spec, lambda code: self.exits.__setitem__(uid, code))
        self.pids[uid] = self.run(start)
        until(lambda: answers(ip, POD_PORT), f"start of {uid}, see {spec.log_path}")
        if listed:
            name = self.layout.service_host(app, cluster)
            self.dns.records[name] = [*self.dns.records.get(name, []), ip]
        return ip

    def stop(self) -> None:
        self.run(self.runner.close())
        self.store.end()
        self.peer.end()
        for part in (self.database, self.redis, self.queue):
            self.run(part.stop())
        self.dns.close()
        self.loop.close()

    @property
    def gateway(self) -> str:
        name = self.layout.service_host("gateway", self.layout.zone(self.zone).cluster)
        return self.dns.records[name][0]

    def token(self, user: str = "anna") -> dict[str, str]:
        body = json.dumps({"user": user, "password": "lab"}).encode()
        answer = call(self.gateway, "POST", "/v1/token", body)
        assert answer.status == 200, answer
        return {"Authorization": f"Bearer {answer.json['token']}"}

    def metric(self, host: str, line_start: str) -> float:
        """Sum of the values of all lines that start so."""
        text = call(host, "GET", "/metrics").body.decode()
        found = [line for line in text.splitlines() if line.startswith(line_start)]
        return sum(float(line.rpartition(" ")[2]) for line in found)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
