"""Image sets from Parquet: order, samples, faults."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
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


def test_compressed_labels_are_not_taken_for_parquet(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.parquet").write_bytes(gzip.compress(b"labels"))
    with pytest.raises(PoolError, match="cannot be read"):
        opened(tmp_path)
