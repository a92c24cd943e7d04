"""Rounds one after another: label files are read once, and those that come between two rounds are noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.commands.run import run
from pipeline.commands.tick import tick
from pipeline.config.project import Config
from pipeline.errors import LabelError, WaitingForLabels
from pipeline.rounds import loop, steps
from pipeline.rounds.work import Project, Work
from pipeline.track.tracker import Tracker
from pipeline.types import QUERY
from pipeline.voice import Voice
from pipeline.workspace import artefacts, keys
from pipeline.workspace.artefacts import Workspace, open_workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.metrics import Metrics
from pipeline.workspace.plan import Loss, Plan, PlannedPool
from pipeline.workspace.records import Commit
from tests.support.counting_store import READS, CountingStore, label_reads
from tests.support.scoring_lab import MODEL, image

ASKED = ("a", "b")


@pytest.fixture
def config(
    tmp_path: Path, make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Config]:
    """A project whose rounds leave plan, query and metrics alone, without Ray and without MLflow."""
    (tmp_path / "pool").mkdir()
    pq.write_table(pa.table({"id": ["a"], "image": [image(0)]}), tmp_path / "pool/a.parquet")
    pq.write_table(pa.table({"id": ["x", "y"], "label": ["cat", "dog"]}), tmp_path / "initial.parquet")
    monkeypatch.setattr(artefacts, "open_store", lambda uri, _storage: CountingStore(uri))
    monkeypatch.setattr(
        loop.joining, "start", lambda _: SimpleNamespace(cpus=2, gpus=0, max_actors=2, device="cpu")
    )
    monkeypatch.setattr(loop, "run_round", run_round)
    monkeypatch.setattr(Tracker, "warm", lambda _: None)
    READS.clear()
    yield make_config(
        workspace=str(tmp_path / "work"),
        rounds=5,
        pool={"uri": str(tmp_path / "pool")},
        oracle={"kind": "people", "initial": str(tmp_path / "initial.parquet")},
        model=MODEL,
        stop={"labels": 1000},
        tick={"answered": 0.5},
    )


LEARNED: list[set[str]] = []  # the ids that each round has learned from


def run_round(project: Project, cluster: object, index: int) -> None:
    """What a round does with labels: it plans with those of the moment, and learns from those that it has planned."""
    work = Work(project, cluster, index)  # type: ignore[arg-type]
    if not work.done(steps.PLAN):
        files = project.label_files
        files.labels(project.config.taxonomy)
        plan = Plan(
            index=index, taxonomy=project.config.taxonomy, labels=tuple(files.keys), label_digests=files.digests,
            config=project.config.frozen(),
        )  # fmt: skip
        plan.write(work.folder)
    work = work.on(work.cluster)
    LEARNED.append(set(work.labels.answered()))
    rows = [{"rank": i, "id": name, "uri": "u"} for i, name in enumerate(ASKED)]
    work.folder.write_table(keys.QUERY, pa.Table.from_pylist(rows, schema=QUERY))
    Metrics(round=index, query_size=len(rows)).write(work.folder)
    Commit(fence=1, at="2026-01-01T00:00:00+00:00").write(work.folder)
    work.folder.write_json(keys.TRACKING, {})
    work.folder.write_json(keys.ROUND, {})
    arrive(work.workspace, index)


def arrive(workspace: Workspace, index: int) -> None:
    """Nobody answers while a round works, unless a test says so."""


def answer(workspace: Workspace, key: str, ids: Sequence[str]) -> None:
    table = pa.table({"id": ids, "label": ["cat"] * len(ids)})
    workspace.write_table(f"labels/{key}.parquet", table)


def test_a_tick_reads_each_label_file_once(config: Config) -> None:
    LEARNED.clear()
    assert tick(config, Voice()) == 1
    assert label_reads() == {"000-initial.parquet": 1}
    assert [{"x", "y"}] == LEARNED
    workspace = open_workspace(config)
    with pytest.raises(WaitingForLabels):
        tick(config, Voice())
    assert label_reads() == {"000-initial.parquet": 1}
    answer(workspace, "001-answers", ["a"])
    READS.clear()
    assert tick(config, Voice()) == 1
    assert label_reads() == {"000-initial.parquet": 1, "001-answers.parquet": 1}
    assert LEARNED[1:] == [{"x", "y", "a"}]


def test_a_run_notices_the_labels_that_came_during_a_round_and_reads_no_other(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    LEARNED.clear()
    here = globals()
    monkeypatch.setitem(
        here, "arrive", lambda workspace, index: answer(workspace, f"{index + 1:03d}-x", ["a", str(index)])
    )
    assert run(config, Voice(), rounds=3) == 3
    assert [{"x", "y"}, {"x", "y", "a", "0"}, {"x", "y", "a", "0", "1"}] == LEARNED
    assert label_reads() == {"000-initial.parquet": 1, "001-x.parquet": 1, "002-x.parquet": 1}


def test_an_interrupted_round_learns_from_what_it_has_planned(config: Config) -> None:
    LEARNED.clear()
    tick(config, Voice())
    workspace = open_workspace(config)
    answer(workspace, "001-answers", ["a"])
    tick(config, Voice())
    workspace.store.delete("rounds/001/round.json")
    answer(workspace, "002-later", ["b"])
    READS.clear()
    assert tick(config, Voice()) == 1
    assert LEARNED[-1] == {"x", "y", "a"}
    assert label_reads() == {"000-initial.parquet": 1, "001-answers.parquet": 1, "002-later.parquet": 1}
    workspace.store.delete("rounds/001/round.json")
    answer(workspace, "001-answers", ["a", "c"])
    with pytest.raises(LabelError, match=r"001-answers\.parquet has changed since round 001 was planned"):
        tick(config, Voice())


def test_nobody_has_answered(config: Config) -> None:
    tick(config, Voice())
    with pytest.raises(
        WaitingForLabels, match=r"round 000 asks about 2 images .* none is answered.*001-answers"
    ):
        run(config, Voice(), rounds=2)


@pytest.mark.parametrize(
    ("unreadable", "said"),
    [
        (3, "test accuracy 75.0% (3 unreadable left out), "),
        (0, "test accuracy 75.0%, "),
        (None, "test accuracy 75.0%, "),
    ],
)
def test_the_headline_counts_the_test_images_that_are_left_out(
    config: Config, unreadable: int | None, said: str
) -> None:
    workspace = open_workspace(config)
    folder = Folder.of_round(workspace, 0)
    Metrics(test_accuracy=0.75, test_images=8, test_unreadable=unreadable).write(folder)
    assert said in loop._headline(workspace, 0)


def test_the_headline_tells_the_files_that_could_not_be_listed(config: Config) -> None:
    workspace = open_workspace(config)
    folder = Folder.of_round(workspace, 0)
    Metrics(listed=300, scored=298, quarantined=2).write(folder)
    Plan(pool=PlannedPool(rows=300)).write(folder)
    assert "298 scored + 2 quarantined = 300 listed; 0 asked" in loop._headline(workspace, 0)
    Plan(pool=PlannedPool(rows=300, unreadable=Loss(files=2, bytes=162435, rows=200))).write(folder)
    assert (
        "298 scored + 2 quarantined = 300 listed, without 2 tables or tars that can't be read in full "
        "(162,435 bytes, 200 images at least); 0 asked"
    ) in loop._headline(workspace, 0)


def test_a_withdrawn_image_is_no_answer(config: Config) -> None:
    tick(config, Voice())
    workspace = open_workspace(config)
    asked = workspace.read_table("rounds/000/query.parquet")["id"].to_pylist()
    gone = {"id": asked[:1], "label": pa.nulls(1, pa.string()), "status": ["withdrawn"]}
    workspace.write_table("labels/001-withdrawn-x.parquet", pa.table(gone))
    with pytest.raises(
        WaitingForLabels, match=rf"round 000 asks about {len(asked) - 1} images .* none is answered"
    ):
        run(config, Voice(), rounds=2)


def test_a_file_that_answers_nothing_is_told(config: Config) -> None:
    tick(config, Voice())
    answer(open_workspace(config), "001-answers", ["somebody else"])
    with pytest.raises(
        WaitingForLabels, match=r"001-answers\.parquet is there, but none of its 1 ids was asked about"
    ):
        run(config, Voice(), rounds=2)
