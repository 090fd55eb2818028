"""The programs that are measured beside ours: found, fetched where that can be, or missing.

Debian's are fetched into the user's cache where they are not installed (:mod:`harness.lab.debian`).
Those that are built from source or come from npm are used where they are on PATH.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import LabError
from harness.lab import debian


@dataclass(frozen=True)
class Program:
    """Where a program is, and what it needs in its environment."""

    path: Path
    version: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    #: of its package, where it was unpacked and not installed
    root: Path | None = None


@dataclass(frozen=True)
class Source:
    """How a program is had: Debian packages, or ``get``: what a person types."""

    name: str
    get: str
    packages: tuple[str, ...] = ()
    version: tuple[str, ...] = ("--version",)


NGINX = Source(
    "nginx",
    "apt install nginx-light libnginx-mod-http-echo",
    ("nginx", "nginx-light", "libnginx-mod-http-echo"),
    ("-v",),
)
SOURCES = (
    Source("wrk", "apt install wrk", ("wrk",), ("-v",)),
    Source("hey", "apt install hey", ("hey",), ()),
    Source("h2load", "apt install nghttp2-client", ("nghttp2-client",)),
    Source("wrk2", "build giltene/wrk2 from source, and put its wrk on PATH as wrk2", (), ("-v",)),
    Source("vegeta", "go install github.com/tsenart/vegeta/v12@latest", (), ("-version",)),
    Source("k6", "go install go.k6.io/k6@latest", (), ("version",)),
    Source("autocannon", "npm install --global autocannon"),
)


def find(source: Source, *, fetched: bool = False) -> Program:
    """The program as installed, else from the cache. ``fetched``: from the cache in any case.

    Raises LabError, whose hint says how to get it.
    """
    path = None if fetched and source.packages else _on_path(source.name)
    if path is not None:
        return _with_version(Program(Path(path)), source)
    if not source.packages:
        raise LabError(f"{source.name} is not on PATH", hint=source.get)
    return fetch(source)


def fetch(source: Source) -> Program:
    """The program from its Debian packages, unpacked in the cache with what they need.

    Raises LabError, whose hint says how to get it otherwise.
    """
    roots = [
        debian.unpacked(package, source.get)
        for package in debian.not_installed(source.packages, source.get)
    ]
    for root in roots:
        for folder in ("usr/bin", "usr/sbin"):
            path = root / folder / source.name
            if path.is_file():
                libraries = os.pathsep.join(_libraries(roots))
                environment = {"LD_LIBRARY_PATH": libraries} if libraries else {}
                return _with_version(Program(path, "", environment, root), source)
    raise LabError(f"no package of {', '.join(source.packages)} has {source.name}", hint=source.get)


def unpacked_files(pattern: str) -> list[Path]:
    """Files of the unpacked packages in the cache that match a glob."""
    return sorted((debian.cache_dir() / "debian").glob(f"*/{pattern}"))


def _on_path(name: str) -> str | None:
    places = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
    return shutil.which(name, path=os.pathsep.join(places if name == "nginx" else places[:1]))


def _libraries(roots: list[Path]) -> list[str]:
    """Folders with shared libraries in them."""
    found = {
        str(file.parent)
        for root in roots
        for pattern in ("lib/**/*.so.*", "usr/lib/**/*.so.*")
        for file in root.glob(pattern)
    }
    return sorted(found)


def _with_version(program: Program, source: Source) -> Program:
    version = ""
    if source.version:
        done = subprocess.run(
            [str(program.path), *source.version],
            env={**os.environ, **program.environment},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        version = _number(done.stdout + done.stderr)
    return replace(program, version=version or _packaged(program, source))


def _packaged(program: Program, source: Source) -> str:
    """The version of its Debian package, where that can be seen."""
    for package in source.packages:
        documents = (program.root or Path("/")) / "usr/share/doc" / package
        for changes in sorted(documents.glob("changelog.Debian*.gz")):
            with gzip.open(changes, "rt", errors="replace") as lines:
                return _number(lines.readline())
    return ""


def _number(text: str) -> str:
    found = re.search(r"v?(\d+\.\d+[\w.]*)", text)
    return found[1] if found else ""
