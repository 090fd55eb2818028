"""Which series a PromQL expression reads: enough of its grammar for that, and no more.

Prometheus stamps the answer to an instant query with the time of the question, so how old
the samples behind it are must be asked of each selector by itself (``timestamp(…)``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
      | (?P<comment>\#[^\n]*)
      | (?P<range>\[[^\]]*\])
      | (?P<number>0[xX][0-9a-fA-F]+
          |\d+(?:\.\d+)?(?:[eE][+-]?\d+|(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*)?|\.\d+)
      | (?P<name>[A-Za-z_:][\w:]*)
      | (?P<other>\S)""",
    re.VERBOSE,
)
#: Words before a list of labels in brackets.
_LISTS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_WORDS = _LISTS | {"and", "or", "unless", "bool", "offset", "atan2", "start", "end", "inf", "nan"}


def selectors(query: str) -> tuple[str, ...]:
    """Each selector of ``query`` as written, without range, offset or ``@``; once, in order.

    Never raises: what is no PromQL gives what looks like selectors in it.
    """
    return tuple(dict.fromkeys(_found(query)))


def metric_names(query: str) -> tuple[str, ...]:
    """The names of the metrics that ``query`` reads, where it names them outright."""
    names = (selector.partition("{")[0] for selector in selectors(query))
    return tuple(dict.fromkeys(name for name in names if name))


def _found(query: str) -> Iterator[str]:
    tokens = [t for t in _TOKEN.finditer(query) if t.lastgroup not in ("comment", "range")]
    at = 0
    while at < len(tokens):
        token, text = tokens[at], tokens[at].group()
        after = tokens[at + 1].group() if at + 1 < len(tokens) else ""
        if text == "{":
            end = _closing(tokens, at, "{", "}")
            yield query[token.start() : tokens[end].end()]
            at = end
        elif token.lastgroup == "name" and text.lower() in _WORDS:
            if text.lower() in _LISTS and after == "(":
                at = _closing(tokens, at + 1, "(", ")")
        elif token.lastgroup == "name" and after == "{":
            end = _closing(tokens, at + 1, "{", "}")
            yield query[token.start() : tokens[end].end()]
            at = end
        elif token.lastgroup == "name" and after != "(" and not _is_aggregation(tokens, at):
            yield text
        at += 1


def _is_aggregation(tokens: list[re.Match[str]], at: int) -> bool:
    """Whether it is the operator of ``sum by (zone) (…)``."""
    after = tokens[at + 1].group().lower() if at + 1 < len(tokens) else ""
    return after in ("by", "without")


def _closing(tokens: list[re.Match[str]], at: int, opens: str, closes: str) -> int:
    """The index of the bracket that closes the one at ``at``, or of the last token."""
    depth = 0
    for index in range(at, len(tokens)):
        depth += (tokens[index].group() == opens) - (tokens[index].group() == closes)
        if depth == 0:
            return index
    return len(tokens) - 1
