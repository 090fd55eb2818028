"""Seeded builds of the gateway: versions that are bad in one way each, by their image tag.

Deploying one is a change of the pod template's image, as it is with a bad build anywhere.
Any other tag is a good build.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable

from harness.lab.services.asgi import Handler, HttpError, Request, Response

#: What clients ask for; health checks and tokens are served well by every build.
USER_OPS = frozenset(
    {
        "delete",
        "download",
        "head",
        "image",
        "list",
        "synthetic",
        "upload",
        "upload-create",
        "upload-part",
    }
)
_UPLOADS = frozenset({"upload", "upload-create", "upload-part"})
#: Of the bad build that errs, one request in so many fails.
_FAILS_EVERY = 2
_SLOW_S = 0.8

#: Makes of a handler the one that this build has.
Build = Callable[[str, Handler], Handler]


def build_of(version: str) -> Build:
    """The build of an image tag."""
    return {
        "v2-errors": _errors,
        "v2-slow": _slow,
        "v2-wrong-bytes": _wrong_bytes,
        "v2-bad-uploads": _bad_uploads,
    }.get(version, lambda: _good)()


def _good(op: str, handler: Handler) -> Handler:
    return handler


def _errors() -> Build:
    """Answers 500 to every second request."""
    served = 0

    def build(op: str, handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            nonlocal served
            served += 1
            if served % _FAILS_EVERY == 0:
                raise HttpError(500, "internal", "the service failed")
            return await handler(request)

        return handle if op in USER_OPS else handler

    return build


def _slow() -> Build:
    """Takes its time over everything."""

    def build(op: str, handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            await asyncio.sleep(_SLOW_S)
            return await handler(request)

        return handle if op in USER_OPS else handler

    return build


def _wrong_bytes() -> Build:
    """Answers 200, with the right length, checksum header and type, and other bytes."""

    def build(op: str, handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            response = await handler(request)
            if request.method != "GET" or response.status != 200:
                return response
            body = response.body
            wrong = _spoilt(body) if isinstance(body, bytes) else _spoilt_chunks(body)
            return dataclasses.replace(response, body=wrong)

        return handle if op in ("download", "image", "synthetic") else handler

    return build


def _bad_uploads() -> Build:
    """Serves all reads well, and fails every upload."""

    def build(op: str, handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            raise HttpError(500, "internal", "the service failed")

        return handle if op in _UPLOADS else handler

    return build


def _spoilt(body: bytes) -> bytes:
    """``body`` with one byte in its middle changed."""
    if not body:
        return body
    at = len(body) // 2
    return body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :]


async def _spoilt_chunks(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield _spoilt(chunk)
