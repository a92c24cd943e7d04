"""Looks into objects, as a worker has them."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from pipeline.config.sections import Pool
from pipeline.errors import PoolError
from pipeline.pool.inventory.look import survey_units
from pipeline.pool.shards import units
from pipeline.store.opening import Store
from tests.support.pools import parquet, rows, source_of, tar


def test_a_look_finds_shards_wanted_ids_hashes_and_what_is_aside(store: Store) -> None:
    store.put("a.png", b"a")
    store.put("b.parquet", parquet(rows("p0", "p1", "p2"), group=2))
    store.put("c.tar", tar({"t0.png": b"0", "t0.json": b"{}"})[:1100])
    source = source_of(Pool(uri=store.uri))
    found, hashes = survey_units(list(units(source)), pa.array(["p2", "t0.png", "nobody"]), source)
    assert [[item.uri for item in listed] for listed, _ in found.shards] == [
        [store.url("a.png")], [store.url("b.parquet")], [store.url("b.parquet")], [store.url("c.tar")]
    ]  # fmt: skip
    assert found.wanted == [("p2", 2, 0), ("t0.png", 3, 0)]
    assert [lost.uri for lost in found.aside.lost] == [store.url("c.tar")]
    assert found.mistake is None
    ids = pa.array(["a.png", "p0", "p1", "p2", "t0.png"])
    want = pd.util.hash_array(ids.to_numpy(zero_copy_only=False), categorize=False)
    assert hashes.tolist() == want.tolist()


def test_a_mistake_of_the_users_is_a_result_so_that_nobody_prints_its_traceback(store: Store) -> None:
    store.put("a.png", b"a")
    store.put("b.parquet", parquet({"idd": ["a"], "image": [b""]}))
    source = source_of(Pool(uri=store.uri))
    found, hashes = survey_units(list(units(source)), pa.array([], pa.string()), source)
    assert isinstance(found.mistake, PoolError)
    assert "did you mean idd?" in str(found.mistake)
    assert len(hashes) == 0
