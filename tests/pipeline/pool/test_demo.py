"""The embedded default: the same bytes every time, no labels in the pool, and truths for what can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

from pipeline.config.project import Config
from pipeline.errors import ConfigError
from pipeline.images.bad import BadImage
from pipeline.images.decode import Transform, decode
from pipeline.labels.oracle import read_truth
from pipeline.pool import demo as demo_data
from pipeline.store.opening import open_store
from tests.support.pools import images_by_id, shards_of

MakeConfig = Callable[..., Config]
CONFIG = {"taxonomy": list(demo_data.KNOWN), "demo": "digits", "oracle": {"kind": "simulated"}}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Config]:
    folder = tmp_path_factory.mktemp("demo")
    config = Config.model_validate({**CONFIG, "workspace": "w", "pool": {"uri": f"{folder}/pool"},
                                    "taxonomy": tuple(demo_data.KNOWN)})  # fmt: skip
    assert demo_data.ensure(config)
    return folder, config


def pool_rows(config: Config) -> dict[str, bytes]:
    return images_by_id(config.pool)


def readable(data: bytes) -> bool:
    try:
        decode(data, Transform(16, None, "bilinear", 10_000))
    except BadImage:
        return False
    return True


def test_making_it_twice_gives_equal_bytes(
    made: tuple[Path, Config], tmp_path: Path, make_config: MakeConfig
) -> None:
    folder, _ = made
    assert demo_data.ensure(make_config(**CONFIG, pool={"uri": f"{tmp_path}/pool"}))
    assert contents(tmp_path) == contents(folder)


def test_what_is_there_is_not_made_again(made: tuple[Path, Config]) -> None:
    folder, config = made
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    assert not demo_data.ensure(config)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")} == times


@pytest.mark.parametrize("gone", ["pool/part-00003.parquet", "test/test.parquet", "truth/truth.parquet"])
def test_a_making_that_was_cut_short_is_finished(
    made: tuple[Path, Config], tmp_path: Path, make_config: MakeConfig, gone: str
) -> None:
    want = contents(made[0])
    for key, data in want.items():
        if key != gone:
            (tmp_path / key).parent.mkdir(exist_ok=True)
            (tmp_path / key).write_bytes(data)
    assert demo_data.ensure(make_config(**CONFIG, pool={"uri": f"{tmp_path}/pool"}))
    assert contents(tmp_path) == want


@pytest.mark.s3
def test_it_is_made_on_s3_too(made: tuple[Path, Config], s3_bucket: str, make_config: MakeConfig) -> None:
    config = make_config(**CONFIG, pool={"uri": f"{s3_bucket}/demo/pool"})
    assert demo_data.ensure(config)
    assert not demo_data.ensure(config)
    store = open_store(f"{s3_bucket}/demo", config.storage)
    assert {entry.key: store.get(entry.key) for entry in store.list()} == contents(made[0])


def test_the_pool_holds_ids_and_images_and_nothing_else(made: tuple[Path, Config]) -> None:
    folder, config = made
    files = sorted((folder / "pool").iterdir())
    assert len(shards_of(config.pool)) >= 8
    assert all(pq.read_schema(file).names == ["id", "image"] for file in files)
    sizes = [pq.read_metadata(file).num_rows for file in files]
    assert max(sizes) - min(sizes) <= 1


def test_rows_are_counted_by_kind(made: tuple[Path, Config]) -> None:
    _, config = made
    targets = load_digits().target
    known, unknown = int((targets < 8).sum()), int((targets >= 8).sum())
    tested = known * 3 // 10
    kinds = Counter(read_truth(config).kinds.values())
    assert kinds == {"known": known - tested, "unknown": unknown, "far": 120}
    broken = [data for data in pool_rows(config).values() if not readable(data)]
    assert len(broken) == 5
    assert len(pool_rows(config)) == kinds.total() + 5


def test_truths_cover_exactly_what_can_be_read(made: tuple[Path, Config]) -> None:
    _, config = made
    truth = read_truth(config)
    assert set(truth.kinds) == {name for name, data in pool_rows(config).items() if readable(data)}
    for name, kind in truth.kinds.items():
        assert (truth.labels[name] in demo_data.KNOWN) == (kind == "known")
        assert (truth.labels[name] in ("8", "9")) == (kind == "unknown")


def test_broken_rows_are_broken_in_several_ways(made: tuple[Path, Config]) -> None:
    _, config = made
    broken = [data for data in pool_rows(config).values() if not readable(data)]
    assert b"" in broken
    assert len([data for data in broken if data.startswith(b"\x89PNG")]) == 3
    reasons = set()
    for data in broken:
        with pytest.raises(BadImage) as raised:
            decode(data, Transform(16, None, "bilinear", 10_000))
        reasons.add(str(raised.value))
    assert len(reasons) >= 4


def test_ids_say_nothing_of_their_kind(made: tuple[Path, Config]) -> None:
    """In the order of the ids, the kinds and labels are mixed: no run is longer than chance makes it."""
    _, config = made
    truth = read_truth(config)
    names = sorted(pool_rows(config))
    assert names == [f"img-{n:05d}" for n in range(len(names))]
    for mark in (lambda name: truth.kinds.get(name) == "unknown", lambda name: truth.labels.get(name) == "3"):
        where = np.flatnonzero([mark(name) for name in names])
        assert np.diff(where).max() < 150
        halves = np.histogram(where, bins=2, range=(0, len(names)))[0]
        assert halves.min() > 0.35 * len(where)


def test_the_test_set_is_apart_from_the_pool(made: tuple[Path, Config]) -> None:
    folder, config = made
    test: list[dict[str, Any]] = pq.read_table(folder / "test" / "test.parquet").to_pylist()
    assert not {row["id"] for row in test} & set(pool_rows(config))
    assert {row["label"] for row in test} == set(demo_data.KNOWN)
    assert all(readable(row["image"]) for row in test)


def test_the_scans_are_scikit_learns(made: tuple[Path, Config]) -> None:
    """Grey level 16 of 16 is white: every scan in pool and test set is one of the bundled ones, and none is lost."""
    folder, config = made
    digits = load_digits()
    want = Counter((image * (255 / 16)).round().astype(np.uint8).tobytes() for image in digits.images)
    truth = read_truth(config)
    rows = pool_rows(config)
    scans = [rows[name] for name, kind in truth.kinds.items() if kind in ("known", "unknown")]
    scans += pq.read_table(folder / "test" / "test.parquet")["image"].to_pylist()
    assert Counter(decode(data, Transform(8, None, "bilinear", 100))[0].tobytes() for data in scans) == want


@pytest.mark.parametrize("key", ["pool/part-00000.parquet", "pool/mine.parquet", "truth/truth.parquet"])
def test_nobodys_data_are_written_over(tmp_path: Path, make_config: MakeConfig, key: str) -> None:
    mine = tmp_path / key
    mine.parent.mkdir()
    mine.write_bytes(b"years of work")
    with pytest.raises(ConfigError, match="remove `demo`"):
        demo_data.ensure(make_config(**CONFIG, pool={"uri": f"{tmp_path}/pool"}))
    assert mine.read_bytes() == b"years of work"
