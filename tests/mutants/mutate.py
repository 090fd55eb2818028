"""Small changes to a function or to a number of a module, each of which a test must notice.

A mutant is one node of the syntax tree changed. Texts are left alone: what a finding says is not
what it decides.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}
_OUTCOMES = {"PASS": "UNKNOWN", "UNKNOWN": "PASS", "FAIL": "PASS"}


@dataclass(frozen=True)
class Mutant:
    """One change. ``where`` is the function's qualified name, empty at the module's own level."""

    line: int
    where: str
    what: str
    tree: ast.Module

    def code(self, path: str) -> CodeType:
        return compile(self.tree, path, "exec")


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module's source, in the order of its lines."""
    tree = ast.parse(source)
    names = _names(tree)
    for node, change, what in _all_changes(tree):
        other = copy.deepcopy(tree)
        twin = _twin(tree, other, node)
        change(twin)
        ast.fix_missing_locations(other)
        yield Mutant(node.lineno, names.get(node, ""), what, other)


def lines_changed(source: str) -> Iterator[tuple[int, str]]:
    """Line and what is changed of every mutant, at once: without making them."""
    for node, _, what in _all_changes(ast.parse(source)):
        yield node.lineno, what


def functions(code: CodeType) -> dict[str, CodeType]:
    """The code of each function and method by its qualified name; nested ones lie in theirs."""
    found = {}
    for const in code.co_consts:
        if isinstance(const, CodeType):
            found[const.co_qualname] = const
            found |= functions(const)
    return found


def _all_changes(tree: ast.Module) -> list[Any]:
    return [(node, change, what) for node in _changeable(tree) for change, what in _changes(node)]


def _changeable(tree: ast.Module) -> list[Any]:
    """Nodes that may be changed, by line: what functions do, and plain values of the module.

    Not annotations, texts, defaults or the fields of classes.
    """
    found: list[Any] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.ClassDef):
            for child in node.body:
                if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                    visit(child)
            return
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            if name == "args" and isinstance(value, ast.arguments):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                    if hasattr(child, "lineno"):
                        found.append(child)
                    visit(child)

    visit(tree)
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def _changes(node: Any) -> Iterator[tuple[Any, str]]:
    if isinstance(node, ast.Compare):
        for index, op in enumerate(node.ops):
            other = _COMPARE.get(type(op))
            if other is not None:
                what = f"{type(op).__name__} → {other.__name__}"
                yield lambda n, i=index, o=other: n.ops.__setitem__(i, o()), what
    elif isinstance(node, ast.BoolOp):
        other_op = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield lambda n: setattr(n, "op", other_op()), f"{type(node.op).__name__} → other"
    elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        binary = _BINARY[type(node.op)]
        yield lambda n: setattr(n, "op", binary()), f"{type(node.op).__name__} → {binary.__name__}"
    elif isinstance(node, (ast.If, ast.IfExp)):
        negated = lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))  # noqa: E731
        yield negated, "condition negated"
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
        key = "id" if isinstance(node.func, ast.Name) else "attr"
        called = _CALLS.get(getattr(node.func, key))
        if called is not None:
            what = f"{getattr(node.func, key)} → {called}"
            yield lambda n: setattr(n.func, key, called), what
    elif isinstance(node, ast.Attribute) and node.attr in _OUTCOMES:
        outcome = _OUTCOMES[node.attr]
        yield lambda n: setattr(n, "attr", outcome), f"{node.attr} → {outcome}"
    elif isinstance(node, ast.Continue):
        yield lambda n: setattr(n, "__class__", ast.Pass), "continue → pass"


def _constants(node: ast.Constant) -> Iterator[tuple[Any, str]]:
    value = node.value
    if isinstance(value, bool):
        yield lambda n: setattr(n, "value", not value), f"{value} → {not value}"
    elif isinstance(value, (int, float)):
        more = value + 1 if isinstance(value, int) or value >= 1 else value * 2 or 1.0
        yield lambda n: setattr(n, "value", more), f"{value} → {more}"


def _names(tree: ast.Module) -> dict[ast.AST, str]:
    """Node → qualified name of the outermost function it lies in (whose code holds it)."""
    found: dict[ast.AST, str] = {}

    def visit(node: ast.AST, prefix: str, function: str) -> None:
        if function:
            found[node] = function
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                visit(child, f"{prefix}{child.name}.", function)
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and not function:
                visit(child, prefix, f"{prefix}{child.name}")
            else:
                visit(child, prefix, function)

    visit(tree, "", "")
    return found


def _twin(tree: ast.AST, other: ast.AST, node: ast.AST) -> ast.AST:
    """The node of a copied tree that stands where ``node`` does."""
    for mine, theirs in zip(ast.walk(tree), ast.walk(other), strict=True):
        if mine is node:
            return theirs
    raise ValueError("not in this tree")
