"""Every object written and what became of it: the basis of "nothing was lost".

A generator writes a line for each upload and delete. Afterwards the lines are folded
into one state per object, which says what read-back must find.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.load.outcome import FAILED, OK, UNSURE
from harness.load.tally import Pen

ACKED = "acked"
#: How outcomes of operations are called in the ledger.
_IN_LEDGER = {OK: ACKED, FAILED: FAILED, UNSURE: UNSURE}

#: What read-back must find.
MUST_BE_PRESENT = "must-be-present"
MUST_BE_GONE = "must-be-gone"
MAY_BE_PRESENT = "may-be-present"


class Ledger:
    """The pen of one generator process."""

    def __init__(self, pen: Pen) -> None:
        self._pen = pen

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

    def delete(self, object_id: str, *, outcome: str, ack_t: float, region: str) -> None:
        """A delete ended."""
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
    """One object after the run. ``expected`` is what read-back must find."""

    object_id: str
    sha256: str
    size_bytes: int
    expected: str


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


def fold(lines: Iterable[Mapping[str, Any]]) -> list[Stored]:
    """One state per object, in the order first written. Surely failed uploads are left out.

    An unsure upload may be present. A delete that surely failed changes nothing; after
    an unsure one the object may be present.
    """
    states: dict[str, Stored] = {}
    for line in lines:
        object_id = line.get("object", "")
        if line["kind"] == "write" and line["outcome"] != FAILED:
            sure = line["outcome"] == ACKED
            expected = MUST_BE_PRESENT if sure else MAY_BE_PRESENT
            states[object_id] = Stored(object_id, line["sha256"], line["size_bytes"], expected)
        elif line["kind"] == "delete" and object_id in states and line["outcome"] != FAILED:
            was = states[object_id]
            expected = MUST_BE_GONE if line["outcome"] == ACKED else MAY_BE_PRESENT
            states[object_id] = Stored(object_id, was.sha256, was.size_bytes, expected)
    return list(states.values())
