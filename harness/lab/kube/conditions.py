"""The expressions by which an AnalysisTemplate says what is good: ``result[0] >= 0.95``.

Argo Rollouts evaluates them with a small expression language; what analyses use of it is
read here: comparisons, arithmetic, ``&&``, ``||``, ``!``, indexing, ``len``, ``isNaN``, ``isInf``,
``asFloat`` and ``asInt``, of the one name ``result``. Anything else is refused.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "len": len,
    "isNaN": lambda value: math.isnan(float(value)),
    "isInf": lambda value: math.isinf(float(value)),
    "asFloat": float,
    "asInt": int,
}
_COMPARISONS: Mapping[type, Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class ConditionError(ValueError):
    """The expression cannot be read, or cannot be evaluated on this result."""


def holds(condition: str, result: Any) -> bool:
    """Whether ``condition`` is true of ``result``. Raises ConditionError."""
    try:
        value = _value(_parsed(condition), result)
    except (IndexError, KeyError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise ConditionError(f"{condition}: {error}") from error
    if not isinstance(value, bool):
        raise ConditionError(f"{condition}: expected bool, got {value!r}")
    return value


@cache
def _parsed(condition: str) -> ast.expr:
    words = condition.replace("&&", " and ").replace("||", " or ")
    words = re.sub(r"!(?!=)", " not ", words)
    words = re.sub(r"\btrue\b", "True", re.sub(r"\bfalse\b", "False", words))
    try:
        return ast.parse(words.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ConditionError(f"{condition}: cannot be read") from error


def check(condition: str) -> str:
    """Why the expression could never be evaluated; empty if it can be."""
    try:
        _known(_parsed(condition))
    except ConditionError as error:
        return str(error)
    return ""


def _known(node: ast.expr) -> None:
    """Raises ConditionError for anything the language here does not have."""
    match node:
        case ast.BoolOp():
            parts: list[ast.expr] = node.values
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            parts = [node.operand]
        case ast.Compare() if all(type(op) in _COMPARISONS for op in node.ops):
            parts = [node.left, *node.comparators]
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            parts = [node.left, node.right]
        case ast.Subscript():
            parts = [node.value, node.slice]
        case ast.Call(func=ast.Name(id=name), args=[only], keywords=[]) if name in _FUNCTIONS:
            parts = [only]
        case ast.Name(id="result"):
            parts = []
        case ast.Constant(value=bool() | int() | float()):
            parts = []
        case _:
            raise ConditionError(f"{ast.unparse(node)}: not understood here")
    for part in parts:
        _known(part)


def _value(node: ast.expr, result: Any) -> Any:
    _known(node)
    return _evaluated(node, result)


def _evaluated(node: ast.expr, result: Any) -> Any:
    match node:
        case ast.BoolOp(op=ast.And()):
            return all(_evaluated(part, result) for part in node.values)
        case ast.BoolOp():
            return any(_evaluated(part, result) for part in node.values)
        case ast.UnaryOp(op=ast.Not()):
            return not _evaluated(node.operand, result)
        case ast.UnaryOp():
            return -_evaluated(node.operand, result)
        case ast.Compare():
            return _compared(node, result)
        case ast.BinOp():
            sides = _evaluated(node.left, result), _evaluated(node.right, result)
            return _ARITHMETIC[type(node.op)](*sides)
        case ast.Subscript():
            return _evaluated(node.value, result)[_evaluated(node.slice, result)]
        case ast.Call(func=ast.Name(id=name)):
            return _FUNCTIONS[name](_evaluated(node.args[0], result))
        case ast.Name():
            return result
    assert isinstance(node, ast.Constant)
    return node.value


def _compared(node: ast.Compare, result: Any) -> bool:
    left = _evaluated(node.left, result)
    for op, comparator in zip(node.ops, node.comparators, strict=True):
        right = _evaluated(comparator, result)
        if not _COMPARISONS[type(op)](left, right):
            return False
        left = right
    return True
