"""Images of questions, found by id and object in every form of pool, as it is now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.project import Config
from pipeline.errors import PoolError, StoreUnavailable
from pipeline.pool.lookup import look_at
from pipeline.pool.pieces import Failure
from pipeline.store.opening import Store
from tests.support.pools import parquet, rows, tar

MakeConfig = Callable[..., Config]


def seen(config: Config, wanted: dict[str, list[str]]) -> dict[str, Any]:
    found = list(look_at(wanted, config, bytes.upper))
    assert sorted(name for name, _ in found) == sorted(name for ids in wanted.values() for name in ids)
    return {name: value.reason if isinstance(value, Failure) else value for name, value in found}


def test_every_form_of_pool_is_looked_into(store: Store, make_config: MakeConfig) -> None:
    store.put("a.parquet", parquet(rows("x", "y", "z", "x"), group=2))
    store.put("b.tar", tar({"i/1.png": b"one", "note.txt": b"", "2.jpg": b"two"}))
    store.put("c/ü 1.png", b"three")
    config = make_config(pool={"uri": store.uri})
    wanted = {
        store.url("a.parquet"): ["z", "x", "none"],
        store.url("b.tar"): ["2.jpg", "note.txt"],
        store.url("c/ü 1.png"): ["c/ü 1.png"],
        store.url("gone.png"): ["gone.png"],
    }
    gone = "no longer in the pool"
    assert seen(config, wanted) == {
        "x": b"X", "z": b"Z", "none": gone, "2.jpg": b"TWO", "note.txt": gone, "c/ü 1.png": b"THREE", "gone.png": gone,
    }  # fmt: skip
    whole = make_config(pool={"uri": store.uri, "tar_ids": "path"})
    assert seen(whole, {store.url("b.tar"): ["b.tar/2.jpg", "2.jpg"]}) == {
        "b.tar/2.jpg": b"TWO",
        "2.jpg": gone,
    }


def test_the_present_version_counts(store: Store, make_config: MakeConfig) -> None:
    config = make_config(pool={"uri": store.uri})
    for data in (b"first", b"second, longer"):
        store.put("a.png", data)
        assert seen(config, {store.url("a.png"): ["a.png"]}) == {"a.png": data.upper()}


def test_a_pool_that_is_one_object(store: Store, make_config: MakeConfig) -> None:
    store.put("images", parquet(rows("x", "y")))
    config = make_config(pool={"uri": store.url("images")})
    assert seen(config, {store.url("images"): ["y"]}) == {"y": b"Y"}


def test_what_is_no_image_says_so(store: Store, make_config: MakeConfig) -> None:
    store.put("a.parquet", parquet({"id": ["x", "y"], "image": [None, b"y" * 100]}))
    store.put("broken.parquet", b"PAR1")
    store.put("other.parquet", parquet({"name": ["x"]}))
    config = make_config(pool={"uri": store.uri}, scoring={"max_bytes": 50})
    found = seen(config, {store.url("a.parquet"): ["x", "y"], store.url("broken.parquet"): ["z"]})
    assert found["x"] == "no image in its row"
    assert found["y"].startswith("too big: 100 bytes")
    assert found["z"] == "no longer in the pool"
    with pytest.raises(PoolError, match="has no column 'image'"):
        seen(config, {store.url("other.parquet"): ["x"]})


def test_storage_that_does_not_answer_says_nothing_about_an_image(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    (tmp_path / "a.png").symlink_to("/proc/self/mem")  # a file that gives an error when it is read
    with pytest.raises(StoreUnavailable, match=r"a\.png: storage did not answer"):
        seen(make_config(pool={"uri": str(tmp_path)}), {f"{tmp_path}/a.png": ["a.png"]})
