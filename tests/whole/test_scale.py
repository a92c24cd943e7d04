"""A pool through the whole engine on a real Ray: every row in its place, and the same bytes whoever did the work."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from pipeline.config.project import Config
from pipeline.config.sections import Pool, Storage
from pipeline.errors import PoolError, QuarantineOverflow
from pipeline.learn.rows import read_labeled
from pipeline.pool.shards import form_of
from pipeline.score.broadcast import BankFile
from pipeline.score.job import score_pool
from pipeline.store.opening import open_store
from pipeline.types import LABELED, SCORES
from pipeline.voice import Voice
from tests.support.corpus import Case, as_folder, as_parquet, as_tars, cases, poisoned
from tests.support.fault_proxy import FaultProxy, Rule
from tests.support.scoring_lab import Lab, config_of, files, image, outcome, small_pool

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SUPPORT = Path(__file__).parents[1] / "support"
MakeConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def poison() -> Iterator[None]:
    """Every process started from here on has a decoder with a bug."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(SUPPORT / "poison"), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module")
def local_ray(poison: None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):  # workers find them where they start
            patch.setenv(name, "test")
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.build(tmp_path_factory.mktemp("bank"))


@pytest.fixture
def config_for() -> MakeConfig:
    return config_of


# ------------------------------------------------------------------------------------------- in its right place


def fates(found: Sequence[Case]) -> tuple[set[str], dict[str, str | None]]:
    scored = {case.name for case in found if case.fate == "scored"}
    return scored, {case.name: case.reason for case in found if case.fate == "quarantined"}


@pytest.mark.parametrize("form", ["folder", "parquet", "tars"])
def test_of_hundreds_of_odd_files_each_ends_in_its_place(
    form: str, local_ray: None, lab: Lab, config_for: MakeConfig, tmp_path: Path
) -> None:
    every = cases(0)
    assert len(every) >= 300
    pool = tmp_path / "pool"
    if form == "parquet":
        as_parquet(every, pool / "odd.parquet", 64)
    else:
        (as_folder(every, pool) if form == "folder" else as_tars(every, pool, 100))
        every = [case for case in every if form_of(case.name) == "image"]
    job = lab.job(config_for(pool), tmp_path / "out")
    account = score_pool(job, Voice()).account
    scores, broken = outcome(job)
    want_scored, want_broken = fates(every)
    assert set(scores["id"].to_pylist()) == want_scored
    reasons = dict(zip(broken["id"].to_pylist(), broken["reason"].to_pylist(), strict=True))
    assert set(reasons) == set(want_broken)
    for name, reason in want_broken.items():
        assert reason is None or reasons[name].startswith(reason), name
    assert (account.listed, account.scored, account.quarantined) == (
        len(every),
        len(want_scored),
        len(want_broken),
    )


def test_duplicates_are_quarantined_by_place_and_broken_containers_are_no_rows(
    local_ray: None, lab: Lab, config_for: MakeConfig, tmp_path: Path
) -> None:
    pool = small_pool(tmp_path / "pool", 60)
    (pool / "broken.parquet").write_bytes(b"PAR1 and no more")
    (pool / "cut.tar").write_bytes(b"\0" * 100)
    twice = pa.table({"id": ["i0003", "new"], "image": [image(1), image(2)]})
    pq.write_table(twice, pool / "twice.parquet")
    usual = Pool(uri=str(pool), images_per_shard=50)
    with pytest.raises(
        PoolError, match=r"2 tables or tars that can't be read in full \(116 bytes\), and 0 are"
    ):
        lab.job(config_for(pool).model_copy(update={"pool": usual}), tmp_path / "none")
    allowed = usual.model_copy(update={"max_unreadable_files": 2})
    job = lab.job(config_for(pool).model_copy(update={"pool": allowed}), tmp_path / "out")
    score_pool(job, Voice())
    scores, broken = outcome(job)
    assert sorted(scores["id"].to_pylist()) == sorted([*(f"i{n:04d}" for n in range(60)), "new"])
    rows = {row["id"]: row for row in broken.to_pylist()}
    assert list(rows) == ["i0003"]
    assert rows["i0003"]["stage"] == "list"
    assert rows["i0003"]["reason"] == f"duplicate id: it stands first in {pool}/pool.parquet#0 row 3"
    assert rows["i0003"]["uri"].endswith("twice.parquet")


