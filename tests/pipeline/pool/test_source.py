"""A pool and the access to it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

from pipeline.config.project import Config
from pipeline.config.sections import Pool, Storage
from pipeline.pool.source import PoolSource

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
