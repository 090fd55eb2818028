"""Every colour of text in the page can be read on what it stands on, in light and in dark."""

from __future__ import annotations

import re

import pytest

from harness.report.page import style

AA = 4.5
ON = ("ink", "soft", "pass", "fail", "unknown")
UNDER = ("paper", "card")
WASHED = ("pass", "fail", "unknown")


def schemes() -> dict[str, dict[str, str]]:
    """The colours of each ``:root`` block, in the order they stand: light, dark, print."""
    blocks = re.findall(r":root \{(.*?)\}", style(), re.S)
    assert len(blocks) == 3
    found = [dict(re.findall(r"--([\w-]+):(#[0-9a-f]+)", block)) for block in blocks]
    return dict(zip(("light", "dark", "print"), found, strict=True))


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * c for c in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["light", "dark", "print"])
def test_text_has_the_contrast_that_wcag_aa_asks_for(name: str) -> None:
    colours = schemes()[name]
    pairs = [(on, under) for on in ON for under in UNDER]
    pairs += [(o, f"{o}-wash") for o in WASHED] + [("soft", f"{o}-wash") for o in WASHED]
    pairs += [("ink", "wash")] + [("on-badge", o) for o in WASHED]
    poor = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: c for pair, c in poor.items() if c < AA} == {}


@pytest.mark.parametrize("name", ["light", "dark", "print"])
def test_every_colour_used_is_defined_in_every_scheme(name: str) -> None:
    used = set(re.findall(r"var\(--([\w-]+)\)", style())) - {"tone", "tone-wash"}
    assert used <= set(schemes()[name])
