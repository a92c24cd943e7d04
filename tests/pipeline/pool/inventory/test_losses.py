"""Tables and tars that can't be read: counted in files, bytes and images, and refused beyond what a config allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.project import Config
from pipeline.errors import PoolError
from pipeline.pool.inventory import losses as room
from pipeline.pool.inventory.found import Lost, Surveyed
from pipeline.pool.inventory.losses import Gathered, check_loss, write_lost
from pipeline.store.opening import LocalStore, Store
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.keys import UNREADABLE
from pipeline.workspace.plan import Loss
from tests.support.pools import parquet, source_of, surveyed, tar

MakeConfig = Callable[..., Config]


def gathered(config: Config) -> Gathered:
    found = Gathered()
    found.add(surveyed(config.pool), source_of(config.pool))
    return found


def test_a_table_beside_a_tar_tells_how_many_images_are_lost(store: Store, make_config: MakeConfig) -> None:
    """Ten images in a tar as img2dataset writes it, cut within the fourth."""
    whole = tar({f"{n}.jpg": b"x" * 600 for n in range(10)})
    store.put("00000.tar", whole[: 3 * 1536 + 700])
    store.put("00000.parquet", parquet({"key": [f"{n}" for n in range(10)]}))
    store.put("00001.tar", b"\x1f\x8b" + bytes(98))
    store.put("a.parquet", b"PAR1 or so")
    config = make_config(pool={"uri": store.uri})
    found = gathered(config)
    assert [(lost.uri, lost.bytes, lost.listed, lost.rows) for lost in found.lost] == [
        (store.url("00000.tar"), 5308, 4, 6),
        (store.url("00001.tar"), 100, 0, None),
        (store.url("a.parquet"), 10, 0, None),
    ]
    assert found.loss == Loss(files=3, bytes=5418, rows=6)
    assert found.loss.told() == "3 tables or tars that can't be read in full (5,418 bytes, 6 images at least)"
    with pytest.raises(PoolError) as raised:
        check_loss(found, config)
    told = str(raised.value)
    assert told.startswith(
        "pool.max_unreadable_files: 3 tables or tars that can't be read in full (5,418 bytes, "
    )
    assert f"{store.url('00001.tar')} (broken: gzip data, not a plain tar)" in told
    assert told.endswith("or allow the loss of their images by pool.max_unreadable_files: 3")
    assert "\n" not in told


@pytest.mark.parametrize(
    ("allowed", "refused"), [(0, True), (1, True), (2, False), (3, False), (None, False)]
)
def test_the_config_allows_a_number_of_files(
    make_config: MakeConfig, tmp_path: Path, allowed: int | None, refused: bool
) -> None:
    config = make_config(pool={"uri": str(tmp_path), "max_unreadable_files": allowed})
    found = Gathered()
    check_loss(found, config)  # nothing is lost
    found.add(Surveyed(lost=[Lost("a.tar", "broken", 1), Lost("b.tar", "broken", 2)]), source_of(config.pool))
    if refused:
        with pytest.raises(PoolError, match=rf"2 tables or tars .* \(3 bytes\), and {allowed} are allowed"):
            check_loss(found, config)
    else:
        check_loss(found, config)


def test_losses_are_written_with_their_reasons_and_an_earlier_attempts_are_not_kept(tmp_path: Path) -> None:
    folder = Folder(Workspace(LocalStore(str(tmp_path))))
    write_lost(folder, [Lost("a.tar", "broken: so", 5, 2, 3), Lost("b.parquet", "broken", 7)])
    assert folder.read_table(UNREADABLE).to_pylist() == [
        {"uri": "a.tar", "reason": "broken: so", "bytes": 5, "listed": 2, "rows": 3},
        {"uri": "b.parquet", "reason": "broken", "bytes": 7, "listed": 0, "rows": None},
    ]
    write_lost(folder, [])
    assert not folder.exists(UNREADABLE)


def test_all_losses_count_and_some_are_named(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_LOST", 4)
    config = make_config(pool={"uri": str(tmp_path)})
    found = Gathered()
    found.add(Surveyed(lost=[Lost(f"{n}.tar", "broken", 1) for n in range(9)]), source_of(config.pool))
    assert (found.loss.files, len(found.lost)) == (9, 4)
    with pytest.raises(PoolError, match=r"2\.tar \(broken\) and 6 more; mend them"):
        check_loss(found, config)
