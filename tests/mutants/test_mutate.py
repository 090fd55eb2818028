"""The tool that changes the judge changes what it says, once, and nothing else."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.mutate import functions, mutants

SOURCE = '''
LIMIT = 3

def over(n: int, least=1) -> bool:
    """Over 3."""
    return n > LIMIT and not n == 7

class Judge:
    most = 5

    def says(self, n):
        for x in range(n):
            if x < 2:
                continue
            return Outcome.FAIL, max(x, 0.5), f"{x + 1}"
'''


def changed(source: str = SOURCE) -> list[tuple[int, str, str]]:
    return [(m.line, m.where, m.what) for m in mutants(source)]


def test_each_decision_is_changed_once_and_texts_and_annotations_never() -> None:
    assert sorted(changed()) == [
        (2, "", "3 → 4"),
        (6, "over", "7 → 8"),
        (6, "over", "And → other"),
        (6, "over", "Eq → NotEq"),
        (6, "over", "Gt → GtE"),
        (13, "Judge.says", "2 → 3"),
        (13, "Judge.says", "Lt → LtE"),
        (13, "Judge.says", "condition negated"),
        (14, "Judge.says", "continue → pass"),
        (15, "Judge.says", "0.5 → 1.0"),
        (15, "Judge.says", "FAIL → PASS"),
        (15, "Judge.says", "max → min"),
    ]


def test_a_mutant_differs_from_its_source_in_one_place() -> None:
    plain = ast.unparse(ast.parse(SOURCE)).splitlines()
    for mutant in mutants(SOURCE):
        other = ast.unparse(mutant.tree).splitlines()
        assert sum(a != b for a, b in zip(plain, other, strict=True)) == 1, mutant.what


@pytest.mark.parametrize(("what", "answers"), [("Gt → GtE", True), ("And → other", True)])
def test_the_code_of_a_mutant_decides_otherwise(what: str, answers: bool) -> None:
    [mutant] = [m for m in mutants(SOURCE) if m.what == what]
    space: dict[str, object] = {}
    exec(mutant.code("x.py"), space)
    over = space["over"]
    assert callable(over)
    assert over(3) is answers
    assert set(functions(mutant.code("x.py"))) >= {"over", "Judge.says"}
