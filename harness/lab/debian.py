"""Programs from the Debian or Ubuntu archive, without root and without installing anything.

Packages are downloaded once and unpacked into the user's private cache; no script of theirs is
run, so no service is ever started.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.errors import LabError

_DOWNLOAD_TIMEOUT_S = 120
#: Changes an unpacked tree before it is used.
Prepare = Callable[[Path], None]


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


def program(package: str, file: str, *, prepare: Prepare | None = None) -> Path:
    """Root of the unpacked ``package``, which has ``file`` in it; fetched on first use.

    ``prepare`` changes the unpacked tree before it is used. Raises LabError: there is no apt
    here, the archive cannot be reached, or the package has no such file.
    """
    hint = f"put {Path(file).name} on PATH (apt install {package}, or the project's release)"
    root = unpacked(package, hint, prepare=prepare)
    if not (root / file).exists():
        raise LabError(f"the package {package} of this system has no {file}", hint=hint)
    return root


def unpacked(package: str, hint: str, *, prepare: Prepare | None = None) -> Path:
    """Root of the unpacked ``package`` in the cache, fetched on first use.

    Raises LabError with ``hint``: there is no apt here, or the archive cannot be reached.
    """
    root = _folder() / package
    if root.exists():
        return root
    _need_apt(package, hint)
    root.parent.mkdir(parents=True, exist_ok=True)
    with locked(root.parent):
        if not root.exists():
            _fetch(package, root, hint, prepare)
    return root


def not_installed(packages: Sequence[str], hint: str) -> list[str]:
    """``packages``, and of what they depend on all that this system has not.

    Raises LabError with ``hint``: there is no apt here, or it does not know them.
    """
    _need_apt(", ".join(packages), hint)
    debian = _folder()
    debian.mkdir(parents=True, exist_ok=True)
    with locked(debian):
        done = _simulate(packages, None)
        if done.returncode != 0:
            why = _update_lists(debian)
            done = _simulate(packages, _lists_dir(debian))
            if done.returncode != 0:
                raise LabError(
                    f"{', '.join(packages)}: {why or _last_line(done.stderr)}", hint=hint
                )
    planned = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("Inst ")]
    return list(dict.fromkeys([*packages, *planned]))


def _simulate(packages: Sequence[str], lists: Path | None) -> subprocess.CompletedProcess[str]:
    argv = ["apt-get", *_apt_options(lists), "--simulate", "--no-install-recommends"]
    # -qq would keep the plan to itself.
    argv = [a for a in argv if a != "-qq"]
    return _run([*argv, "install", *packages], cwd=_folder())


def _folder() -> Path:
    return cache_dir() / "debian"


def _need_apt(package: str, hint: str) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise LabError(f"{package} is not installed and this system has no apt-get", hint=hint)


def _fetch(package: str, root: Path, hint: str, prepare: Prepare | None) -> None:
    """Download and unpack into ``root``, which appears only when it is complete."""
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{package}-") as scratch:
        work = Path(scratch)
        (work / "deb").mkdir()
        if not _download(package, work, private_lists=False):
            why = _update_lists(root.parent) or "the archive does not have it"
            if not _download(package, work, private_lists=True):
                raise LabError(f"{package} could not be downloaded: {why}", hint=hint)
        archive = next((work / "deb").glob("*.deb"))
        tree = work / "root"
        _run(["dpkg-deb", "-x", str(archive), str(tree)], cwd=work)
        if prepare is not None:
            prepare(tree)
        os.replace(tree, root)


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
