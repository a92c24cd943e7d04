"""Columns of files as people write them, found by the names of a config."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from pipeline.config.sections import Pool
from pipeline.errors import PoolError
from pipeline.pool.columns.chosen import Column, Columns

STRUCT = [{"bytes": b"1", "path": "a.png"}, {"bytes": b"2", "path": None}]


def of(table: dict[str, Any] | pa.Table, uri: str = "s3://b/a.parquet", **pool: Any) -> Columns | None:
    table = table if isinstance(table, pa.Table) else pa.table(table)
    return Columns.of(table.schema, Pool(uri="s3://b", **pool), uri)


def found(table: dict[str, Any], **how: Any) -> Columns:
    columns = of(table, **how)
    assert columns is not None
    return columns


def test_a_column_of_the_whole_name_comes_before_a_field() -> None:
    table = pa.table({"image.bytes": [b"x"], "image": [{"bytes": b"y", "deep": {"er": 1}}]})
    whole = Column.find(table.schema, "image.bytes")
    assert whole is not None and whole.of(table).to_pylist() == [b"x"]
    deeper = Column.find(table.schema, "image.deep.er")
    assert deeper is not None and deeper.of(table).to_pylist() == [1]
    assert deeper.path == "image.deep.er"
    for name in ("image.none", "image.bytes.x", "imag", "image.deep.er.x"):
        assert Column.find(table.schema, name) is None


@pytest.mark.parametrize("name", ["image", "image.bytes"])
def test_the_struct_of_hugging_face_is_named_by_itself_or_its_field(name: str) -> None:
    table = pa.table({"image": STRUCT, "label": [0, 1], "width": [7, 7]})
    columns = found({"image": STRUCT, "label": [0, 1], "width": [7, 7]}, image_column=name)
    assert columns.image_bytes(table) == [b"1", b"2"]


def test_rows_without_ids_are_named_by_their_path_or_not_at_all() -> None:
    table = {"image": STRUCT, "label": [0, 1]}
    columns = found(table)
    assert columns.names(pa.table(table)) == ["a.png", None]
    assert columns.naming == "the paths of 'image', else object and row"
    assert columns.ids_only == ["image.path"]
    assert found(table, id_column=None).naming == "object and row"
    assert found(table, id_column=None).names(pa.table(table)) == [None, None]
    assert found({"image": [b"1"]}).naming == "object and row"
    assert found({"id": [1], "image": [b"1"]}).naming is None
    by_path = found(table, id_column="image.path")
    assert (by_path.naming, by_path.names(pa.table(table))) == (None, ["a.png", None])


@pytest.mark.parametrize("name", ["width", "label", "video", "valid", "hidden", "idle_time", "grid"])
def test_columns_that_only_contain_the_letters_are_no_ids(name: str) -> None:
    assert found({name: ["x"], "image": [b"1"]}).ids is None


@pytest.mark.parametrize(
    "name", ["ID", "Id", "image_id", "image-id", "idx", "ids", "uuid", "photo.key", "key"]
)
def test_a_column_that_looks_like_ids_has_to_be_named(name: str) -> None:
    with pytest.raises(
        PoolError, match=r"has no column 'id'; did you mean .* \(null makes ids of object and row\)"
    ):
        of({name: ["x"], "image": [b"1"]})
    assert found({name: ["x"], "image": [b"1"]}, id_column=None).ids is None
    assert found({name: ["x"], "image": [b"1"]}, id_column=name).ids is not None


def test_a_name_that_the_config_gives_has_to_be_there() -> None:
    with pytest.raises(PoolError, match="has no column 'number'"):
        of({"label": ["x"], "image": [b"1"]}, id_column="number")


@pytest.mark.parametrize(
    "table",
    [
        {"url": ["u"], "key": ["k"]},
        {"file_name": ["a.png"], "caption": ["a"]},
        {"id": [b"in bytes"], "text": ["x"]},
        {"txn": ["a"], "nothing": pa.nulls(1)},
    ],
)
def test_a_file_that_could_hold_no_images_belongs_beside_them(table: dict[str, Any]) -> None:
    assert of(table) is None


def test_a_file_that_could_hold_images_under_another_name_is_refused() -> None:
    for column in ([b"1"], [{"bytes": b"1"}], [[b"1"]]):
        with pytest.raises(
            PoolError, match=r"pool\.image_column: .* has no column 'image'; did you mean img\?"
        ):
            of({"id": ["a"], "img": column})


# ------------------------------------------------------------------------------------------------ metadata


def test_metadata_are_columns_or_folders_in_the_order_of_the_config() -> None:
    table = {"id": [1, 2], "image": [b"1", b"2"], "day": ["d1", None], "f": [1.5, 2.0]}
    columns = found(table, uri="s3://b/camera=3/a.parquet", metadata=("f", "camera", "day"))
    assert columns.metadata(pa.table(table)) == [("1.5", "3", "d1"), ("2", "3", None)]
    assert columns.all == ["id", "f", "day", "image"]
    assert found(table).metadata(pa.table(table)) == []


def test_a_column_comes_before_a_folder_of_its_name() -> None:
    table = {"id": [1], "image": [b"1"], "camera": ["column"]}
    columns = found(table, uri="s3://b/camera=3/a.parquet", metadata=("camera",))
    assert columns.metadata(pa.table(table)) == [("column",)]


def test_metadata_that_are_nowhere_or_no_text_are_refused() -> None:
    table = {"id": [1], "image": [b"1"], "cam": ["x"], "deep": [{"a": 1}]}
    with pytest.raises(
        PoolError, match=r"pool\.metadata: .* no column 'camera' and lies in no folder 'camera=\.\.\.'"
    ):
        of(table, metadata=("camera",))
    with pytest.raises(
        PoolError, match=r"pool\.metadata: 'deep' in .* is struct<a: int64>, expected text, numbers"
    ):
        of(table, metadata=("deep",))
    assert found(table, metadata=("deep.a",)).metadata(pa.table(table)) == [("1",)]
