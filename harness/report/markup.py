"""HTML and SVG put together so that text can never become markup.

Whatever is not :class:`Safe` is escaped when it becomes part of an element. Evidence is
written by the system under test, and must not be able to write the report.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

Child: TypeAlias = "str | Iterable[Child] | None"

_VOID = {"meta", "br", "hr"}


class Safe(str):
    """Markup; every other text is escaped."""

    __slots__ = ()


def text(*children: Child) -> Safe:
    """Children one after another, escaped unless they are markup."""
    return Safe("".join(_parts(children)))


def _parts(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Safe):
            yield child
        elif isinstance(child, str):
            # A control character would make the document invalid.
            yield escape("".join(c for c in child if c >= " " or c in "\t\n"))
        else:
            yield from _parts(child)


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Safe:
    """``<name attributes>children</name>``. ``class_`` is ``class``, ``a_b`` is ``a-b``.

    A number is written with one decimal; None and False leave the attribute out.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Safe(f"<{name}{written}>")
    return Safe(f"<{name}{written}>{text(*children)}</{name}>")


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    shown = value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
    return f' {name}="{escape(shown)}"'


def table(
    head: Iterable[Child], rows: Iterable[Safe], *, class_: str = "", caption: str = ""
) -> Safe:
    """A table that scrolls by itself on a narrow screen. ``rows`` are ``<tr>``."""
    cells = [c if isinstance(c, Safe) and c.startswith("<th") else th(c) for c in head]
    inner = tag(
        "table",
        tag("caption", caption) if caption else None,
        tag("thead", tag("tr", *cells)),
        tag("tbody", *rows),
        class_=class_ or None,
    )
    return tag("div", inner, class_="scroll")


def th(child: Child, *, scope: str = "col", class_: str | None = None) -> Safe:
    """A header cell."""
    return tag("th", child, scope=scope, class_=class_)


def td(*children: Child, class_: str | None = None) -> Safe:
    """A cell."""
    return tag("td", *children, class_=class_)
