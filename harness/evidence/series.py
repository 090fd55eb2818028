"""Prometheus answers on disk: ``series/index.json`` and one file per series.

The index carries each file's SHA-256, so an answer that was cut, edited, lost or added is
a gap and not a smaller answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.evidence.lines import instant
from harness.evidence.model import Gap, Series, SeriesLine

_NOT_A_SERIES = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


def read_series(folder: Path) -> tuple[dict[str, Series], list[Gap]]:
    """Every series of ``folder`` by name, and the gaps."""
    try:
        index = json.loads((folder / "index.json").read_bytes())
        entries = list(index["series"])
    except OSError as error:
        return {}, [Gap("series", "index", None, f"cannot be read: {error.strerror}")]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}, [Gap("series", "index", None, "series/index.json is not readable")]
    found: dict[str, Series] = {}
    gaps: list[Gap] = []
    listed = {"index.json"}
    for entry in entries:
        if not isinstance(entry, Mapping) or not entry.get("name") or not entry.get("file"):
            gaps.append(Gap("series", "index", None, "an entry has no name or file"))
            continue
        name = str(entry["name"])
        listed.add(Path(str(entry["file"])).name)
        series = _one(folder / Path(str(entry["file"])).name, entry)
        if isinstance(series, str):
            gaps.append(Gap(f"series/{name}", "file", None, series))
        else:
            found[name] = series
    for path in sorted(folder.glob("*.json")):
        if path.name not in listed:
            gaps.append(Gap("series", "index", None, f"{path.name} is not in the index"))
    return found, gaps


def _one(path: Path, entry: Mapping[str, Any]) -> Series | str:
    """The series, or why there is none."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if hashlib.sha256(raw).hexdigest() != entry.get("sha256"):
        return "does not match the SHA-256 in the index"
    try:
        document = json.loads(raw)
        return _series(document)
    except _NOT_A_SERIES as error:
        return f"is not a series: {type(error).__name__}: {error}"


def _series(document: Mapping[str, Any]) -> Series:
    lines = []
    for line in document.get("result") or ():
        points = tuple((float(t), str(value)) for t, value in line["points"])
        labels = {str(key): str(value) for key, value in line["labels"].items()}
        lines.append(SeriesLine(labels, points))
    return Series(
        name=str(document["name"]),
        query=str(document["query"]),
        step_s=float(document["step_s"]),
        start=float(document["start"]),
        end=float(document["end"]),
        status=str(document.get("status") or ""),
        warnings=tuple(str(w) for w in document.get("warnings") or ()),
        fetched_t=instant(document.get("fetched_t")),
        error=str(document.get("error") or ""),
        result=tuple(lines),
    )
