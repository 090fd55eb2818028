"""The seal of a run: the SHA-256 of each file of its evidence, taken when the run ended.

A number that changed on the way from the run to the judge (a disk, a copy, a hand) still reads as
a number; by the seal it is a gap. It holds off accidents and slips, not somebody who makes a new
seal. What comes after the run (the verdict, reports, logs) is not under it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.evidence.model import Gap

SEAL = "seal.json"
_FOLDERS = ("tallies", "ledger", "series")
#: `harness recover` adds to these after the run; what was there when it ended is under the seal.
_GROWS = "history.jsonl"
#: Has its own checks, and is used again by `harness recover`.
_NOT_SEALED = "undo.jsonl"
_CHUNK_BYTES = 1 << 20


def sealed(run_dir: Path) -> bytes:
    """The content of the seal of a run whose evidence is complete. Raises OSError."""
    files = {
        str(path.relative_to(run_dir)): {
            "sha256": _sha256(path, path.stat().st_size),
            "size_bytes": path.stat().st_size,
        }
        for path in sorted(_evidence(run_dir))
    }
    return json.dumps({"files": files}, indent=1, sort_keys=True).encode()


def broken(run_dir: Path) -> list[Gap]:
    """What is not as it was when the run was sealed, or that it never was."""
    try:
        files = json.loads((run_dir / SEAL).read_bytes())["files"]
        found = {str(name): (str(f["sha256"]), int(f["size_bytes"])) for name, f in files.items()}
    except OSError:
        return [Gap(SEAL, "file", None, "the run was never sealed: it may not have ended")]
    except (ValueError, KeyError, TypeError, AttributeError):
        return [Gap(SEAL, "file", None, "the seal cannot be read")]
    gaps = [_gap(name, "was not there when the run ended") for name in _added(run_dir, found)]
    for name, (sha256, size_bytes) in sorted(found.items()):
        why = _why_broken(run_dir / name, name, sha256, size_bytes)
        if why:
            gaps.append(_gap(name, why))
    return gaps


def _why_broken(path: Path, name: str, sha256: str, size_bytes: int) -> str:
    try:
        size = path.stat().st_size
        if size < size_bytes or (size > size_bytes and name != _GROWS):
            return f"has {size} bytes, and had {size_bytes} when the run ended"
        same = _sha256(path, size_bytes) == sha256
    except OSError as error:
        return f"was there when the run ended, and cannot be read: {error.strerror}"
    return "" if same else "is not what it was when the run ended"


def _added(run_dir: Path, known: Mapping[str, Any]) -> list[str]:
    there = {str(path.relative_to(run_dir)) for path in _evidence(run_dir)}
    return sorted(there - set(known))


def _gap(name: str, why: str) -> Gap:
    return Gap(name, "seal", None, f"{name} {why}")


def _evidence(run_dir: Path) -> Iterator[Path]:
    yield run_dir / "plan.json"
    for path in run_dir.glob("*.jsonl"):
        if path.name != _NOT_SEALED:
            yield path
    for folder in _FOLDERS:
        for path in (run_dir / folder).rglob("*"):
            # A name with a dot in front is being written, or was when its writer was killed.
            if path.is_file() and not path.name.startswith("."):
                yield path


def _sha256(path: Path, size_bytes: int) -> str:
    """Of the first bytes of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size_bytes and (chunk := file.read(min(size_bytes, _CHUNK_BYTES))):
            digest.update(chunk)
            size_bytes -= len(chunk)
    return digest.hexdigest()
