"""External programs are found where they are, fetched once where they are not."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from harness.errors import LabError
from harness.lab import binaries, debian

APT = """#!/bin/sh
echo "$@" >> "$APT_LOG"
case "$*" in
  *update) [ -n "$APT_UPDATE_FAILS" ] && { echo "E: no route to the archive" >&2; exit 100; }
           touch "$APT_LOG.updated" ;;
  *simulate*) [ -e "$APT_LOG.updated" ] || [ -z "$APT_NEEDS_UPDATE" ] || exit 100
           echo "Inst libone (1 here)"; echo "Inst tool (2 here)"; echo "Conf tool" ;;
  *download*) [ -e "$APT_LOG.updated" ] || [ -z "$APT_NEEDS_UPDATE" ] || exit 100
           sleep 0.2; : > pkg_1_amd64.deb ;;
esac
"""
DPKG = """#!/bin/sh
mkdir -p "$3/usr/bin"
for name in prometheus prometheus-alertmanager; do
  printf 'join /usr/share/prometheus/alertmanager;' > "$3/usr/bin/$name"
  chmod +x "$3/usr/bin/$name"
done
"""


@pytest.fixture
def system(tmp_path, monkeypatch) -> Path:
    """A PATH with nothing but a fake apt, an empty cache; the folder of the fake programs."""
    fake = tmp_path / "bin"
    fake.mkdir()
    for name, text in (("apt-get", APT), ("dpkg-deb", DPKG)):
        (fake / name).write_text(text)
        (fake / name).chmod(0o755)
    for tool in ("sh", "mkdir", "touch", "sleep", "chmod"):
        os.symlink(f"/bin/{tool}", fake / tool)
    monkeypatch.setenv("PATH", str(fake))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("APT_LOG", str(tmp_path / "apt.log"))
    return fake


def apt_calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "apt.log").read_text().splitlines()


def test_the_bundled_programs_of_the_pip_packages_run():
    for program in (binaries.redis(), binaries.queue(), binaries.envoy()):
        assert os.access(program, os.X_OK)
        assert not program.read_bytes().startswith(b"#!"), "a real program, not a wrapper"
    assert (binaries.postgres_bin() / "initdb").exists()


def test_a_program_on_path_is_preferred_and_nothing_is_downloaded(system, tmp_path):
    own = system / "prometheus"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert binaries.prometheus().path == own
    assert not (tmp_path / "apt.log").exists()


def test_a_missing_program_is_downloaded_once_even_by_two_labs_at_the_same_time(system, tmp_path):
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(binaries.prometheus().path)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    root = tmp_path / "cache" / "harness" / "debian" / "prometheus"
    assert found == [root / "usr/bin/prometheus"] * 3
    assert sum("download" in call for call in apt_calls(tmp_path)) == 1
    assert binaries.prometheus().path == found[0]
    assert len(apt_calls(tmp_path)) == 1
    assert sorted(p.name for p in root.parent.iterdir()) == [".lock", "prometheus"]


def test_without_usable_package_lists_private_ones_are_fetched(system, tmp_path, monkeypatch):
    monkeypatch.setenv("APT_NEEDS_UPDATE", "1")
    assert binaries.prometheus().path.exists()
    first, update, second = apt_calls(tmp_path)
    private = f"Dir::State={tmp_path / 'cache' / 'harness' / 'debian' / 'apt'}"
    assert private not in first
    assert private in update
    assert private in second


def test_where_it_cannot_be_had_the_error_says_why_and_what_to_do(system, monkeypatch):
    monkeypatch.setenv("APT_NEEDS_UPDATE", "1")
    monkeypatch.setenv("APT_UPDATE_FAILS", "1")
    with pytest.raises(LabError, match=r"(?s)no route to the archive.*put prometheus on PATH"):
        binaries.prometheus()
    assert binaries.alertmanager() is None
    (system / "apt-get").unlink()
    with pytest.raises(LabError, match="has no apt-get"):
        binaries.prometheus()


def test_the_unpacked_alertmanager_looks_for_its_template_where_it_runs(system):
    program = binaries.alertmanager()
    assert program is not None
    content = program.path.read_bytes()
    assert content == b"join ." + b"/" * 33 + b";", "same length, and it means the folder it is in"
    assert program.cwd is not None
    assert program.cwd.parts[-3:] == ("share", "prometheus", "alertmanager")


def test_a_cache_folder_that_cannot_be_made_is_an_error_with_a_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(LabError, match="XDG_CACHE_HOME"):
        debian.cache_dir()


def test_a_tool_is_fetched_with_the_libraries_that_are_not_installed(system, tmp_path):
    assert debian.not_installed(["tool"], "build it") == ["tool", "libone"]
    root = debian.unpacked("libone", "build it")
    assert root == tmp_path / "cache" / "harness" / "debian" / "libone"
    assert (root / "usr/bin").is_dir()
    assert not any("install" in call and "simulate" not in call for call in apt_calls(tmp_path))


def test_what_apt_does_not_know_is_an_error_with_a_way_out(system, monkeypatch):
    monkeypatch.setenv("APT_NEEDS_UPDATE", "1")
    assert debian.not_installed(["tool"], "build it") == ["tool", "libone"]
    monkeypatch.setenv("APT_UPDATE_FAILS", "1")
    Path(os.environ["APT_LOG"] + ".updated").unlink()
    with pytest.raises(LabError, match=r"(?s)tool: no route to the archive.*build it"):
        debian.not_installed(["tool"], "build it")
