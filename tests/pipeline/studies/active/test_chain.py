"""Chains of rounds with every selector of the catalogue, in this process: what is labeled, kept and found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sisom
from pipeline.config.sections import Storage
from pipeline.studies.active.chain import ChainHints, chain, first_round
from pipeline.studies.active.config import ActiveStudy, Strategy
from pipeline.studies.active.images import StudyImages, initial_rows
from pipeline.studies.active.study import prepared
from pipeline.studies.kinds import load_study
from pipeline.studies.lab.cells import Bench, Cell
from pipeline.workspace.artefacts import Workspace

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = Path(__file__).parents[4] / "configs" / "al_digits.yaml"
SMALL = [
    "rounds=3",
    "query=6",
    "initial=24",
    "train.epochs=1",
    "model.image_size=8",
    "pool.count=90",
    "test.count=30",
]
OPEN = ["open_set={known: 0.5, far: [{name: noise, count: 20}], promote: 3}", "initial=16"]


class Lab:
    """A study without an engine: the initial network of seed 0, and chains on it."""

    def __init__(self, folder: Path, overrides: list[str]) -> None:
        found = load_study(CONFIG, [*SMALL, *overrides, f"workspace={folder}"])
        assert isinstance(found, ActiveStudy)
        self.config = found
        self.bench = Bench(str(folder), str(folder), Storage(), "cpu", found.compute)
        self.images: StudyImages = prepared(found)[0]
        self.start = Cell("initial", {"seed": 0}, first_round, found)
        self.finish(self.start)

    @property
    def workspace(self) -> Workspace:
        return self.bench.open()

    def finish(self, cell: Cell[Any]) -> dict[str, Any]:
        result = dict(cell.work(cell, self.bench, self.images))
        self.workspace.write_json(cell.key, result)
        return result

    def chain(self, name: str, **more: Any) -> Cell[ChainHints]:
        choice = Strategy.model_validate({"name": name, **more})
        spec = {"seed": 0, "strategy": name, **more}
        return Cell(name, spec, chain, ChainHints(self.config, choice, self.start.folder))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("closed"), [])


@pytest.mark.parametrize("name", sorted(sisom.SELECTORS))
def test_every_selector_of_the_catalogue_labels_what_it_may(lab: Lab, name: str) -> None:
    result = lab.finish(lab.chain(name))
    rounds = result["rounds"]
    assert [line["labeled"] for line in rounds] == [24, 30, 36]
    asked = [name for line in rounds for name in line["query"]]
    first = {lab.images.ids[row] for row in initial_rows(lab.images, lab.config, 0)}
    assert len(set(asked)) == 12
    assert not first & set(asked)
    assert rounds[-1]["query"] == []
    assert all(0.0 <= line["accuracy"] <= 1.0 for line in rounds)
    assert ("r_avg" in rounds[0]) == ("scores" in sisom.SELECTORS[name]().needs)


def test_a_finished_round_is_not_done_again(lab: Lab) -> None:
    cell = lab.chain("random", called="again")
    whole = lab.finish(cell)
    folder = Path(lab.bench.workspace) / cell.folder
    (folder / "round-002.json").unlink()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("round-*.json")}
    assert {**lab.finish(cell), "seconds": None} == {**whole, "seconds": None}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_equal_queries_have_equal_networks(lab: Lab) -> None:
    """Two chains of one strategy label the same images, and so reach the same."""
    once, twice = (lab.finish(lab.chain("margin", called=called)) for called in ("a", "b"))
    assert once["rounds"] == twice["rounds"]


@pytest.mark.parametrize("filtered", [False, True])
def test_an_open_set_finds_classes_and_tells_the_far_apart(tmp_path: Path, filtered: bool) -> None:
    lab = Lab(tmp_path, OPEN)
    assert {int(lab.images.truth[row]) for row in initial_rows(lab.images, lab.config, 0)} == set(range(5))
    rounds = lab.finish(lab.chain("random", filter=filtered))["rounds"]
    assert [line["classes"] for line in rounds] == sorted(line["classes"] for line in rounds)
    assert rounds[0]["classes"] == 5
    truth = dict(zip(lab.images.ids, lab.images.truth.tolist(), strict=True))
    for line in rounds[:-1]:
        worth = sum(truth[name] >= 0 for name in line["query"])
        assert line["precision"] == worth / 6
    assert rounds[0]["recall"] <= rounds[1]["recall"] <= 1.0
    assert all(line["accuracy"] <= line["classes"] / 10 for line in rounds)