@pytest.mark.parametrize("actors", [1, 2])
def test_metadata_stand_beside_the_scores_of_their_rows(
    local_ray: None, lab: Lab, config_for: MakeConfig, tmp_path: Path, actors: int
) -> None:
    """Columns of Parquet and folders of images; broken rows have them too."""
    pool = small_pool(tmp_path / "pool/day=1", 60)
    table = pq.read_table(pool / "pool.parquet")
    images = table["image"].to_pylist()
    images[7] = b"broken"
    cameras = pa.array([n % 3 for n in range(60)], pa.int8())
    table = table.set_column(1, "image", pa.array(images)).append_column("camera", cameras)
    pq.write_table(table, pool / "pool.parquet", row_group_size=25)
    (tmp_path / "pool/day=2/camera=9").mkdir(parents=True)
    (tmp_path / "pool/day=2/camera=9/a.png").write_bytes(image(1))
    asked = Pool(uri=str(tmp_path / "pool"), images_per_shard=50, metadata=("day", "camera"))
    config = config_for(pool, resources={"actors": actors}).model_copy(update={"pool": asked})
    job = lab.job(config, tmp_path / "out")
    score_pool(job, Voice())
    scores, broken = outcome(job)
    found = {row["id"]: (row["day"], row["camera"]) for row in scores.to_pylist()}
    want = {f"i{n:04d}": ("1", str(n % 3)) for n in range(60) if n != 7}
    assert found == want | {"day=2/camera=9/a.png": ("2", "9")}
    assert [(row["id"], row["day"], row["camera"]) for row in broken.to_pylist()] == [("i0007", "1", "1")]
    assert scores.column_names == [*SCORES.names, "day", "camera"]


# ----------------------------------------------------------------------------------------------- the same answer


@pytest.fixture(scope="module")
def reference(
    local_ray: None, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, bytes]]:
    """A pool, and the bytes of its score files by one actor."""
    folder = tmp_path_factory.mktemp("same")
    pool = small_pool(folder / "pool")
    job = lab.job(config_of(pool, resources={"actors": 1}), folder / "out")
    score_pool(job, Voice())
    return pool, files(job)


