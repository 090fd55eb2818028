"""The image service: JPEG variants in a chosen width, made once and kept in the store."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor

from PIL import Image, JpegImagePlugin, PngImagePlugin  # noqa: F401 - loaded before the fork

from harness.lab.services.asgi import (
    MAX_BODY_BYTES,
    App,
    Handler,
    Header,
    HttpError,
    Request,
    Response,
    file_id,
)
from harness.lab.services.client import CallFailed
from harness.lab.services.file import matches
from harness.lab.services.files import File, Files
from harness.lab.services.pod import Pod

MIN_WIDTH, MAX_WIDTH, DEFAULT_WIDTH = 64, 1024, 320
MAX_PIXELS = 40_000_000
JPEG_QUALITY = 80


def resize(data: bytes, width: int) -> bytes:
    """``data`` as a JPEG at most ``width`` pixels wide. Raises ValueError if it is no image."""
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError("the image has too many pixels")
            width = min(width, image.width)
            height = max(1, round(image.height * width / image.width))
            image.draft("RGB", (width, height))
            small = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
            out = io.BytesIO()
            small.save(out, "JPEG", quality=JPEG_QUALITY)
            return out.getvalue()
    except (OSError, SyntaxError) as error:
        raise ValueError(f"not a JPEG or PNG image: {error}") from error


class ImageService(App):
    name = "image"

    def __init__(self, pod: Pod) -> None:
        super().__init__(pod.metrics, pod.served_by(), pod.joining("permission"))
        self._pod = pod
        self._files = Files(pod)
        self._making: dict[str, asyncio.Task[bytes]] = {}
        self._threads = ThreadPoolExecutor(1, "resize")
        self.metrics.counter("image_variants_made_total")

    def route(self, request: Request) -> tuple[str, Handler]:
        if request.path.startswith("/v1/images/"):
            if request.method != "GET":
                raise HttpError(405, "bad_method", f"{request.method} is not served here")
            return "image", self._variant
        return super().route(request)

    async def shutdown(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._pod.close()

    async def _variant(self, request: Request) -> Response:
        name = file_id(request.path[len("/v1/images/") :])
        width = width_of(request.query.get("w", ""))
        await self._files.require(request.header(b"x-user"), "read", name)
        file = await self._files.find(name)
        etag = f'"{file.sha256}-{width}"'
        headers: list[Header] = [(b"etag", etag.encode()), (b"content-type", b"image/jpeg")]
        if matches(request.header(b"if-none-match"), etag):
            return Response(304, headers)
        key = f"variants/{file.id}/{file.sha256}/{width}.jpg"
        data = await self._stored(key)
        if data is None:
            data = await self._make_once(key, file, width)
        return Response(200, headers, data)

    async def _stored(self, key: str) -> bytes | None:
        """The variant if this region's store has it; its absence or silence means: make it."""
        try:
            response = await self._files.store_call("GET", self._pod.env.store, key)
            data = await response.read()
        except CallFailed:
            return None
        return data if response.status == 200 else None

    async def _make_once(self, key: str, file: File, width: int) -> bytes:
        task = self._making.get(key)
        if task is None:
            task = asyncio.create_task(self._make(key, file, width))
            self._making[key] = task
            task.add_done_callback(lambda _: self._making.pop(key, None))
        return await asyncio.shield(task)

    async def _make(self, key: str, file: File, width: int) -> bytes:
        if file.size_bytes > MAX_BODY_BYTES:
            raise HttpError(413, "too_large", "the image is too large")
        try:
            original = await (await self._files.open(file.object_key, [])).read()
        except CallFailed as error:
            raise HttpError(503, "object_unavailable", "the store broke off") from error
        loop = asyncio.get_running_loop()
        try:
            data = await loop.run_in_executor(self._threads, resize, original, width)
        except ValueError as error:
            raise HttpError(415, "not_an_image", str(error)) from error
        self.metrics.inc("image_variants_made_total")
        headers = [(b"content-type", b"image/jpeg")]
        try:
            store = self._pod.env.store
            stored = await self._files.store_call("PUT", store, key, headers=headers, body=data)
            await stored.read()
        except CallFailed:
            self.metrics.inc("image_variants_not_stored_total")
        return data


def width_of(text: str) -> int:
    """The width asked for, in pixels. Raises HttpError 400."""
    if not text:
        return DEFAULT_WIDTH
    if not text.isdigit() or not MIN_WIDTH <= int(text) <= MAX_WIDTH:
        raise HttpError(400, "bad_request", f"w is a number from {MIN_WIDTH} to {MAX_WIDTH}")
    return int(text)
