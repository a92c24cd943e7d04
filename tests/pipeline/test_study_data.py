"""Image sets of studies: Parquet and torchvision's loaders give the same, samples never overlap, faults are told."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.config.sections import Storage
from pipeline.errors import ConfigError, PoolError
from pipeline.images.decode import Transform
from pipeline.studies.image_sets.roles import Sets, find_sets
from pipeline.studies.image_sets.sets import ChosenSet, open_set
from pipeline.studies.sections import Data, ImageSet

TRANSFORM = Transform(8, None, "bilinear", 10_000)


def png(value: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(sink, "PNG")
    return sink.getvalue()


def write(folder: Path, name: str, rows: range, *, names: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = {
        "id": [f"i{n}" for n in rows],
        "image": [png(n) for n in rows],
        "label": [n % 3 for n in rows],
    }
    if names:
        table["label_name"] = [f"n{n % 3} thing" for n in rows]
    pq.write_table(pa.table(table), folder / name, row_group_size=4)


def opened(tmp_path: Path, **more: object) -> ChosenSet:
    wanted = ImageSet.model_validate({"name": "set", "split": "train", **more})
    return open_set(wanted, Data(uri=str(tmp_path)), Storage())


def test_parquet_in_the_order_of_its_files(tmp_path: Path) -> None:
    write(tmp_path / "set", "train-1.parquet", range(10, 15))
    write(tmp_path / "set", "train-0.parquet", range(10))
    write(tmp_path / "set", "test-0.parquet", range(50, 60))
    found = opened(tmp_path)
    assert found.ids == tuple(f"i{n}" for n in range(15))
    assert found.order == ("n0 thing", "n1 thing", "n2 thing")
    assert found.labels(found.order).tolist() == [n % 3 for n in range(15)]
    pixels = found.decoded(TRANSFORM)
    assert pixels.shape == (15, 3, 8, 8)
    assert pixels[:, 0, 0, 0].tolist() == list(range(15))


def test_classes_by_name_and_samples(tmp_path: Path) -> None:
    write(tmp_path / "set", "train.parquet", range(60))
    assert set(opened(tmp_path, without=("n0*",)).classes) == {"n1 thing", "n2 thing"}
    assert set(opened(tmp_path, only=("n0 thing",)).classes) == {"n0 thing"}
    sample, rest = opened(tmp_path, count=20), opened(tmp_path, leave=20)
    assert len(sample) == 20
    assert not set(sample.ids) & set(rest.ids)
    assert set(sample.ids) | set(rest.ids) == {f"i{n}" for n in range(60)}
    assert sample.ids == opened(tmp_path, count=20).ids
    assert sample.decoded(TRANSFORM)[:, 0, 0, 0].tolist() == [int(name[1:]) for name in sample.ids]


def test_labels_without_names_are_their_own(tmp_path: Path) -> None:
    write(tmp_path / "set", "train.parquet", range(30), names=False)
    assert opened(tmp_path).order == ("0", "1", "2")


def test_faults_are_told(tmp_path: Path) -> None:
    write(tmp_path / "set", "train.parquet", range(6))
    with pytest.raises(ConfigError, match="no class is called 'n7'"):
        opened(tmp_path, without=("n7",))
    with pytest.raises(ConfigError, match="a sample of 7"):
        opened(tmp_path, count=7)
    with pytest.raises(PoolError, match="begins with 'val'"):
        opened(tmp_path, split="val")
    with pytest.raises(PoolError, match="no image is left"):
        opened(tmp_path, without=("*",))
    write(tmp_path / "set", "train-again.parquet", range(6))
    with pytest.raises(PoolError, match="twice"):
        opened(tmp_path)
    pq.write_table(pa.table({"id": ["a"], "picture": [b""], "label": [0]}), tmp_path / "set/odd.parquet")
    with pytest.raises(PoolError, match="no column 'image'"):
        opened(tmp_path, split="odd")
    pq.write_table(
        pa.table({"id": ["a"], "image": [b"no image"], "label": [0]}), tmp_path / "set/bad.parquet"
    )
    with pytest.raises(PoolError, match="image 'a' cannot be used"):
        opened(tmp_path, split="bad").decoded(TRANSFORM)


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


def test_compressed_labels_are_not_taken_for_parquet(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.parquet").write_bytes(gzip.compress(b"labels"))
    with pytest.raises(PoolError, match="cannot be read"):
        opened(tmp_path)


def test_a_known_class_is_not_unknown() -> None:
    def found(**roles: ImageSet) -> Sets:
        return find_sets(roles, Data(), Storage())

    fit = ImageSet(name="digits", split="train", without=("8", "9"))
    sets = found(fit=fit, known=ImageSet(name="digits", without=("8", "9")))
    assert sets.taxonomy == tuple("01234567")
    near = {"near/digits": ImageSet(name="digits", only=("7", "8"))}
    with pytest.raises(ConfigError, match="'7' of digits is a known one; leave it out"):
        found(fit=fit, **near)
    with pytest.raises(ConfigError, match="has class '8', which digits has not"):
        found(fit=fit, known=ImageSet(name="digits"))
