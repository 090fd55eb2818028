"""Requests that are always the same: declared once, sent without a line of Python of the user's.

::

    class Site(OpenLoopUser):
        home = get("/", weight=70, length=512)
        logo = get("/logo.png", weight=20, expect=(200, 304))
        save = put("/save", body=from_file("save.bin"), weight=10)

What comes back is checked for its status and, where ``length`` says so, its size; the body is
dropped inside the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.load.wire.ask import DROP, Ask
from harness.load.wire.client import HttpClient
from harness.load.wire.upload import Body


class Declared:
    """One request of a user class, and what must come back."""

    def __init__(
        self,
        method: str,
        path: str,
        *,
        weight: float = 1.0,
        headers: Mapping[str, str] | None = None,
        body: bytes | Body | None = None,
        expect: tuple[int, ...] = (200,),
        length: int | None = None,
    ) -> None:
        """``weight``: its share of the arrivals. ``length``: size of the answer's body in bytes."""
        self.method = method
        self.path = path
        self.weight = weight
        self.headers = dict(headers or {})
        self.body = body
        self.expect = frozenset(expect)
        self.length = length

    def bound_to(self, http: HttpClient) -> Bound:
        """The request as bytes for one service. Raises ValueError for a path that is none."""
        size_bytes = len(self.body) if self.body is not None else None
        bound = Bound(self, http.head(self.method, self.path, self.headers, size_bytes))
        if isinstance(bound.body, Body) and not http.is_encrypted:
            bound.held = bound.body.held_behind(bound.head)
        return bound


class Bound(Ask):
    """A declared request, ready to be sent."""

    __slots__ = ("expect", "length", "method", "size_bytes")

    def __init__(self, declared: Declared, head: bytes) -> None:
        super().__init__(declared.method, head, declared.body, take=DROP)
        self.method = declared.method
        self.expect = declared.expect
        self.length = declared.length
        self.size_bytes = len(declared.body) if declared.body is not None else 0


def get(path: str, **options: object) -> Declared:
    """A GET; options as of :class:`Declared`."""
    return Declared("GET", path, **options)  # type: ignore[arg-type]


def put(path: str, **options: object) -> Declared:
    """A PUT; options as of :class:`Declared`."""
    return Declared("PUT", path, **options)  # type: ignore[arg-type]


def post(path: str, **options: object) -> Declared:
    """A POST; options as of :class:`Declared`."""
    return Declared("POST", path, **options)  # type: ignore[arg-type]


def delete(path: str, **options: object) -> Declared:
    """A DELETE; options as of :class:`Declared`."""
    return Declared("DELETE", path, **options)  # type: ignore[arg-type]
