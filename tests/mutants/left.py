"""The mutants that survive, and what ``docs/mutants.md`` says of them.

There each is a line ``- `MODULE` [WHAT] `SOURCE```, with ``×2`` behind it where two of that source
line survive alike; without a line number, so that it holds while the file changes around it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "mutants.md"
_LINE = re.compile(r"- `(\w+)` \[(.+?)\] `(.+)`(?: ×(\d+))?")

#: module, what was changed into what, the source line
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Survivor:
    """A mutant that no test noticed. ``why``: none did, or none executes its line."""

    module: str
    line: int
    what: str
    source: str
    why: str

    @property
    def key(self) -> Key:
        return self.module, self.what, self.source

    def __str__(self) -> str:
        return f"{self.module}.py:{self.line} [{self.what}] {self.source}  ({self.why})"


def explained(text: str) -> Counter[Key]:
    """How many of each the document speaks of."""
    found: Counter[Key] = Counter()
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            module, what, source, times = match.groups()
            found[module, what, source] += int(times or 1)
    return found


def unexplained(survivors: Iterable[Survivor], known: Counter[Key]) -> Iterator[Survivor]:
    """Those beyond what the document speaks of."""
    left = known.copy()
    for survivor in survivors:
        left[survivor.key] -= 1
        if left[survivor.key] < 0:
            yield survivor
