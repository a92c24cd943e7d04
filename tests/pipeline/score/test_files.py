"""Score files on real workers: the same query and summary for any files, and memory of a few row groups."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from pipeline.ask.selection import COLUMNS, QueryRules, candidates, gather, query
from pipeline.config.choices import QueryPlan
from pipeline.config.sections import Storage
from pipeline.errors import ArtefactDamaged
from pipeline.labels.oracle import KINDS, Truth
from pipeline.report.histogram import summarize_scores
from pipeline.score import files as score_files
from pipeline.score.files import columns_of, each_file
from pipeline.store.opening import Store, open_store
from pipeline.types import SCORES
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder

ROOT = Path(__file__).parents[3]
PREFIX = "rounds/000/"
PLAN = QueryPlan(size=100, strategy="sisome", ood_share=0.1)


def scored(n: int) -> pa.Table:
    rng = np.random.default_rng(n)
    columns: dict[str, object] = {
        "id": [f"image-{i:09d}" for i in range(n)],
        "uri": [f"pool/{i // 5000}.parquet" for i in range(n)],
        "shard": np.arange(n, dtype=np.int32) // 5000,
        "predicted": np.asarray(["cat", "dog"])[rng.integers(0, 2, n)],
        "is_ood": rng.random(n) < 0.05,
    }
    for name in ("inner", "outer", "ratio", "energy", "sisom", "sisome"):
        columns[name] = rng.normal(size=n).round(2).astype(np.float32)  # with ties
    return pa.table({name: columns[name] for name in SCORES.names}, schema=SCORES)


def workspace(folder: Path, table: pa.Table, files: int, *, group: int = 1000) -> Workspace:
    place = folder / PREFIX / "scores"
    place.mkdir(parents=True)
    for i in range(files):
        part = table.take(list(range(i, table.num_rows, files)))
        pq.write_table(part, place / f"{i:06d}.parquet", compression="zstd", row_group_size=group)
    return Workspace(open_store(str(folder), Storage()))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.ray
def test_files_and_workers_change_neither_query_nor_summary(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = scored(12_000)
    ids = table["id"].to_pylist()
    answered = frozenset(random.Random(0).sample(ids, 500))
    truth = Truth({}, {name: KINDS[i % 3] for i, name in enumerate(ids)})
    one = workspace(tmp_path / "one", table, 1)
    many = workspace(
        tmp_path / "many", table.take(np.random.default_rng(1).permutation(12_000)), 7, group=300
    )
    monkeypatch.setattr(score_files, "IN_FLIGHT", 2)
    for plan in (PLAN, PLAN.model_copy(update={"strategy": "random"})):
        asked = query(gather(Folder(one, PREFIX), QueryRules(plan, None, 3), answered=answered), plan, None)
        assert asked.num_rows == PLAN.size
        assert query(
            gather(Folder(many, PREFIX), QueryRules(plan, None, 3), answered=answered), plan, None
        ).equals(asked)
    for known in (None, truth):
        seen = summarize_scores(Folder(one, PREFIX), "sisome", truth=known, labeled=answered)
        assert summarize_scores(Folder(many, PREFIX), "sisome", truth=known, labeled=answered) == seen


@pytest.mark.ray
def test_a_damaged_file_is_said_from_a_worker(cluster: None, tmp_path: Path) -> None:
    broken = workspace(tmp_path, scored(1000), 3)
    (tmp_path / PREFIX / "scores/000001.parquet").write_bytes(b"PAR1 is how this begins")
    with pytest.raises(ArtefactDamaged, match="000001"):
        gather(Folder(broken, PREFIX), QueryRules(PLAN, None, 0), answered=frozenset())


def test_row_groups_come_one_by_one_with_the_columns_asked_for(store: Store) -> None:
    """On disk and on S3."""
    table, sink = scored(2500), pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=1000)
    store.put("scores/000000.parquet", sink.getvalue().to_pybytes())
    parts = list(Workspace(store).row_groups("scores/000000.parquet", ["id", "sisome"]))
    assert [part.num_rows for part in parts] == [1000, 1000, 500]
    assert pa.concat_tables(parts).equals(table.select(["id", "sisome"]))


def test_no_file_is_no_work(tmp_path: Path) -> None:
    empty = Workspace(open_store(str(tmp_path), Storage()))
    assert list(each_file(candidates, Folder(empty, PREFIX), COLUMNS)) == []
    assert gather(Folder(empty, PREFIX), QueryRules(PLAN, None, 0), answered=frozenset()).num_rows == 0


WATCHED = """
import sys
import pyarrow as pa
from pipeline.config.choices import QueryPlan
from pipeline.config.sections import Storage
from pipeline.report.histogram import Groups, count_rows
from pipeline.ask.selection import COLUMNS, QueryRules, candidates
from pipeline.store.opening import Store, open_store
from pipeline.workspace.artefacts import Workspace

answered = pa.array([f"image-{i:09d}" for i in range(0, 5000, 5)])
for folder in sys.argv[2:]:
    files = Workspace(open_store(folder, Storage()))
    parts = files.row_groups("rounds/000/scores/000000.parquet", COLUMNS)
    if sys.argv[1] == "select":
        candidates(parts, answered, QueryRules(QueryPlan(size=100, strategy="sisome", ood_share=0.1), None, 0))
    else:
        count_rows(parts, "sisome", Groups(answered))
    print(pa.default_memory_pool().max_memory())  # of all so far
"""


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One score file of 30 000 rows and one of 300 000, in row groups of the same size."""
    folders = [tmp_path_factory.mktemp(f"rows-{n}") for n in (30_000, 300_000)]
    few = scored(30_000)
    workspace(folders[0], few, 1, group=4096)
    workspace(folders[1], pa.concat_tables([few] * 10), 1, group=4096)
    return [str(folder) for folder in folders]


@pytest.mark.parametrize("work", ["select", "view"])
@pytest.mark.slow
def test_memory_is_of_some_row_groups_and_not_of_a_file(grown: list[str], work: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", WATCHED, work, *grown], capture_output=True, text=True, check=True, cwd=ROOT
    )
    few, many = map(int, child.stdout.split())
    assert 0 < many <= 1.3 * few
    assert many < 0.5 * scored(300_000).select(COLUMNS).nbytes


def test_columns_of_some_images_are_found_by_their_ids(tmp_path: Path) -> None:
    table = scored(5000).append_column("camera", pa.array([f"c{n % 7}" for n in range(5000)]))
    one = workspace(tmp_path, table, 1)
    ids = ["image-000004999", "image-000000003", "image-000001234"]
    assert columns_of(Folder(one, PREFIX), ids, ["camera", "uri"]) == {
        "image-000000003": ("c3", "pool/0.parquet"),
        "image-000001234": ("c2", "pool/0.parquet"),
        "image-000004999": ("c1", "pool/0.parquet"),
    }
