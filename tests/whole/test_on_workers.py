"""What needs a real Ray: a pool listed, an account closed and a bank shared, all on workers of one small cluster."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch

import sisom
from pipeline.cluster.faults import working
from pipeline.cluster.layout import Cluster, lay_out
from pipeline.config.project import Config
from pipeline.config.sections import Pool, Storage
from pipeline.errors import AccountError, PoolError, QuarantineOverflow, StageFailed
from pipeline.model.extractor import Extractor
from pipeline.model.network import Network
from pipeline.pool import listing, snapshot
from pipeline.pool.listing import DUPLICATES, Listing, freeze, refusals
from pipeline.pool.shards import ids_of
from pipeline.pool.snapshot import Snapshot, load_shards
from pipeline.report.thumbnails import thumbnails
from pipeline.score import account
from pipeline.score.account import close_account, write_part
from pipeline.score.broadcast import BankFile, Broadcast, Models
from pipeline.score.files import shards_of
from pipeline.store.opening import LocalStore, S3Store, Store, open_store
from pipeline.types import SCORED, SCORES
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.keys import UNREADABLE, scored_part_key
from sisom.network.models import build_model, save_weights
from tests.support.pools import parquet, png, rows, snapshot_of, source_of, tar

pytestmark = pytest.mark.ray

MakeConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def cluster(s3_endpoint: str) -> Iterator[Cluster]:
    """Two CPUs, and workers that find the S3 server by themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "canary-d41d8cd98f")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=200 << 20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        try:
            nodes = [node["Resources"] for node in ray.nodes()]
            yield lay_out(Config.model_fields["resources"].default, nodes)
        finally:
            ray.shutdown()


@pytest.fixture
def workspace(store: Store) -> Workspace:
    """Beside the pool, where the pool is."""
    return Workspace(open_store(f"{store.uri}-workspace", Storage()))


@pytest.fixture
def config(store: Store, make_config: MakeConfig) -> Config:
    pool = {"uri": store.uri, "images_per_shard": 3, "max_unreadable_files": 1}
    return make_config(pool=pool, scoring={"max_quarantined": 0.5})


# ------------------------------------------------------------------------------------------------- listing


def fill(store: Store) -> None:
    for number in range(7):
        store.put(f"i/{number}.png", png(number))
    store.put("m.parquet", parquet(rows("p0", "p1", "p2", "p3", "p4"), group=2))
    store.put("n.parquet", b"broken")
    store.put("notes.txt", b"no piece of it")
    store.put("t/0.tar", tar({"t0.png": b"0", "t0.json": b"{}", "t1.png": b"1"}))
    store.put("t/1.tar", tar({"only.txt": b"x"}))
    store.put("z.png", png(7))


def test_a_frozen_pool_is_what_a_survey_finds(
    cluster: Cluster, store: Store, workspace: Workspace, config: Config
) -> None:
    fill(store)
    wanted = ["p3", "t1.png", "i/6.png", "z.png", "nobody"]
    found = freeze(Folder(workspace, "r/"), config, cluster=cluster, wanted=wanted)
    alone = snapshot_of(config.pool, workspace, "alone/")
    assert found.snapshot.table.equals(alone.table)
    assert found.snapshot.digest() == alone.digest() == Snapshot.read(Folder(workspace, "r/")).digest()
    assert (found.other, found.changes, found.duplicates.num_rows) == (1, None, 0)
    shards = list(load_shards(Folder(workspace, "r/"), found.snapshot.table))
    places = {
        name: (shard.shard, row)
        for shard in shards
        for row, name in enumerate(ids_of(shard, source_of(config.pool)))
    }
    assert len(places) == found.snapshot.rows == 15
    assert found.found == {name: places[name] for name in wanted[:-1]}
    assert found.told() == (
        "15 images in 8 shards; without 1 tables or tars that can't be read in full (6 bytes); "
        "1 objects that are no .parquet, .tar or image; "
        "left out: 1 members that end in .json, 1 members that end in .txt, 1 objects that end in .txt"
    )
    (lost,) = Folder(workspace, "r/").read_table(UNREADABLE).to_pylist()
    assert (lost["uri"], lost["bytes"], lost["listed"], lost["rows"]) == (store.url("n.parquet"), 6, 0, None)
    assert lost["reason"].startswith("broken: ")


