"""The embedded default: a pool of scikit-learn's real images.

Handwritten digits 0-7 are the known classes, 8 and 9 lie in the pool as unknown ones, crops of two photographs
are far out, and a few rows are broken. The pool holds ids and PNG bytes, no labels; the truths lie beside it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from pipeline.config.project import Config
from pipeline.config.sections import Pool
from pipeline.encoding import to_parquet
from pipeline.errors import ConfigError
from pipeline.store.opening import Store, open_store

SHARDS = 10
FAR = 120
CROP = 32
KNOWN = tuple(str(digit) for digit in range(8))
_FILES = {
    "pool": [f"part-{n:05d}.parquet" for n in range(SHARDS)],
    "test": ["test.parquet"],
    "truth": ["truth.parquet"],
}


def ensure(config: Config) -> bool:
    """Make the demo's data where they are missing.

    The data are its pool, test set and truths. Returns True if something was made. The same bytes come out every time,
    so a run that was cut short is simply repeated. Nothing that is there already is overwritten.

    Raises:
        ConfigError: other data lie where the demo's would go.
    """
    uris = {"pool": config.pool.uris[0], "test": config.test_uri, "truth": config.truth_uri}
    stores = {name: open_store(uri, config.storage) for name, uri in uris.items() if uri is not None}
    if all(stores[name].exists(key) for name, keys in _FILES.items() for key in keys):
        return False
    foreign = {entry.key for entry in stores["pool"].list()} - set(_FILES["pool"])
    if foreign:
        place = stores["pool"].url(min(foreign))
        raise ConfigError(
            f"demo: {place} is not of the digits demo; give pool.uri an empty place, or remove `demo`"
        )
    _make(stores, config.pool, config.test.label_column)
    return True


def _make(stores: dict[str, Store], pool: Pool, label_column: str) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    scans: NDArray[Any] = digits.images
    targets: NDArray[Any] = digits.target
    rng = np.random.default_rng(20_240_511)
    order = rng.permutation(len(scans))
    known = [i for i in order if targets[i] < len(KNOWN)]
    held = known[: len(known) * 3 // 10]
    rows: list[tuple[bytes, str | None, str | None]] = []
    for i in [*known[len(held) :], *[i for i in order if targets[i] >= len(KNOWN)]]:
        kind = "known" if targets[i] < len(KNOWN) else "unknown"
        rows.append((_digit(scans[i]), str(targets[i]), kind))
    rows += [(png, photo, "far") for png, photo in _crops(rng)]
    whole = rows[0][0]
    # Not images: nothing at all, text, a cut PNG, a PNG with a broken chunk, and a PNG signature alone.
    rows += [(b"", None, None), (b"this is not an image", None, None), (whole[: len(whole) // 2], None, None)]
    rows += [(whole[:40] + b"\x00" * 8 + whole[48:], None, None), (whole[:8], None, None)]
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    names = [f"img-{n:05d}" for n in range(len(shuffled))]

    tests = {
        pool.id_column: [f"test-{n:05d}" for n in range(len(held))],
        pool.image_column: [_digit(scans[i]) for i in held],
        label_column: [str(targets[i]) for i in held],
    }
    _put(stores["test"], "test.parquet", to_parquet(pa.table(tests)))
    true = [(name, label, kind) for name, (_, label, kind) in zip(names, shuffled, strict=True) if kind]
    truths = {"id": [t[0] for t in true], "label": [t[1] for t in true], "kind": [t[2] for t in true]}
    _put(stores["truth"], "truth.parquet", to_parquet(pa.table(truths)))
    for key, rows_of in zip(_FILES["pool"], np.array_split(np.arange(len(names)), SHARDS), strict=True):
        ids, images = [names[i] for i in rows_of], [shuffled[i][0] for i in rows_of]
        _put(stores["pool"], key, to_parquet(pa.table({pool.id_column: ids, pool.image_column: images})))


def _put(store: Store, key: str, data: bytes) -> None:
    if not store.put_if_absent(key, data) and store.get(key) != data:
        raise ConfigError(
            f"demo: {store.url(key)} holds other data; give it an empty place, or remove `demo`"
        )


def _digit(image: NDArray[Any]) -> bytes:
    """Encode a scan as a PNG.

    It has 8 x 8 pixels with 17 grey levels.
    """
    return _png(Image.fromarray((image * (255.0 / 16.0)).round().astype(np.uint8)))


def _crops(rng: np.random.Generator) -> Iterable[tuple[bytes, str]]:
    from sklearn.datasets import load_sample_images

    photos = load_sample_images()
    for n in range(FAR):
        which = n % len(photos.images)
        photo = photos.images[which]
        top, left = (int(rng.integers(0, side - CROP)) for side in photo.shape[:2])
        yield _png(Image.fromarray(photo[top : top + CROP, left : left + CROP])), "photo"


def _png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format="PNG")
    return sink.getvalue()
