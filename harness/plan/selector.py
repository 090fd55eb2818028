"""An alert as plans name it: ``ServiceDown{zone="us-east-1a"}``, PromQL with nothing but ``=``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="[^"\\]*"'
#: A selector within a longer text; has no groups of its own.
PATTERN = rf"{_NAME}(?:\{{(?:{_LABEL}(?:, ?{_LABEL})*)?\}})?"


@dataclass(frozen=True)
class Selector:
    """The alerts called ``name`` that have all these labels; others may come on top."""

    name: str
    labels: Mapping[str, str]

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with ``labels`` (``alertname`` among them) is meant."""
        wanted = {**self.labels, "alertname": self.name}
        return all(labels.get(label) == value for label, value in wanted.items())


def parse_selector(text: str) -> Selector:
    """The selector written so. Raises ValueError with what is expected instead."""
    if not re.fullmatch(PATTERN, text):
        example = 'ServiceDown or ServiceDown{zone="us-east-1a"}'
        raise ValueError(f"{text!r} names no alert; write {example}")
    name, _, rest = text.partition("{")
    return Selector(name, dict(re.findall(r'(\w+)="([^"]*)"', rest)))
