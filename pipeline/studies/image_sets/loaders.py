"""Image sets without Parquet files.

They come from torchvision's loaders, from folders of images, or are one of two sets that are always there.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import ConfigError, PoolError, nearest

NOISE = 2000


@dataclass(frozen=True)
class Loaded:
    """A loaded set: one image file a row, its class by name.

    `file` returns the content of a row's file.
    """

    ids: list[str]
    classes: list[str]
    order: list[str]
    file: Callable[[int], bytes]

    def read(self, rows: NDArray[np.int64]) -> Iterator[bytes]:
        """Yield the files of `rows`."""
        for row in rows:
            yield self.file(int(row))


def open_torchvision(name: str, split: str, root: str, *, download: bool) -> Loaded:
    """Open an image set by name.

    It is one of `ALWAYS`, one of `LOADERS`, or a folder `root/name/split` (or `root/name`) with a folder of images for
    each class.

    Raises:
        ConfigError: no such loader and no such folder.
        PoolError: the loader does not find its files.
    """
    if name in ALWAYS:
        return ALWAYS[name](split)
    folder = next((p for p in (Path(root, name, split), Path(root, name)) if p.is_dir()), None)
    if name not in LOADERS:
        if folder is None:
            raise ConfigError(
                f"no image set {name!r}: {nearest(name, [*LOADERS, *ALWAYS])}; else give data.uri, the set's own uri, "
                f"or a folder {Path(root, name)} of images by class"
            )
        return _folder(name, split, folder)
    try:
        dataset = LOADERS[name](root, split, download)
    except (RuntimeError, FileNotFoundError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PoolError(
            f"{name}: torchvision finds no such set below {root} ({reason}); set data.download, data.root or data.uri"
        ) from None
    return _dataset(name, split, dataset)


def _folder(name: str, split: str, folder: Path) -> Loaded:
    import torchvision

    try:
        return _dataset(name, split, torchvision.datasets.ImageFolder(str(folder)))
    except (FileNotFoundError, RuntimeError) as error:
        raise PoolError(f"{name}: {' '.join(str(error).split())[:200]}") from None


def _dataset(name: str, split: str, dataset: Any) -> Loaded:
    files = getattr(dataset, "samples", getattr(dataset, "imgs", None))
    if files is not None:
        targets = [int(target) for _, target in files]
    else:
        labels = next(getattr(dataset, n) for n in ("targets", "labels", "_labels") if hasattr(dataset, n))
        targets = [int(label) for label in labels]
    names = [
        n[0] if isinstance(n, tuple) else str(n)
        for n in getattr(dataset, "classes", range(max(targets, default=-1) + 1))
    ]
    count = len(targets)
    ids = [f"{name}/{split}/{i:0{len(str(count))}d}" for i in range(count)]

    def file(row: int) -> bytes:
        return Path(files[row][0]).read_bytes() if files is not None else _bmp(dataset[row][0])

    return Loaded(ids, [names[target] for target in targets], names, file)


def _bmp(image: Image.Image) -> bytes:
    """Return pixels as a BMP file; compression would cost time."""
    sink = io.BytesIO()
    (image if image.mode in ("L", "RGB") else image.convert("RGB")).save(sink, "BMP")
    return sink.getvalue()


Loader = Callable[[str, str, bool], Any]


def _by_train(name: str) -> Loader:
    def load(root: str, split: str, download: bool) -> Any:
        import torchvision

        return getattr(torchvision.datasets, name)(root, train=split == "train", download=download)

    return load


def _by_split(name: str, **more: Any) -> Loader:
    def load(root: str, split: str, download: bool) -> Any:
        import torchvision

        take = {"download": download} if name != "ImageNet" else {}
        return getattr(torchvision.datasets, name)(root, split=split, **take, **more)

    return load


# name -> loader taking (root, split, download); splits have torchvision's names
LOADERS: dict[str, Loader] = {
    "cifar10": _by_train("CIFAR10"),
    "cifar100": _by_train("CIFAR100"),
    "mnist": _by_train("MNIST"),
    "fashion_mnist": _by_train("FashionMNIST"),
    "svhn": _by_split("SVHN"),
    "dtd": _by_split("DTD"),
    "places365": _by_split("Places365", small=True),
    "imagenet": _by_split("ImageNet"),
}


# ------------------------------------------------------------------------------------------------ always there


def _digits(split: str) -> Loaded:
    """Return scikit-learn's handwritten digits, 1,797 of 8 x 8 pixels.

    Every fourth is of split `test`.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    rows = [i for i in range(len(found.target)) if (i % 4 == 0) == (split == "test")]
    ids = [f"digits/{split}/{i:04d}" for i in rows]
    classes = [str(found.target[i]) for i in rows]

    def file(row: int) -> bytes:
        return _bmp(Image.fromarray((found.images[rows[row]] * (255.0 / 16.0)).round().astype(np.uint8)))

    return Loaded(ids, classes, [str(digit) for digit in range(10)], file)


def _noise(split: str) -> Loaded:
    """Return `NOISE` images of Gaussian noise, 32 x 32 pixels."""
    ids = [f"noise/{split}/{i:04d}" for i in range(NOISE)]

    def file(row: int) -> bytes:
        values = np.random.default_rng([row, len(split)]).normal(127.5, 64.0, (32, 32, 3))
        return _bmp(Image.fromarray(values.clip(0, 255).astype(np.uint8)))

    return Loaded(ids, ["noise"] * NOISE, ["noise"], file)


ALWAYS: dict[str, Callable[[str], Loaded]] = {"digits": _digits, "noise": _noise}
