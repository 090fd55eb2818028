"""What is stored and how popular it is: everything follows from a seed and an object id.

Bodies are generated, never kept: the bytes of an object can be made again at any time
from (seed, id), so a checksum or a range can be verified without storing anything.

Where the shapes come from (all can be changed by the caller):

* **Sizes** are log-normal. Studies of file sizes agree on a log-normal body with a
  median of a few KiB and a heavy tail. Median 8 KiB; sigma 1.3, so a tenth is above
  42 KiB; cut to 256 KiB (0.4 % are), so that a lab on two cores carries the traffic.
  The mean is about 18 KiB.
* **Popularity** is Zipf with exponent 0.9 by age (the oldest object is the most popular):
  web request logs are described by exponents of 0.6 to 1.0.
* **Pictures** are 640 to 1024 pixels wide, so that every variant asked for is smaller.
  Drawing one takes tens of milliseconds, so a few are drawn and each upload is one of
  them with its own id inside.
"""

from __future__ import annotations

import functools
import hashlib
import random

from harness.load import jpeg

MEDIAN_SIZE_BYTES = 8 * 1024
MAX_SIZE_BYTES = 256 * 1024
SIZE_SIGMA = 1.3
ZIPF_EXPONENT = 0.9
PICTURE_SIZES = ((640, 480), (800, 600), (1024, 768))
PICTURES = 6
FILE_TYPE = "application/octet-stream"
IMAGE_TYPE = "image/jpeg"


def file_size_bytes(seed: int, object_id: str) -> int:
    """Size of a file: log-normal, at least 1 byte, at most :data:`MAX_SIZE_BYTES`."""
    size = MEDIAN_SIZE_BYTES * random.Random(f"size:{seed}:{object_id}").lognormvariate(
        0.0, SIZE_SIGMA
    )
    return max(1, min(MAX_SIZE_BYTES, int(size)))


def file_bytes(seed: int, object_id: str, size_bytes: int) -> bytes:
    """The first ``size_bytes`` of the endless content of this object."""
    return hashlib.shake_128(f"content:{seed}:{object_id}".encode()).digest(size_bytes)


def image_bytes(seed: int, object_id: str) -> bytes:
    """The picture stored under this id: one of :data:`PICTURES`, with the id as a comment."""
    return jpeg.with_comment(_picture(seed, picture_of(seed, object_id)), object_id)


@functools.lru_cache(maxsize=4096)
def picture_of(seed: int, object_id: str) -> int:
    """Which of the :data:`PICTURES` is stored under this id."""
    return random.Random(f"picture:{seed}:{object_id}").randrange(PICTURES)


@functools.lru_cache(maxsize=PICTURES)
def _picture(seed: int, number: int) -> bytes:
    width, height = PICTURE_SIZES[number % len(PICTURE_SIZES)]
    return jpeg.picture(f"picture:{seed}:{number}", width, height)


def zipf_rank(u: float, n: int, exponent: float = ZIPF_EXPONENT) -> int:
    """Rank ``0 … n-1`` for a uniform ``u`` in ``[0, 1)``; rank 0 is the most popular.

    The inverse of the continuous Zipf distribution on ``[1, n + 1)``: exact enough for
    traffic, and takes no table, so ``n`` may grow with every upload.
    """
    power = 1.0 - exponent
    if abs(power) < 1e-9:
        return min(n - 1, int((n + 1) ** u) - 1)
    x = (((n + 1) ** power - 1.0) * u + 1.0) ** (1.0 / power)
    return min(n - 1, int(x) - 1)
