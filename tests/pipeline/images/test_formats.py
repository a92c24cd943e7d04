"""Formats by their first bytes, against what writers of each make and Pillow's own opinion."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.images.bad import BadImage
from pipeline.images.formats import format_of, not_supported
from tests.support.odd_images import whole

FILES = list(dict(whole(np.random.default_rng(0))).items())


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(("name", "data"), FILES, ids=[name for name, _ in FILES])
def test_the_format_is_that_which_pillow_finds(name: str, data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as image:
        assert format_of(data) == image.format
    assert format_of(memoryview(data)) == format_of(data)


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000", "WEBP"])
def test_a_format_that_this_pillow_was_built_without_is_named(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = next(data for name, data in FILES if f" {kind}." in name)
    Image.init()
    monkeypatch.delitem(Image.OPEN, kind)
    with pytest.raises(BadImage, match=f"^{kind} is not supported here$"):
        format_of(data)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"P6 2 2 255\n", "PPM"),
        (b"P6\n# a comment\n", "PPM"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1miaf", "AVIF"),
        (b"\0\0\0\x18ftypavis\0\0\0\0msf1avis", "AVIF"),
    ],
)
def test_rare_beginnings(data: bytes, kind: str) -> None:
    assert format_of(data) == kind


@pytest.mark.parametrize("data", [b"P6", b"P61", b"P9 2 2", b"\0\0\0\x18ftypqt  ", b"RIFF\0\0\0\0WAVE"])
def test_what_only_looks_like_it_is_no_image(data: bytes) -> None:
    with pytest.raises(BadImage, match=r"^not an image: starts with "):
        format_of(data)


def test_the_name_comes_first_and_more_behind_a_colon() -> None:
    assert str(not_supported("LAB")) == "LAB is not supported here"
    assert str(not_supported("this form of TIFF", "grey")) == "this form of TIFF is not supported here: grey"
