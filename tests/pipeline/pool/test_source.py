"""A pool and the access to it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.project import Config
from pipeline.config.sections import Pool, Storage
from pipeline.errors import PoolError
from pipeline.pool.shards import check_pool
from pipeline.pool.source import PoolSource
from pipeline.store.opening import Store
from tests.support.pools import groups_of, images_by_id, parquet, rows, source_of, tar

MakeConfig = Callable[..., Config]


def test_a_source_is_of_a_config_and_opens_its_objects(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    config = make_config(pool={"uri": str(tmp_path)}, scoring={"max_bytes": 7})
    source = PoolSource.of(config)
    assert (source.pool, source.storage, source.max_bytes) == (config.pool, config.storage, 7)
    assert [entry.key for entry in source.store.list()] == ["a.png"]
    assert pickle.loads(pickle.dumps(source)) == source


def test_images_beside_a_pool_have_its_columns_and_its_access() -> None:
    pool = Pool(uri="s3://a/pool", id_column="name", image_column="png", images_per_shard=3)
    storage = Storage(endpoint="http://localhost")
    test = PoolSource(pool, storage, 9).beside("s3://a/test")
    assert test == PoolSource(Pool(uri="s3://a/test", id_column="name", image_column="png"), storage, 9)


# ------------------------------------------------------------------------------------------------ several URIs


@pytest.fixture
def two(store: Store) -> tuple[str, str]:
    """Two places with a key that both have, and a third whose name lies between theirs."""
    for key in ("p/x.png", "p/z.png", "p-2/a.png", "p-2/x.png"):
        store.put(key, key.encode())
    store.put("p-2/t.parquet", parquet(rows("t0")))
    store.put("p/t.tar", tar({"x.png": b"in a tar"}))
    return store.url("p"), store.url("p-2")


@pytest.mark.parametrize("turned", [False, True])
def test_several_uris_have_ids_that_no_two_images_share(two: tuple[str, str], turned: bool) -> None:
    first, second = two
    pool = Pool(uri=two[::-1] if turned else two, tar_ids="path")
    assert images_by_id(pool) == {
        f"{first}/x.png": b"p/x.png",
        f"{first}/z.png": b"p/z.png",
        f"{first}/t.tar/x.png": b"in a tar",
        f"{second}/a.png": b"p-2/a.png",
        f"{second}/x.png": b"p-2/x.png",
        "t0": b"t0",
    }
    listed = [item.uri for group in groups_of(pool) for item in group.listed]
    assert listed == sorted(listed, key=str.encode)  # as what changed since an earlier listing needs it


def test_one_uri_has_the_ids_of_its_keys_as_text_and_as_a_list(two: tuple[str, str]) -> None:
    for uri in (two[0], (two[0],)):
        pool = Pool(uri=uri)
        assert pool.uris == (two[0],)
        assert sorted(images_by_id(Pool(uri=uri, exclude=("t.tar",)))) == ["x.png", "z.png"]
    assert Pool(uri=(two[0],)) == Pool(uri=two[0])


def test_a_uri_of_a_pool_may_be_one_object(store: Store) -> None:
    store.put("a/x.png", b"1")
    store.put("b.parquet", parquet(rows("p0") | {"more": [1]}))
    store.put("c.parquet", parquet({"image": [b"2"]}))
    uris = (store.url("c.parquet"), store.url("a"), store.url("b.parquet"))
    assert images_by_id(Pool(uri=uris)) == {
        f"{store.url('a')}/x.png": b"1",
        "p0": b"p0",
        f"{store.url('c.parquet')}#0": b"2",
    }


def test_a_relative_uri_stands_in_ids_as_the_config_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(name.encode())
    monkeypatch.chdir(tmp_path)
    assert images_by_id(Pool(uri=("a/", "b"))) == {"a/x.png": b"a", "b/x.png": b"b"}


def test_a_uri_without_anything_is_noticed_beside_others(two: tuple[str, str]) -> None:
    with pytest.raises(PoolError, match=r"pool\.uri: .*/nowhere (does not exist|is empty)"):
        check_pool(source_of(Pool(uri=(*two, f"{two[0]}-/nowhere"))))
    check_pool(source_of(Pool(uri=two)))
