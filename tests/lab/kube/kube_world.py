"""A cluster of real processes in a thread of its own, and the two clients that use it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.clock import SystemClock
from harness.lab.kube.cluster import Cluster, NodeSpec, kubeconfig
from harness.lab.kube.runner import SubprocessRunner

NAMESPACE = "files"
POD_SERVER = Path(__file__).with_name("pod_server.py")


class LabCluster:
    """Runs a cluster in the event loop of a background process-wide thread."""

    def __init__(self, folder: Path, octet: int, **options: Any) -> None:
        # Children die with the thread that forked them, so it must live as long as they do.
        self.folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        settings: dict[str, Any] = {
            "zone": "us-east-1a",
            "region": "us-east-1",
            "nodes": [NodeSpec("node-1", "i-01"), NodeSpec("node-2", "i-02")],
            "pod_ips": [f"127.101.{octet}.{n}" for n in range(1, 60)],
            "runner": SubprocessRunner([sys.executable, "-SE", str(POD_SERVER)]),
            "clock": SystemClock(),
            "log_dir": folder / "logs",
            "start_delay_s": 0.05,
            "termination_grace_s": 1.0,
            "restart_backoff_s": 0.6,
        }
        self.cluster = Cluster("us-east-1a", **{**settings, **options})
        self.run(self.cluster.serve("127.101.0.11", 0))
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(kubeconfig([self.cluster])))

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call in the loop's thread."""

        async def inside() -> Any:
            return function(*args, **options)

        return self.run(inside())

    def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        return self.run(self.cluster.apply(manifest))

    def pods(self, app: str = "file") -> list[dict[str, Any]]:
        return self.call(self.cluster.list_pods, NAMESPACE, f"app={app}")

    def endpoints(self, service: str = "file") -> list[tuple[str, int]]:
        return self.call(self.cluster.endpoints, NAMESPACE, service)

    def kubectl(self, *args: str, binary: str = "", check: bool = True, stdin: str = "") -> str:
        """Output of kubectl; ``binary`` defaults to the one of the environment."""
        command = [binary or str(Path(sys.executable).with_name("kubectl")), *args]
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder)}
        done = subprocess.run(
            command, env=env, input=stdin, capture_output=True, text=True, timeout=40
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{args}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def close(self) -> None:
        self.run(self.cluster.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


def deployment(app: str = "file", replicas: int = 2, version: str = "v1") -> dict[str, Any]:
    probe = {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": app, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": app}},
            "template": {
                "metadata": {"labels": {"app": app}},
                "spec": {
                    "containers": [
                        {
                            "name": app,
                            "image": f"files/{app}:{version}",
                            "ports": [{"containerPort": 8080, "name": "http"}],
                            "env": [{"name": "COLOUR", "value": "blue"}],
                            "readinessProbe": probe,
                        }
                    ]
                },
            },
        },
    }


def service(app: str = "file") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": app, "namespace": NAMESPACE},
        "spec": {
            "selector": {"app": app},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    }


def wait_until(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """The first true value of ``condition``; fails after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.03)
    raise AssertionError(f"not true within {timeout_s} s: {condition}")


def is_alive(pid: int) -> bool:
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False  # not there, or gone while it was read
    return stat.rpartition(")")[2].split()[0] != "Z"
