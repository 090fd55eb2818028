"""Every object written and what became of it: the basis of "nothing was lost".

A generator writes a line for each upload and delete of an object it follows: of every one
until they are too many (:mod:`harness.evidence.following`), then of half as many as before.
The lines are folded into one state per object, which says what read-back must find.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.evidence.following import FOLLOWED_AT_MOST, halvings, is_followed
from harness.load.outcome import FAILED, OK, UNSURE
from harness.load.tally import Pen

ACKED = "acked"
#: How outcomes of operations are called in the ledger.
_IN_LEDGER = {OK: ACKED, FAILED: FAILED, UNSURE: UNSURE}

#: What read-back must find.
MUST_BE_PRESENT = "must-be-present"
MUST_BE_GONE = "must-be-gone"
MAY_BE_PRESENT = "may-be-present"
#: Its upload surely failed: nobody promised that it is there, nor should it be.
NEVER_STORED = "never-stored"


class Ledger:
    """The pen of one generator process.

    It keeps no object, only how many there are: of those that stay followed when the share is
    halved so often.
    """

    def __init__(self, pen: Pen, at_most: int = FOLLOWED_AT_MOST) -> None:
        """``at_most``: objects followed by this process."""
        self._pen = pen
        self._at_most = at_most
        #: times halved → objects that stay followed until then, and no longer
        self._until: Counter[int] = Counter()
        self._followed = 0
        self._halved = 0

    @property
    def share(self) -> float:
        """The share of the objects that is followed."""
        return 0.5**self._halved

    def write(
        self,
        object_id: str,
        op: str,
        *,
        sha256: str,
        size_bytes: int,
        planned_t: float,
        outcome: str,
        ack_t: float,
        region: str,
        error: str = "",
    ) -> None:
        """An upload ended. ``op`` is upload or image; ``outcome`` ok, failed or unsure."""
        stays = halvings(object_id)
        if stays < self._halved:
            return
        self._pen.write(
            "write",
            object=object_id,
            op=op,
            sha256=sha256,
            size_bytes=size_bytes,
            planned_t=round(planned_t, 6),
            outcome=_IN_LEDGER[outcome],
            ack_t=round(ack_t, 6),
            region=region,
            error=error,
        )
        self._until[stays] += 1
        self._followed += 1
        while self._followed > self._at_most:
            self._followed -= self._until.pop(self._halved, 0)
            self._halved += 1
            self._pen.write("share", share=self.share)

    def delete(self, object_id: str, *, outcome: str, ack_t: float, region: str) -> None:
        """A delete ended."""
        if halvings(object_id) < self._halved:
            return
        self._pen.write(
            "delete",
            object=object_id,
            outcome=_IN_LEDGER[outcome],
            ack_t=round(ack_t, 6),
            region=region,
        )

    def close(self) -> None:
        self._pen.close()


@dataclass(frozen=True)
class Stored:
    """One object. ``expected`` is what read-back must find; ``ack_t`` when its upload ended."""

    object_id: str
    sha256: str
    size_bytes: int
    expected: str
    ack_t: float = 0.0


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole JSON lines of a file; a last line cut short by a kill is left out."""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield json.loads(line)


def ledger_files(run_dir: Path) -> list[Path]:
    """The generators' ledgers of a run, in a fixed order."""
    found = sorted((run_dir / "ledger").glob("*.jsonl"))
    return [path for path in found if path.name != "readback.jsonl"]


def stored(run_dir: Path) -> list[Stored]:
    """The objects followed, as the ledgers of a run tell of them by now."""
    share = 1.0
    found: list[Stored] = []
    for path in ledger_files(run_dir):
        lines = _Lines(path)
        found += fold(lines)
        share = min(share, lines.share)
    return [item for item in found if is_followed(item.object_id, share)]


class _Lines:
    """The lines of one ledger that tell of an object; ``share``: what it followed at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.share = 1.0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for line in read_lines(self._path):
            if line["kind"] == "share":
                self.share = line["share"]
            else:
                yield line


def fold(lines: Iterable[Mapping[str, Any]]) -> list[Stored]:
    """One state per object, in the order first written.

    An unsure upload may be present, one that surely failed is not to be expected. A delete that
    surely failed changes nothing; after an unsure one the object may be present.
    """
    states: dict[str, Stored] = {}
    for line in lines:
        object_id = line.get("object", "")
        was = states.get(object_id)
        if line["kind"] == "write" and not (line["outcome"] == FAILED and was):
            states[object_id] = Stored(
                object_id,
                line["sha256"],
                line["size_bytes"],
                _AFTER_WRITE[line["outcome"]],
                line.get("ack_t", 0.0),
            )
        elif line["kind"] == "delete" and was and line["outcome"] != FAILED:
            expected = MUST_BE_GONE if line["outcome"] == ACKED else MAY_BE_PRESENT
            states[object_id] = replace(was, expected=expected)
    return list(states.values())


_AFTER_WRITE = {ACKED: MUST_BE_PRESENT, UNSURE: MAY_BE_PRESENT, FAILED: NEVER_STORED}
