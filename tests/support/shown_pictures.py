"""What people are shown, against what the model is given."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from pipeline.images.decode import Transform, decode
from pipeline.images.picture import picture
from tests.support.corpus import MAX_PIXELS


def check_shown(data: bytes, png: bytes, side: int) -> bool:
    """Compare a picture for people, of at most `side` pixels, with the pixels that the model is given.

    Pictures that had to be made smaller mix pixels; of these only the size is looked at, and the answer is False.
    """
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        shown = np.asarray(image)
    width, height = picture(data, MAX_PIXELS).size
    factor = side // max(width, height)
    if not factor:
        assert max(shown.shape) == side
        return False
    small = shown[::factor, ::factor]
    assert np.array_equal(small.repeat(factor, 0).repeat(factor, 1), shown)
    assert small.shape == (height, width, 3)
    least = min(width, height)
    top, left = round((height - least) / 2), round((width - least) / 2)
    seen = decode(data, Transform(least, None, "bilinear", MAX_PIXELS))
    assert np.array_equal(small[top : top + least, left : left + least].transpose(2, 0, 1), seen)
    return True