@pytest.mark.parametrize(
    ("actors", "readers", "block_bytes", "encoded", "task_rows"),
    [
        pytest.param(1, 1, 1, 1, 1, marks=pytest.mark.faults),
        (2, 4, 1 << 20, 1 << 12, 100),
        pytest.param(4, 2, 1 << 27, 1 << 26, 10_000, marks=pytest.mark.faults),
    ],
)
def test_actors_blocks_and_arrival_change_no_byte(
    actors: int, readers: int, block_bytes: int, encoded: int, task_rows: int,
    reference: tuple[Path, dict[str, bytes]], lab: Lab, config_for: MakeConfig, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pool, want = reference
    monkeypatch.setattr("pipeline.score.job.TASK_ROWS", task_rows)
    job = lab.job(config_for(pool), tmp_path / "out")
    plan = replace(
        job.memory,
        actors=actors,
        most_actors=actors,
        readers_a_node=readers,
        block_bytes=block_bytes,
        encoded=encoded,
        tiles=encoded,
    )
    score_pool(replace(job, memory=plan), Voice())
    assert files(job) == want


@contextmanager
def killing(name: str, times: int) -> Iterator[list[int]]:
    """Kill processes of this Ray whose title holds `name`, one after another, as long as the block runs."""
    over, killed = threading.Event(), list[int]()

    def work() -> None:
        while not over.wait(0.05) and len(killed) < times:
            for child in psutil.Process().children(recursive=True):
                try:
                    if name in " ".join(child.cmdline()) and child.pid not in killed:
                        time.sleep(0.2)  # let it have begun
                        child.kill()
                        killed.append(child.pid)
                        break
                except psutil.Error:
                    continue

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("name", ["_ScoringActor", "ReadTask"])
def test_killed_workers_change_no_byte(
    name: str, reference: tuple[Path, dict[str, bytes]], lab: Lab, config_for: MakeConfig, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pool, want = reference
    monkeypatch.setattr("pipeline.score.job.TASK_ROWS", 1)
    job = lab.job(config_for(pool), tmp_path / "out")
    with killing(name, 2) as killed:
        score_pool(job, Voice())
    assert files(job) == want
    assert killed


def test_a_large_bank_from_files_gives_the_same_bytes(
    reference: tuple[Path, dict[str, bytes]], lab: Lab, config_for: MakeConfig, tmp_path: Path
) -> None:
    pool, want = reference
    job = lab.job(config_for(pool, resources={"bank_share": 1e-9}), tmp_path / "out")
    assert isinstance(job.shared.bank, BankFile)
    score_pool(job, Voice())
    assert files(job) == want


# -------------------------------------------------------------------------------------------- poison and patience


@pytest.mark.parametrize("how", ["SEGV", pytest.param("KILL", marks=pytest.mark.faults)])
def test_an_image_that_kills_its_worker_is_found_and_it_alone(
    how: Any, local_ray: None, lab: Lab, config_for: MakeConfig, tmp_path: Path
) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    for n in range(60):
        (pool / f"{n:03d}.png").write_bytes(poisoned(image(n), how) if n == 37 else image(n))
    job = lab.job(config_for(pool), tmp_path / "out")
    score_pool(job, Voice())
    scores, broken = outcome(job)
    assert scores["id"].to_pylist() == [f"{n:03d}.png" for n in range(60) if n != 37]
    (row,) = broken.to_pylist()
    assert (row["id"], row["stage"]) == ("037.png", "decode")
    assert "kills its decoder" in row["reason"]


def test_a_labeled_image_that_kills_its_worker_is_left_out_and_it_alone(
    local_ray: None, lab: Lab, config_for: MakeConfig, tmp_path: Path
) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    for n in range(12):
        (pool / f"{n:02d}.png").write_bytes(poisoned(image(n), "SEGV") if n == 4 else image(n))
    config = config_for(pool)
    job = lab.job(config, tmp_path / "out")
    rows = [{"id": f"{n:02d}.png", "target": 0, "held_out": False, "shard": 0, "row": n} for n in range(12)]
    table = pa.Table.from_pylist(rows, schema=LABELED)
    found = read_labeled(table, job.snapshot, config)
    (broken,) = found.broken.to_pylist()
    assert broken["id"] == "04.png" and "kills its decoder" in broken["reason"]
    assert found.rows == 11


@pytest.mark.faults
def test_an_image_that_hangs_its_worker_is_found_once_nothing_moves_any_more(
    local_ray: None, lab: Lab, config_for: MakeConfig, tmp_path: Path
) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    for n in range(40):
        (pool / f"{n:03d}.png").write_bytes(poisoned(image(n), "HANG") if n == 5 else image(n))
    job = lab.job(config_for(pool, resources={"no_progress_s": 30.0}), tmp_path / "out")
    assert score_pool(job, Voice()).account.scored == 39
    _, broken = outcome(job)
    (row,) = broken.to_pylist()
    assert (row["id"], row["stage"]) == ("005.png", "decode")
    assert "hangs its decoder" in row["reason"]


def test_too_much_quarantine_stops_early_and_says_why(
    local_ray: None, lab: Lab, config_for: MakeConfig, tmp_path: Path
) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    for n in range(100):
        (pool / f"{n:03d}.png").write_bytes(image(n) if n % 2 else b"no image")
    job = lab.job(config_for(pool, quarantined=0.01), tmp_path / "out")
    with pytest.raises(
        QuarantineOverflow, match=r"more than scoring\.max_quarantined .* not an image \(\d+, such as"
    ):
        score_pool(job, Voice())


@pytest.mark.s3
def test_a_bad_line_changes_no_byte(
    reference: tuple[Path, dict[str, bytes]], lab: Lab, config_for: MakeConfig, tmp_path: Path,
    s3_endpoint: str, s3_bucket: str,
) -> None:  # fmt: skip
    """Five in a hundred of each fault between the workers and the server, and the same rows come out."""
    store = open_store(f"{s3_bucket}/images", Storage(endpoint=s3_endpoint))
    for n in range(150):
        store.put(f"{n:04d}.png", image(n))
    tables = []
    rules = [Rule(kind, share=0.05) for kind in ("503", "500", "reset", "slow", "truncate")]
    for number, faults in enumerate(([], rules)):
        with FaultProxy(s3_endpoint, faults, seed=number) as proxy:
            config = config_for(f"{s3_bucket}/images", storage={"endpoint": proxy.url})
            job = lab.job(config, tmp_path / f"out{number}")
            assert score_pool(job, Voice()).account.scored == 150
            tables.append(files(job))
            assert bool(faults) == bool(sum(proxy.faults.values()))
    assert tables[0] == tables[1]


@pytest.mark.s3
def test_what_storage_never_gave_is_tried_again_by_the_next_run(
    local_ray: None, lab: Lab, config_for: MakeConfig, tmp_path: Path, s3_endpoint: str, s3_bucket: str
) -> None:
    store = open_store(f"{s3_bucket}/images", Storage(endpoint=s3_endpoint))
    for n in range(40):
        store.put(f"{n:04d}.png", image(n))
    with FaultProxy(s3_endpoint, [Rule("503", holds="0007.png")], seed=0) as proxy:
        config = config_for(f"{s3_bucket}/images", quarantined=0.01, storage={"endpoint": proxy.url})
        job = lab.job(config, tmp_path / "out")
        with pytest.raises(
            QuarantineOverflow, match=r"storage did not answer \(1, .*tried again by the next run"
        ):
            score_pool(job, Voice())
        proxy.rules.clear()
        account = score_pool(job, Voice()).account
    assert (account.scored, account.quarantined) == (40, 0)
