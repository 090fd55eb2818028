"""What is said of the mutants that survive is said of mutants that there are."""

from __future__ import annotations

from collections import Counter

from tests.mutants.__main__ import VERDICT
from tests.mutants.left import DOCUMENT, Survivor, explained, unexplained
from tests.mutants.mutate import lines_changed

TEXT = """\
## Equal instants
They never are.
- `landing` [Lt → LtE] `if a < b:`
- `landing` [floor → ceil] `range(floor(a), floor(b))` ×2
"""


def survivor(what: str = "Lt → LtE", source: str = "if a < b:") -> Survivor:
    return Survivor("landing", 7, what, source, "survived")


def test_what_the_document_does_not_speak_of_is_told() -> None:
    known = explained(TEXT)
    assert sum(known.values()) == 3
    assert list(unexplained([survivor()], known)) == []
    again = [survivor(), survivor()]
    assert list(unexplained(again, known)) == [again[1]]
    other = survivor("Lt → Gt")
    assert list(unexplained([other, survivor()], known)) == [other]
    twice = [survivor("floor → ceil", "range(floor(a), floor(b))")] * 3
    assert len(list(unexplained(twice, known))) == 1


def test_each_mutant_that_is_explained_can_be_made() -> None:
    there: Counter[tuple[str, str, str]] = Counter()
    known = explained(DOCUMENT.read_text())
    for module in {module for module, _, _ in known}:
        text = (VERDICT / f"{module}.py").read_text()
        lines = text.splitlines()
        there += Counter((module, what, lines[n - 1].strip()) for n, what in lines_changed(text))
    assert known
    assert known - there == Counter()
