"""Image sets from torchvision's loaders and from folders."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config.sections import Storage
from pipeline.errors import ConfigError, PoolError
from pipeline.images.decode import Transform
from pipeline.studies.image_sets.sets import ChosenSet, open_set
from pipeline.studies.sections import Data, ImageSet

TRANSFORM = Transform(8, None, "bilinear", 10_000)


def png(value: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(sink, "PNG")
    return sink.getvalue()


def from_loader(name: str, root: Path, **more: object) -> ChosenSet:
    return open_set(ImageSet.model_validate({"name": name, **more}), Data(root=str(root)), Storage())


def test_torchvision_reads_its_own_files(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.arange(5 * 28 * 28, dtype=np.uint32).reshape(5, 28, 28).astype(np.uint8)
    for split in ("train", "t10k"):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 2051, 5, 28, 28) + images.tobytes()
        )
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 5) + bytes([3, 1, 4, 1, 5]))
    found = from_loader("mnist", tmp_path)
    assert [name[0] for name in found.classes] == ["3", "1", "4", "1", "5"]
    assert found.classes[0] == "3 - three"
    pixels = found.decoded(Transform(28, None, "bilinear", 10_000))
    assert np.array_equal(pixels[:, 0], images)


def test_a_folder_of_images_by_class(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "pets" / "val" / name).mkdir(parents=True)
        for n in range(3):
            (tmp_path / "pets" / "val" / name / f"{n}.png").write_bytes(png(10 * n))
    found = from_loader("pets", tmp_path, split="val")
    assert found.order == ("cat", "dog")
    assert found.decoded(TRANSFORM)[:, 0, 0, 0].tolist() == [0, 10, 20, 0, 10, 20]


def test_sets_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean cifar10"):
        from_loader("cifar01", tmp_path)
    with pytest.raises(PoolError, match=r"data\.download"):
        from_loader("cifar10", tmp_path)


def test_two_sets_are_always_there(tmp_path: Path) -> None:
    train, test = (from_loader("digits", tmp_path, split=split) for split in ("train", "test"))
    assert len(train) + len(test) == 1797
    assert not set(train.ids) & set(test.ids)
    assert train.order == tuple("0123456789")
    noise = open_set(ImageSet(name="noise", count=3), Data(uri=str(tmp_path)), Storage())
    assert noise.decoded(TRANSFORM).std() > 10
