"""`sisom config check`: what it finds before anything starts, all at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.commands.check import check
from pipeline.config.load import load
from pipeline.errors import ConfigError
from pipeline.track.session import open_client
from pipeline.workspace.artefacts import open_workspace
from tests.support.pools import parquet, png, tar

QUICKSTART = Path(__file__).parents[3] / "configs" / "quickstart.yaml"
NAMES = [f"2026-01/IMG_{number:05d}.JPG" for number in range(8)]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A good config with a pool of eight files, a test set and first labels."""
    for number, name in enumerate(NAMES):
        place = tmp_path / "pool" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png(number))
    (tmp_path / "test.parquet").write_bytes(
        parquet({"id": ["t", "u"], "image": [png(1), png(2)], "label": ["cat", "dog"]})
    )
    labels(tmp_path, NAMES[:4])
    write(tmp_path)
    return tmp_path / "c.yaml"


def write(folder: Path, **changes: Any) -> None:
    data: dict[str, Any] = {
        "workspace": f"{folder}/work",
        "taxonomy": ["cat", "dog"],
        "pool": {"uri": f"{folder}/pool"},
        "test": {"uri": f"{folder}/test.parquet"},
        "oracle": {"kind": "people", "initial": f"{folder}/initial.parquet"},
        "model": {"name": "resnet10_w16", "image_size": 8},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(data | changes))


def labels(folder: Path, names: list[str]) -> None:
    table = pa.table({"id": names, "label": (["cat", "dog"] * len(names))[: len(names)]})
    pq.write_table(table, folder / "initial.parquet")


