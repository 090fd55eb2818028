"""What is shown instead of a picture that cannot be had: an older copy, or a placeholder.

Such an answer says what it is, in the header ``X-Degraded``, and no cache keeps it.
"""

from __future__ import annotations

import functools
import io
from collections import OrderedDict

from PIL import Image, JpegImagePlugin  # noqa: F401 - loaded before the fork

from harness.lab.services.asgi import Header, Response

#: Answers kept per gateway, and the largest that is.
KEPT, KEPT_BYTES = 64, 64 * 1024
_GREY = (190, 190, 190)


class Fallback:
    """Pictures this gateway has served, each to whom it was allowed, and a grey one for the rest.

    Seeded defect: ``silent``, and nobody is told that it is not the picture asked for.
    """

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def keep(self, user: str, asked: str, body: object) -> None:
        """Remember what ``user`` was shown for ``asked`` (path and query)."""
        if isinstance(body, bytes) and len(body) <= KEPT_BYTES:
            self._kept[user, asked] = body
            self._kept.move_to_end((user, asked))
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)

    def answer(self, user: str, asked: str, width: int) -> tuple[str, Response]:
        """``("stale" or "placeholder", the answer)``."""
        kept = None if self._silent else self._kept.get((user, asked))
        kind = "placeholder" if kept is None else "stale"
        headers: list[Header] = [(b"content-type", b"image/jpeg"), (b"cache-control", b"no-store")]
        if not self._silent:
            headers.append((b"x-degraded", kind.encode()))
        return kind, Response(200, headers, placeholder(width) if kept is None else kept)


@functools.lru_cache(maxsize=16)
def placeholder(width: int) -> bytes:
    """A grey JPEG of this width, in pixels."""
    out = io.BytesIO()
    Image.new("RGB", (width, max(1, width * 3 // 4)), _GREY).save(out, "JPEG", quality=50)
    return out.getvalue()
