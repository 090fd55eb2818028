"""YAML with places: mappings that know where they stand, so that an error can say it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from harness.errors import PlanInvalid, Where

T = TypeVar("T")


class Node:
    """A mapping of the document that knows its place and which keys it may have."""

    def __init__(self, file: str, data: CommentedMap, key: str) -> None:
        self.file, self.data, self.key = file, data, key

    def where(self, key: str | None = None, *, value: bool = True) -> Where:
        path = f"{self.key}.{key}" if self.key and key else (key or self.key)
        place = self.data.lc.data.get(key) if key is not None and self.data.lc.data else None
        if place is None:
            return Where(self.file, self.data.lc.line + 1, self.data.lc.col + 1, path)
        line, column = (place[2], place[3]) if value else (place[0], place[1])
        return Where(self.file, line + 1, column + 1, path)

    def only(self, known: Iterable[str], required: Iterable[str]) -> None:
        known = tuple(known)
        for key in self.data:
            if key not in known:
                fail(f"unknown key {key!r}", nearest(key, known), self.where(key, value=False))
        for key in required:
            if key not in self.data:
                fail(f"{key!r} is missing", f"add a line {key}: …", self.where(None))

    def get(self, key: str, parse: Callable[[object], T]) -> T:
        try:
            return parse(self.data[key])
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            fail(message, hint or "see experiments/gamedays/lab.yaml", self.where(key))

    def child(self, key: str) -> Node:
        data = self.data[key]
        if not isinstance(data, CommentedMap):
            fail(f"{key!r} must have keys of its own", "indent them below it", self.where(key))
        return Node(self.file, data, f"{self.key}.{key}" if self.key else key)

    def items(self, key: str) -> list[Node]:
        data = self.data[key]
        path = f"{self.key}.{key}" if self.key else key
        if not isinstance(data, CommentedSeq):
            fail(f"{key!r} must be a list", "start each entry with '- '", self.where(key))
        for index, item in enumerate(data):
            if not isinstance(item, CommentedMap):
                line, column = data.lc.data[index]
                place = Where(self.file, line + 1, column + 1, f"{path}[{index}]")
                fail("an entry must have keys", "write - key: value", place)
        return [Node(self.file, item, f"{path}[{i}]") for i, item in enumerate(data)]


def load_yaml(text: str, file: str) -> list[Any]:
    """The documents in ``text``, in round-trip mode; ``file`` is named in errors.

    Raises PlanInvalid with the place of what is not YAML; a duplicate key is not.
    """
    yaml = YAML(typ="rt")
    try:
        return list(yaml.load_all(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Where(file, mark.line + 1, mark.column + 1) if mark else Where(file)
        problem = str(error.problem or error.context or "not YAML").splitlines()[0]
        hint = (
            "keep one of the two lines"
            if "duplicate" in problem
            else "check indentation, quotes and colons near this place"
        )
        raise PlanInvalid(problem, hint=hint, where=where) from error
    except YAMLError as error:
        where = Where(file)
        raise PlanInvalid(f"not YAML: {error}", hint="save it as UTF-8", where=where) from error


def where_in(text: str, file: str, *steps: str | int) -> Where:
    """The place in a document of the value that ``steps`` (keys and indices) lead to; of as many
    of them as there are."""
    found = load_yaml(text, file)
    node: Any = found[0] if found else None
    place = Where(file, 1, 1)
    for step in steps:
        if isinstance(node, CommentedMap) and step in node:
            place = Node(file, node, "").where(str(step))
        elif isinstance(node, CommentedSeq) and isinstance(step, int) and step < len(node):
            line, column = node.lc.data[step]
            place = Where(file, line + 1, column + 1)
        else:
            break
        node = node[step]
    key = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).lstrip(".")
    return Where(file, place.line, place.column, key)


def relative(path: Path) -> str:
    """``path`` from the current folder when it lies below it, else absolute."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path.resolve())


def fail(message: str, hint: str, where: Where) -> NoReturn:
    """Raise PlanInvalid."""
    raise PlanInvalid(message, hint=hint, where=where)


def nearest(name: object, known: Iterable[str]) -> str:
    """A hint: the known name closest to ``name``, or all of them."""
    known = tuple(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "one of " + ", ".join(known)
