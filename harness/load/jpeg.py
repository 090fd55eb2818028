"""Just enough JPEG to make pictures to upload and to check pictures that come back.

The generator must run without an image library (a light install has none), and checking
a variant must cost microseconds, so both are done on the bytes: a baseline greyscale
encoder with fixed short Huffman tables, and a reader of the frame header.
"""

from __future__ import annotations

import random
import struct
from typing import NamedTuple

_SOI = b"\xff\xd8"
_EOI = b"\xff\xd9"
#: DC: the 12 size categories, all with 4-bit codes. AC: end of block is ``0``, "one
#: coefficient of 3 bits" is ``10``; no code is all ones, as the format demands.
_DC_TABLE = bytes([0, 0, 0, 12, *[0] * 12, *range(12)])
_AC_TABLE = bytes([1, 1, *[0] * 14, 0x00, 0x03])
_QUANTISER = 16
_AC_SIZE = 3


class Frame(NamedTuple):
    """Size of a picture as its header states it, in pixels."""

    width: int
    height: int


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _signed_bits(value: int, size: int) -> str:
    """JPEG's signed notation: negative numbers are written less one, without the sign."""
    if size == 0:
        return ""
    return format(value if value > 0 else value + (1 << size) - 1, f"0{size}b")


def _scan(seed: str, blocks: int, texture: int) -> bytes:
    """Entropy-coded blocks: a random walk of brightness, each block with some texture."""
    source = random.Random(seed)
    bits: list[str] = []
    level = 0
    for _ in range(blocks):
        target = max(-60, min(60, level + source.randint(-9, 9)))
        difference, level = target - level, target
        size = abs(difference).bit_length()
        bits.append(format(size, "04b") + _signed_bits(difference, size))
        for _ in range(texture):
            value = source.choice((-7, -6, -5, -4, 4, 5, 6, 7))
            bits.append("10" + _signed_bits(value, _AC_SIZE))
        bits.append("0")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    data = int(text, 2).to_bytes(len(text) // 8, "big")
    return data.replace(b"\xff", b"\xff\x00")


def picture(seed: str, width: int = 640, height: int = 480, texture: int = 6) -> bytes:
    """A greyscale JPEG, the same for the same arguments; about 27 kB at the defaults.

    ``width`` and ``height`` in pixels, multiples of 8; ``texture`` coefficients per block.
    Raises ValueError when a side is not a multiple of 8.
    """
    if width % 8 or height % 8 or not (0 < width < 65536 and 0 < height < 65536):
        raise ValueError(f"{width}x{height} is not a whole number of 8x8 blocks")
    return b"".join(
        (
            _SOI,
            _segment(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"),
            _segment(0xDB, b"\x00" + bytes([_QUANTISER] * 64)),
            _segment(0xC0, struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)),
            _segment(0xC4, b"\x00" + _DC_TABLE),
            _segment(0xC4, b"\x10" + _AC_TABLE),
            _segment(0xDA, b"\x01\x01\x00\x00\x3f\x00"),
            _scan(seed, (width // 8) * (height // 8), texture),
            _EOI,
        )
    )


def with_comment(data: bytes, text: str) -> bytes:
    """The same picture carrying ``text`` (a COM segment), so that its bytes are its own."""
    return data[:2] + _segment(0xFE, text.encode()) + data[2:]


def frame(data: bytes) -> Frame | None:
    """Width and height from the frame header; None when ``data`` is no whole JPEG."""
    if not data.startswith(_SOI) or _EOI not in data[-16:]:
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Frame(width, height)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