def test_all_that_is_good_is_told_and_nothing_is_left_behind(config: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    found = check(str(config))
    assert found.faults == []
    assert "pool: 8 image files; 8 images in 1 shards" in found.good
    assert f"test: 2 images at {tmp_path}/test.parquet" in found.good
    assert f"labels: 4 in {tmp_path}/initial.parquet, all in the pool" in found.good
    assert f"workspace: {tmp_path}/work may be written" in found.good
    assert sorted(tmp_path.rglob("*")) == before


def test_all_faults_come_at_once(config: Path, tmp_path: Path) -> None:
    labels(tmp_path, ["IMG_00003.jpg", *NAMES[:3]])
    pq.write_table(pa.table({"id": ["t"], "image": [b"x"], "label": ["cow"]}), tmp_path / "test.parquet")
    found = check(str(config), ["model.layers=[layer9]", f"workspace={tmp_path}/pool/work"])
    assert len(found.faults) == 4
    model, places, test, first = found.faults
    assert model.startswith("model.layers: ")
    assert "lies in the pool" in places
    assert "label 'cow' is not in the taxonomy" in test
    assert "1 of 4 ids" in first and f"'IMG_00003.jpg', did you mean '{NAMES[3]}'?" in first


def test_the_pool_may_be_read_only_and_the_workspace_not(config: Path, tmp_path: Path) -> None:
    (tmp_path / "pool").chmod(0o555)
    (tmp_path / "closed").mkdir(mode=0o555)
    try:
        assert check(str(config)).faults == []
        if os.geteuid() != 0:  # nothing is closed to root
            (fault,) = check(str(config), [f"workspace={tmp_path}/closed/work"]).faults
            assert "may not be written" in fault
    finally:
        (tmp_path / "pool").chmod(0o755)


def test_what_a_pool_holds_is_told_by_form(config: Path, tmp_path: Path) -> None:
    (tmp_path / "pool/a.tar").write_bytes(tar({"a.png": png(1), "a.json": b"{}"}))
    (tmp_path / "pool/b.parquet").write_bytes(parquet({"id": ["b"], "image": [png(1)]}))
    (tmp_path / "pool/notes.txt").write_bytes(b"x")
    (tmp_path / "pool/_SUCCESS").write_bytes(b"")
    found = check(str(config), ['pool.exclude=["2026-01/IMG_0000[4-7].JPG"]'])
    (told,) = [line for line in found.good if line.startswith("pool: ")]
    parts = [
        "4 image files",
        "1 tars",
        "1 Parquet files",
        "6 images in 3 shards",
        "left out: 1 members that end in .json",
        "left out: 1 objects of no known ending",
        "left out: 1 objects that end in .txt",
        "left out: 4 objects that pool.include and pool.exclude leave out",
    ]
    for part in parts:
        assert part in told


def test_a_broken_file_is_found_before_work_starts(config: Path, tmp_path: Path) -> None:
    (tmp_path / "pool/b.parquet").write_bytes(b"PAR1")
    (fault,) = check(str(config)).faults
    assert "b.parquet can't be read in full" in fault


@pytest.mark.parametrize(("workspace", "says"), [("pool", "lies in the pool"), ("pool/2026-01/w", "lies in the pool"),
                                                  (".", "holds the pool")])  # fmt: skip
def test_workspace_and_pool_lie_apart(config: Path, tmp_path: Path, workspace: str, says: str) -> None:
    faults = check(str(config), [f"workspace={(tmp_path / workspace).resolve()}"]).faults
    assert says in faults[0] and "give it a place beside" in faults[0]


def test_on_s3_the_workspace_is_written_once_and_left_empty(config: Path, s3_bucket: str) -> None:
    from pipeline.config.sections import Storage
    from pipeline.store.opening import open_store

    assert check(str(config), [f"workspace={s3_bucket}/work"]).faults == []
    assert list(open_store(s3_bucket, Storage()).list()) == []
    faults = check(str(config), ["workspace=s3://no-such-bucket-here/work"]).faults
    assert len(faults) == 1 and "S3 says NoSuchBucket; check the bucket's name" in faults[0]


def test_the_demo_and_studies_are_known() -> None:
    found = check(str(QUICKSTART), ["workspace=/tmp/nowhere/w", "pool.uri=/tmp/nowhere/pool"])
    assert found.faults == [] and "pool: the demo's, which the first run makes" in found.good
    study = check(str(QUICKSTART.parent / "ood_digits.yaml"), ["workspace=/tmp/nowhere/s"])
    assert study.faults == []
    assert study.good[:2] == [
        "a study of out-of-distribution detection",
        "workspace: /tmp/nowhere/s may be written",
    ]
    assert "MLflow's store in the workspace" in study.good[2]
    with pytest.raises(ConfigError, match="no_such: unknown key"):
        check(str(QUICKSTART.parent / "ood_digits.yaml"), ["no_such=1"])


def test_each_fault_of_the_config_itself_is_told(config: Path) -> None:
    faults = check(str(config), ["query.sise=5", "train.epochs=0", "pool.images_per_shard=x"]).faults
    assert [fault.partition(":")[0] for fault in sorted(faults)] == [
        "pool.images_per_shard", "query.sise", "train.epochs"
    ]  # fmt: skip
    assert "size" in next(fault for fault in faults if fault.startswith("query.sise: unknown key"))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        check(str(tmp_path / "none.yaml"))


def test_a_server_of_mlflow_is_asked(config: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        uri = f"http://ann:secret@127.0.0.1:{nobody.getsockname()[1]}"
        (fault,) = check(str(config), [f"tracking.uri={uri}"]).faults
    assert fault.startswith("MLflow at http://***@127.0.0.1") and "secret" not in fault


def test_a_deleted_experiment_is_found_before_work_starts(config: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/own.db"
    client = open_client(uri)
    assert "experiment 'birds' will be made" in " ".join(
        check(str(config), [f"tracking.uri={uri}", "tracking.experiment=birds"]).good
    )
    client.delete_experiment(client.create_experiment("birds"))
    (fault,) = check(str(config), [f"tracking.uri={uri}", "tracking.experiment=birds"]).faults
    assert "'birds' is deleted there; restore it" in fault


def test_memory_that_is_too_little_is_found_before_work_starts(config: Path) -> None:
    (told,) = [line for line in check(str(config)).good if line.startswith("memory: ")]
    assert "actors x" in told
    (fault,) = check(str(config), ["resources.memory=700MiB"]).faults
    assert fault.startswith("resources.memory: 700 MiB a node are too little; the least that would do is")


def test_a_cluster_has_its_own_memory(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert "memory: the cluster's, which the run plans when it has joined it" in check(str(config)).good


def test_images_of_the_test_set_that_the_pool_has_too_are_told(config: Path, tmp_path: Path) -> None:
    ids = ["t", NAMES[6]]
    (tmp_path / "test.parquet").write_bytes(
        parquet({"id": ids, "image": [png(1), png(2)], "label": ["cat", "dog"]})
    )
    (told,) = [line for line in check(str(config)).good if line.startswith("test: ")]
    assert f"1 ids are the pool's too, such as '{NAMES[6]}'" in told


def test_labeled_sets_are_read(config: Path, tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/2.png", "dog/3.png"):
        (tmp_path / "more" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "more" / name).write_bytes(png(1))
    sets = f"labels.sets=[{{uri: {tmp_path}/more}}]"
    assert "labels.sets: 3 images in 1 sets" in check(str(config), [sets]).good
    (tmp_path / "more/cow").mkdir()
    (tmp_path / "more/cow/4.png").write_bytes(png(2))
    (fault,) = check(str(config), [sets]).faults
    assert "label 'cow', which is not in the taxonomy" in fault


def test_a_workspace_of_another_project_is_found_before_work_starts(config: Path, tmp_path: Path) -> None:
    open_workspace(load(config)).claim(load(config))
    assert check(str(config)).faults == []
    (fault,) = check(str(config), ["taxonomy=[dog, cat]"]).faults
    assert "was made with taxonomy" in fault
