"""The target: one nginx worker that counts what reaches it, and can be frozen."""

from __future__ import annotations

import getpass
import grp
import http.client
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

from harness.errors import LabError
from tests.bench import programs
from tests.bench.children import spawn
from tests.bench.workloads import LARGE, SMALL, UPLOAD
from tests.certificate import certificate

_ECHO = "ngx_http_echo_module.so"
_START_S = 10.0
#: connections the worker may hold, its own files among them
CONNECTIONS_MAX = 19_500

#: A file of 200 bytes is read and written: by ``sendfile`` it takes two system calls more, a third
#: of the target's work, and what the target takes the generators on its cores have not.
_CONFIG = """
load_module {echo};
{user}
worker_processes 1;
worker_rlimit_nofile {descriptors};
daemon off;
error_log {folder}/error.log warn;
pid {folder}/pid;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    keepalive_timeout 3600;
    reset_timedout_connection on;
    open_file_cache max=100;
    client_body_buffer_size 512k;
    client_max_body_size 1m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type application/octet-stream;
    ssl_certificate {folder}/certificate.pem;
    ssl_certificate_key {folder}/certificate.pem;
    ssl_session_cache shared:bench:4m;
    server {{
        listen 127.0.0.1:{port} backlog=16384;
        listen 127.0.0.1:{tls_port} ssl backlog=16384;
        root {folder}/www;
        location = {small} {{ sendfile off; }}
        location = {upload} {{ echo_read_request_body; echo -n ok; }}
        location = /nginx_status {{ stub_status; }}
    }}
}}
"""


class Counts(NamedTuple):
    """Since the start, without those made to ask; ``active`` is of now."""

    requests: int
    connections: int
    active: int


class Stall(NamedTuple):
    """Wall instants between which the target did nothing."""

    from_t: float
    to_t: float


class Nginx:
    """One nginx with one worker on ``cores``. A context manager."""

    def __init__(self, folder: Path, cores: set[int], *, fetched: bool = False) -> None:
        """Raises LabError when there is no nginx with the echo module to be had."""
        self.folder = folder
        self.port, self.tls_port = _free_port(), _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.tls_url = f"https://127.0.0.1:{self.tls_port}"
        self.certificate = folder / "certificate.pem"
        self.stalls: list[Stall] = []
        self._cores = cores
        self._asked = 0
        self._lock = threading.Lock()
        self._lay_out()
        self.program = self._usable_program(fetched)
        self._child: subprocess.Popen[bytes] | None = None
        self._asking = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def __enter__(self) -> Nginx:
        self._child = spawn(self._argv(), self.program.environment, self._cores)
        give_up = time.monotonic() + _START_S
        while True:
            try:
                self.counts()
                return self
            except OSError as error:
                self._asking.close()
                if self._child.poll() is not None or time.monotonic() > give_up:
                    log = (self.folder / "error.log").read_text()
                    self.__exit__()
                    raise LabError(f"nginx does not answer: {log[-500:]}") from error
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._asking.close()
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(5)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()

    @property
    def pids(self) -> list[int]:
        """Of the master; the worker is its child."""
        assert self._child is not None
        return [self._child.pid]

    def counts(self) -> Counts:
        """What has reached the target. Raises OSError when it does not answer."""
        with self._lock:
            self._asking.request("GET", "/nginx_status")
            text = self._asking.getresponse().read().decode()
            self._asked += 1
            found = re.search(r"Active connections: (\d+).*?(\d+) (\d+) (\d+)", text, re.DOTALL)
            if found is None:
                raise OSError(f"not a status: {text[:100]!r}")
            active, _, handled, requests = map(int, found.groups())
            return Counts(requests - self._asked, handled - 1, active - 1)

    def freeze(self, stall_s: float, times_s: list[float]) -> threading.Thread:
        """Stop the worker for ``stall_s`` at each of ``times_s`` from now; see ``stalls``."""
        worker = int(
            Path(f"/proc/{self.pids[0]}/task/{self.pids[0]}/children").read_text().split()[0]
        )
        self.stalls = []
        start = time.monotonic()

        def work() -> None:
            for at_s in times_s:
                time.sleep(max(0.0, start + at_s - time.monotonic()))
                os.kill(worker, signal.SIGSTOP)
                from_t = time.time()
                time.sleep(stall_s)
                to_t = time.time()
                os.kill(worker, signal.SIGCONT)
                self.stalls.append(Stall(from_t, to_t))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    # ---- set-up -------------------------------------------------------------------------

    def _argv(self, *more: str) -> list[str]:
        config = self.folder / "nginx.conf"
        log = self.folder / "error.log"
        return [str(self.program.path), "-e", str(log), "-c", str(config), *more]

    def _lay_out(self) -> None:
        www = self.folder / "www"
        www.mkdir(parents=True)
        (www / SMALL.path.lstrip("/")).write_bytes(b"s" * SMALL.answer_bytes)
        (www / LARGE.path.lstrip("/")).write_bytes(b"l" * LARGE.answer_bytes)
        certificate(self.folder, address="127.0.0.1")

    def _usable_program(self, fetched: bool) -> programs.Program:
        """An nginx that takes the configuration: the installed one, else the fetched one."""
        if not fetched:
            try:
                self.program = programs.find(programs.NGINX)
                modules = Path("/usr/lib/nginx/modules") / _ECHO
                if modules.exists() and self._takes_it(modules):
                    return self.program
            except LabError:
                pass
        self.program = programs.fetch(programs.NGINX)
        for echo in programs.unpacked_files(f"usr/lib/nginx/modules/{_ECHO}"):
            if self._takes_it(echo):
                return self.program
        raise LabError("no nginx with the echo module can be had", hint=programs.NGINX.get)

    def _takes_it(self, echo: Path) -> bool:
        group = grp.getgrgid(os.getgid()).gr_name
        config = _CONFIG.format(
            echo=echo,
            # As root it would leave its folder to a user who may not read it.
            user=f"user {getpass.getuser()} {group};" if os.geteuid() == 0 else "",
            folder=self.folder,
            port=self.port,
            tls_port=self.tls_port,
            connections=CONNECTIONS_MAX,
            descriptors=CONNECTIONS_MAX + 500,
            small=SMALL.path,
            upload=UPLOAD.path,
        )
        (self.folder / "nginx.conf").write_text(config)
        done = subprocess.run(
            self._argv("-t"),
            env={**os.environ, **self.program.environment},
            capture_output=True,
            timeout=20,
            check=False,
        )
        return done.returncode == 0


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