def test_a_table_that_cannot_be_read_stops_the_listing_unless_the_config_allows_it(
    cluster: Cluster, tmp_path: Path, make_config: MakeConfig
) -> None:
    """Two of five files of a hundred rows are cut off: 200 images, and not two."""
    pool = LocalStore(str(tmp_path / "pool"))
    for number in range(5):
        data = parquet(rows(*(f"i{number}-{n}" for n in range(100))))
        pool.put(f"{number}.parquet", data[: len(data) // 2] if number % 2 else data)
    folder = Folder(Workspace(LocalStore(str(tmp_path / "w"))))
    with pytest.raises(
        PoolError, match=r"^pool\.max_unreadable_files: 2 tables or tars .* and 0 are allowed"
    ) as raised:
        freeze(folder, make_config(pool={"uri": pool.uri}), cluster=cluster)
    for place in ("1.parquet", "3.parquet"):
        assert f"{pool.url(place)} (broken: " in str(raised.value)
    allowed = make_config(pool={"uri": pool.uri, "max_unreadable_files": 2})
    found = freeze(folder, allowed, cluster=cluster)
    assert found.snapshot.rows == 300
    assert found.loss is not None and found.loss.files == 2
    pool.put("1.parquet", parquet(rows("mended")))
    pool.put("3.parquet", parquet(rows("too")))
    assert freeze(folder, make_config(pool={"uri": pool.uri}), cluster=cluster).snapshot.rows == 302
    assert not folder.exists(UNREADABLE)


def test_tasks_and_buckets_of_any_size_find_the_same(
    cluster: Cluster, tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = LocalStore(str(tmp_path / "pool"))
    fill(pool)
    pool.put("more/p.parquet", parquet(rows("p1", "t0.png", "own"), group=2))
    within = {"uri": pool.uri, "images_per_shard": 3, "max_unreadable_files": None}
    config = make_config(pool=within, scoring={"max_quarantined": 0.5})

    def frozen(name: str) -> tuple[Listing, dict[str, bytes]]:
        store = LocalStore(str(tmp_path / name))
        found = freeze(Folder(Workspace(store)), config, cluster=cluster, wanted=["p4", "t0.png"])
        return found, {entry.key: store.get(entry.key) for entry in store.list()}

    want, files = frozen("large")
    assert want.duplicates.num_rows == 2
    monkeypatch.setattr(listing, "TASK_OBJECTS", 1)
    monkeypatch.setattr(listing, "TASK_FILES", 1)
    monkeypatch.setattr(listing, "BUCKET_ROWS", 5)
    monkeypatch.setattr(snapshot, "PART_ROWS", 4)
    found, _ = frozen("small parts")
    assert found.duplicates.equals(want.duplicates)
    assert found.found == want.found
    monkeypatch.setattr(snapshot, "PART_ROWS", 65_536)
    assert frozen("small tasks")[1] == files


def test_ids_that_stand_twice_are_found_across_files_and_forms(
    cluster: Cluster, store: Store, workspace: Workspace, config: Config
) -> None:
    store.put("a.png", b"first")
    store.put("b.parquet", parquet(rows("x", "y", "x"), group=2))  # over two row groups of one file
    store.put("c.parquet", parquet(rows("y", "a.png", "own")))
    store.put("d.tar", tar([("own", b"no image"), ("y.png", b"1"), ("y.png", b"2"), ("a.png", b"3")]))
    found = freeze(Folder(workspace), config, cluster=cluster, wanted=["x", "a.png"])
    assert found.found == {"a.png": (0, 0), "x": (1, 0)}  # the first place is the one that counts
    assert found.duplicates.schema == DUPLICATES
    url = store.url
    assert found.duplicates.to_pylist() == [
        {"shard": 2, "row": 0, "id": "x", "first": f"{url('b.parquet')}#0 row 0"},
        {"shard": 3, "row": 0, "id": "y", "first": f"{url('b.parquet')}#0 row 1"},
        {"shard": 3, "row": 1, "id": "a.png", "first": url("a.png") + " row 0"},
        {"shard": 4, "row": 1, "id": "y.png", "first": f"{url('d.tar')} row 0"},
        {"shard": 4, "row": 2, "id": "a.png", "first": url("a.png") + " row 0"},
    ]
    assert found.told().endswith("; 5 ids stand twice")
    why = refusals(found.duplicates)
    assert {shard: sorted(rows_) for shard, rows_ in why.items()} == {2: [0], 3: [0, 1], 4: [1, 2]}
    assert why[3][1] == f"duplicate id: it stands first in {url('a.png')} row 0"


def test_too_many_of_them_are_refused_with_both_places(
    cluster: Cluster, tmp_path: Path, make_config: MakeConfig
) -> None:
    pool = LocalStore(str(tmp_path / "pool"))
    for number in range(2):
        pool.put(f"{number}.tar", tar({f"{n}.png": b"x" for n in range(5)}))
    config = make_config(pool={"uri": pool.uri}, scoring={"max_quarantined": 0.49})
    workspace = Workspace(LocalStore(str(tmp_path / "w")))
    with pytest.raises(PoolError, match=r"^5 of 10 ids stand in the pool before, more than") as raised:
        freeze(Folder(workspace), config, cluster=cluster)
    for place in ("0.tar", "1.tar"):
        assert f"{pool.url(place)} row 0" in str(raised.value)
    assert str(raised.value).endswith("pool.tar_ids: path puts the tar's key before them")
    told_apart = make_config(pool={"uri": pool.uri, "tar_ids": "path"})
    assert freeze(Folder(workspace), told_apart, cluster=cluster).duplicates.num_rows == 0


def test_equal_hashes_of_other_ids_are_no_duplicates(
    cluster: Cluster, tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashes only raise the suspicion; here every id is suspected."""
    pool = LocalStore(str(tmp_path / "pool"))
    pool.put("a.parquet", parquet(rows("a", "b", "c", "b"), group=2))
    everything = [np.zeros(4, np.uint64)]
    config = make_config(pool={"uri": pool.uri}, scoring={"max_quarantined": 0.5})
    workspace = Workspace(LocalStore(str(tmp_path / "w")))
    found = snapshot_of(config.pool, workspace)
    table = listing._duplicates(found, [ray.put(part) for part in everything], config, cluster=cluster)
    assert [(row["shard"], row["row"], row["id"]) for row in table.to_pylist()] == [(1, 1, "b")]


def test_what_changed_since_the_last_listing_is_counted(
    cluster: Cluster, store: Store, workspace: Workspace, config: Config
) -> None:
    fill(store)
    store.put("empty.parquet", parquet(pa.table(rows("x")).slice(0, 0)))
    freeze(Folder(workspace, "000/"), config, cluster=cluster)
    same = freeze(Folder(workspace, "001/"), config, cluster=cluster, earlier=Folder(workspace, "000/"))
    assert same.changes == {"new": 0, "changed": 0, "vanished": 0}
    assert "objects since the last round: unchanged" in same.told()
    store.put("m.parquet", parquet(rows("p0", "p9"), group=1))
    store.delete("i/3.png")
    store.delete("z.png")
    for name in ("A.png", "i/3b.png", "zz.tar"):
        store.put(name, tar({f"{name}.png": b"x"}))
    found = freeze(Folder(workspace, "002/"), config, cluster=cluster, earlier=Folder(workspace, "001/"))
    assert found.changes == {"new": 3, "changed": 1, "vanished": 2}
    assert "objects since the last round: 3 new, 1 changed, 2 vanished" in found.told()
    assert found.snapshot.digest() != same.snapshot.digest()


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ({}, "holds no rows"),
        ({"a.txt": b"x", "b.tar": tar({})}, "holds no rows"),
        (
            {"a.png": b"x", "b.parquet": parquet({"idd": ["a"], "image": [b""]})},
            r"no column 'id'; did you mean idd\?",
        ),
    ],
)
def test_a_pool_that_cannot_be_listed_is_the_users_to_mend(
    cluster: Cluster, tmp_path: Path, make_config: MakeConfig, there: dict[str, bytes], why: str
) -> None:
    pool = LocalStore(str(tmp_path / "pool"))
    for key, data in there.items():
        pool.put(key, data)
    with pytest.raises(PoolError, match=why):
        freeze(
            Folder(Workspace(LocalStore(str(tmp_path / "w")))),
            make_config(pool={"uri": pool.uri}),
            cluster=cluster,
        )


# ------------------------------------------------------------------------------------------------- account


def finish(workspace: Workspace, found: Snapshot, pool: Pool, bad: dict[str, dict[str, Any]]) -> None:
    """Leave the files of finished shards, as scoring does."""
    for shard in load_shards(found.folder, found.table):
        table = [
            {"row": row, "id": name, "shard": shard.shard, "sisome": 1.0} | bad.get(name, {})
            for row, name in enumerate(ids_of(shard, source_of(pool)))
        ]
        write_part(found.folder, shard.shard, pa.Table.from_pylist(table, schema=SCORED))


def test_an_account_is_closed_on_workers(
    cluster: Cluster, store: Store, workspace: Workspace, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    found = snapshot_of(config.pool, workspace, "r/")
    broken = {"reason": "no bytes", "stage": "decode", "attempts": 1}
    finish(workspace, found, config.pool, {"p1": broken, "t0.png": broken | {"stage": "read"}})
    monkeypatch.setattr(account, "FILE_ROWS", 4)
    tally = close_account(found, config, cluster)
    assert (tally.scored, tally.quarantined) == (13, 2)
    assert len(workspace.keys("r/scores/")) == 4
    ids = [name for table in workspace.tables("r/scores/", ["id"]) for name in table["id"].to_pylist()]
    lost = [name for table in workspace.tables("r/quarantine/", ["id"]) for name in table["id"].to_pylist()]
    shards = load_shards(Folder(workspace, "r/"), found.table)
    want = [name for shard in shards for name in ids_of(shard, source_of(config.pool))]
    assert sorted(ids + lost) == sorted(want)
    assert ids == [name for name in want if name not in lost]  # in the order of the listing
    assert lost == ["p1", "t0.png"]


def test_wrong_ids_stop_the_round_and_too_many_broken_rows_too(
    cluster: Cluster, tmp_path: Path, make_config: MakeConfig
) -> None:
    pool = LocalStore(str(tmp_path / "pool"))
    fill(pool)
    config = make_config(pool={"uri": pool.uri, "images_per_shard": 3}, scoring={"max_quarantined": 0.1})
    workspace = Workspace(LocalStore(str(tmp_path / "w")))
    found = snapshot_of(config.pool, workspace)
    finish(workspace, found, config.pool, {"p1": {"id": "p0"}, "z.png": {"id": "y"}})
    with pytest.raises(
        AccountError,
        match=r"does not add up in 2 shards, which the next run scores again: .*m\.parquet#0: 2 listed, 2 \+ 0 found;",
    ):
        close_account(found, config, cluster)
    lost = {"reason": "storage did not answer", "stage": "read", "attempts": 5}
    finish(workspace, found, config.pool, {"p1": lost, "z.png": lost | {"attempts": 1}})
    with pytest.raises(QuarantineOverflow, match="2 of 15 rows are broken"):
        close_account(found, config, cluster)
    (gone,) = set(found.numbers.tolist()) - {int(Path(key).stem) for key in workspace.keys("parts/")}
    assert scored_part_key(gone) not in workspace.keys("parts/")
    assert [shard.place for shard in load_shards(Folder(workspace), found.take([gone]).table)] == [
        f"{pool.url('m.parquet')}#0"
    ]


# ----------------------------------------------------------------------------------------------- broadcast


@pytest.mark.parametrize("most_bytes", [1 << 30, 0])
def test_a_shared_bank_scores_to_the_same_bit(
    cluster: Cluster, store: Store, make_config: MakeConfig, most_bytes: int
) -> None:
    """Small ones go through the object store, large ones through a file of each node."""
    torch.manual_seed(0)
    model = make_config(
        model={"name": "resnet10_w16", "image_size": 8, "layers": ["layer2", "avgpool"]}
    ).model
    network = Network(model, 3, np.frombuffer(save_weights(build_model(model.name, 3, seed=1)), np.uint8))
    pixels = np.random.default_rng(0).integers(0, 256, (24, 3, 8, 8), np.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        features = Extractor(network, "cpu", 8)(pixels)
        bank = sisom.fit_bank(features, torch.arange(24) % 3, slopes=10.0, num_classes=3)
        want = sisom.score(bank, features)
    finally:
        torch.set_num_threads(threads)
    data = bank.to_bytes()
    store.put("bank.safetensors", data)
    file = BankFile(Workspace(store), "bank.safetensors", hashlib.sha256(data).hexdigest())
    shared = Broadcast.of(Models(network, bank, file), most_bytes=most_bytes)
    assert isinstance(shared.bank, BankFile) == (most_bytes == 0)

    def scores() -> dict[str, Any]:
        torch.set_num_threads(1)
        network, bank = shared.receive()
        found = sisom.score(bank, Extractor(network, "cpu", 8)(pixels))
        names = ("inner", "outer", "ratio", "energy", "sisom", "sisome")
        return {name: getattr(found, name).numpy() for name in names}

    found = ray.get(ray.remote(num_cpus=1)(scores).remote())
    assert len(found) == 6
    for name, values in found.items():
        assert values.tobytes() == getattr(want, name).numpy().tobytes()
    if isinstance(store, S3Store) and most_bytes == 0:
        (copy,) = Path(tempfile.gettempdir()).glob(f"sisom-*/bank-{file.digest}.safetensors")
        copy.unlink()
        copy.with_suffix(".lock").unlink()


def test_a_pool_that_lies_there_twice_is_refused_however_many_ids_repeat(
    cluster: Cluster, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows repeat than are ever looked at by name: an example is enough to refuse."""
    store = LocalStore(str(tmp_path / "pool"))
    table = pa.table({"id": [f"i{n}" for n in range(30)], "image": [b"x"] * 30})
    for name in ("a", "b"):
        store.put(f"{name}.parquet", parquet(table))
    config = make_config(pool={"uri": store.uri}, scoring={"max_quarantined": 1.0})
    monkeypatch.setattr(listing, "MOST_REPEATS", 10)
    with pytest.raises(PoolError, match=r"stands in .*a\.parquet#0 row \d+ and in .*b\.parquet#0 row \d+"):
        listing.freeze(Folder(Workspace(LocalStore(str(tmp_path / "w")))), config, cluster=cluster)


@pytest.mark.parametrize("how", ["dies", "is lost", "ours", "a mistake"])
def test_what_ray_says_of_lost_work_becomes_our_sentence(cluster: Cluster, how: str) -> None:
    @ray.remote(num_cpus=0.1, max_retries=0)
    def work() -> None:
        if how == "dies":
            os._exit(1)
        if how == "ours":
            raise PoolError("pool.uri: nothing there")
        raise ZeroDivisionError("a bug")

    with pytest.raises(Exception) as raised, working("listing the pool"):
        if how == "is lost":
            raise ray.exceptions.ObjectLostError("00ff", None, "")
        ray.get(work.remote())
    error = raised.value
    if how in ("dies", "is lost"):
        assert isinstance(error, StageFailed) and error.exit_code == 1 and error.stage == "listing the pool"
        assert str(error).startswith("listing the pool: a worker or a node was lost (")
        assert "run the same command again: it goes on where it stopped" in str(error)
    else:
        assert isinstance(error, PoolError if how == "ours" else ZeroDivisionError)


def test_thumbnails_read_the_shards_of_queried_images_alone(
    cluster: Cluster, store: Store, workspace: Workspace, config: Config
) -> None:
    images = {f"p{n}": png(10 * n) for n in range(8)}
    store.put("m.parquet", parquet({"id": list(images), "image": list(images.values())}, group=2))
    store.put("one/z.png", png(7))
    found = snapshot_of(config.pool, workspace, "r/")
    scored = [
        {"id": name, "uri": listed.uri, "shard": shard.shard, "sisome": 1.0}
        for shard in load_shards(Folder(workspace, "r/"), found.table)
        for listed in shard.listed
        for name in ids_of(shard, source_of(config.pool))
    ]
    table = pa.Table.from_pylist(scored, schema=SCORES)
    for number in range(2):
        workspace.write_table(f"r/scores/{number:05d}.parquet", table.slice(number * 5, 5), row_group_size=2)
    query = [row for row in scored if row["id"] in ("p5", "one/z.png")]
    assert shards_of(Folder(workspace, "r/"), {row["id"]: row["uri"] for row in query}) == {
        2: frozenset({"p5"}),
        4: frozenset({"one/z.png"}),
    }
    assert shards_of(Folder(workspace, "r/"), {}) == {}
    assert shards_of(Folder(workspace, "r/"), {"nobody": query[0]["uri"]}) == {}
    want = thumbnails(query, found, config)
    assert sorted(want) == ["one/z.png", "p5"]
    # Shards without queried images are gone from the listing, and nobody asks for them.
    assert thumbnails(query, found.take([2, 4]), config) == want
