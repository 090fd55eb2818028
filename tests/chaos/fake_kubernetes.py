"""As much of a Kubernetes API as killing pods needs: list, delete by uid, replace after a while."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class FakeKubernetes:
    """One namespace ``files`` with a Deployment ``file``; what was deleted is in ``deleted``."""

    def __init__(self, host: str, replicas: int = 3) -> None:
        self.replicas = replicas
        self.replaces = True
        self.deleted: list[dict[str, Any]] = []
        self.pods: dict[str, dict[str, Any]] = {}
        self._number = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((host, 0), self._handler())
        self.url = f"http://{host}:{self._server.server_port}"
        for _ in range(replicas):
            self._add()
        self._add(app="other")

    def __enter__(self) -> FakeKubernetes:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _add(self, app: str = "file") -> None:
        self._number += 1
        name = f"{app}-{self._number}"
        ready = {"type": "Ready", "status": "True"}
        self.pods[name] = {
            "metadata": {
                "name": name,
                "uid": f"uid-{self._number}",
                "labels": {"app": app, "chaos": "allowed"},
            },
            "spec": {"containers": [{"name": "c"}]},
            "status": {"phase": "Running", "conditions": [ready]},
        }

    def names(self, app: str = "file") -> list[str]:
        return sorted(n for n, p in self.pods.items() if p["metadata"]["labels"]["app"] == app)

    def _list(self, path: str, query: dict[str, list[str]]) -> dict[str, Any]:
        if path.endswith("/deployments"):
            labels = {"matchLabels": {"app": "file"}}
            spec = {"replicas": self.replicas, "selector": labels, "template": {}}
            status = {"readyReplicas": len(self.names())}
            item = {"metadata": {"name": "file"}, "spec": spec, "status": status}
            return {"kind": "DeploymentList", "items": [item]}
        (app,) = [s.removeprefix("app=") for s in query["labelSelector"]]
        return {"kind": "PodList", "items": [self.pods[n] for n in self.names(app)]}

    def _delete(self, name: str, options: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._lock:
            pod = self.pods.get(name)
            if pod is None:
                return 404, {"kind": "Status", "code": 404}
            if options["preconditions"]["uid"] != pod["metadata"]["uid"]:
                return 409, {"kind": "Status", "code": 409}
            self.deleted.append({"name": name, **options})
            del self.pods[name]
            if self.replaces:
                self._add()
            return 200, pod

    def _handler(fake) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                self._answer(200, fake._list(parts.path, parse_qs(parts.query)))

            def do_DELETE(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                name = urlsplit(self.path).path.rpartition("/")[2]
                self._answer(*fake._delete(name, json.loads(body)))

            def _answer(self, status: int, document: dict[str, Any]) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
