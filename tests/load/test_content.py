"""Bodies can be made again from seed and id, and pictures are pictures."""

from __future__ import annotations

import io
import random
import statistics
from collections import Counter

import pytest

from harness.load import content, jpeg


def test_the_same_object_has_the_same_bytes_and_another_one_others():
    assert content.file_bytes(7, "a", 5000) == content.file_bytes(7, "a", 5000)
    assert content.file_bytes(7, "a", 5000) != content.file_bytes(7, "b", 5000)
    assert content.file_bytes(7, "a", 5000) != content.file_bytes(8, "a", 5000)


def test_the_beginning_of_an_object_can_be_made_without_the_rest():
    assert content.file_bytes(7, "a", 5000)[:100] == content.file_bytes(7, "a", 100)


def test_sizes_have_the_documented_median_and_never_pass_the_cap():
    sizes = [content.file_size_bytes(7, str(n)) for n in range(4000)]
    assert statistics.median(sizes) == pytest.approx(content.MEDIAN_SIZE_BYTES, rel=0.1)
    assert min(sizes) >= 1
    assert max(sizes) == content.MAX_SIZE_BYTES


def test_the_most_popular_object_is_asked_for_as_zipf_says():
    source = random.Random(7)
    n = 100
    asked = Counter(content.zipf_rank(source.random(), n) for _ in range(20_000))
    assert set(asked) <= set(range(n))
    harmonic = sum(1 / k**content.ZIPF_EXPONENT for k in range(1, n + 1))
    assert asked[0] / 20_000 == pytest.approx(1 / harmonic, rel=0.4)
    assert asked[0] > asked[9] > asked[99]


def test_zipf_stays_in_range_at_its_ends():
    for n in (1, 2, 1000):
        assert content.zipf_rank(0.0, n) == 0
        assert content.zipf_rank(1 - 1e-12, n) == n - 1


def test_an_image_library_reads_the_pictures_and_agrees_on_their_size():
    image_module = pytest.importorskip("PIL.Image", reason="the light install has no Pillow")
    for object_id in ("i-1", "i-2", "i-3"):
        data = content.image_bytes(7, object_id)
        picture = image_module.open(io.BytesIO(data))
        picture.load()
        assert picture.size == jpeg.frame(data)
        small = io.BytesIO()
        picture.resize((320, 240)).save(small, "JPEG")
        assert jpeg.frame(small.getvalue()) == (320, 240)


def test_each_uploaded_picture_has_bytes_of_its_own():
    pictures = {content.image_bytes(7, f"i-{n}") for n in range(12)}
    assert len(pictures) == 12


def test_what_is_no_whole_jpeg_has_no_frame():
    data = jpeg.picture("x", 64, 64)
    assert jpeg.frame(data) == (64, 64)
    assert jpeg.frame(data[:-40]) is None
    assert jpeg.frame(b'{"error": "no"}') is None
    assert jpeg.frame(b"") is None
