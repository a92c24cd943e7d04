"""Labeled sets outside the pool, as a round learns from them."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from pipeline.config.project import Config
from pipeline.errors import LabelError
from pipeline.labels.forms.tables import label_table
from pipeline.labels.sets import read_sets
from pipeline.labels.tally import Labels
from pipeline.learn.rows import labeled_table
from pipeline.pool.snapshot import Snapshot, load_shards
from pipeline.rounds.outside import Outside
from pipeline.store.opening import Store
from pipeline.types import Label, LabelStatus
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from tests.support.pools import png

MakeConfig = Callable[..., Config]


@pytest.fixture
def config(store: Store, make_config: MakeConfig) -> Config:
    for i, key in enumerate(("s/cat/1.png", "s/cat/2.png", "s/dog/3.png", "t/cat/4.png", "t/dog/5.png")):
        store.put(key, png(i))
    return make_config(labels={"sets": [{"uri": store.url("s")}, {"uri": store.url("t")}]})


def outside(config: Config, *answers: tuple[str, str | None, LabelStatus]) -> Outside:
    table = label_table(Label(name, label, status, "") for name, label, status in answers)
    return Outside.of(read_sets(config, config.taxonomy), Labels.of([table]))


def test_every_image_of_a_set_is_learned_from(config: Config) -> None:
    found = outside(config)
    assert found.labels == {
        "cat/1.png": "cat", "cat/2.png": "cat", "dog/3.png": "dog", "cat/4.png": "cat", "dog/5.png": "dog"
    }  # fmt: skip
    assert (found.places["dog/3.png"], found.sets["dog/3.png"]) == ((0, 2), 0)
    assert (found.places["cat/4.png"], found.sets["cat/4.png"]) == ((0, 0), 1)
    assert found.told() == "5 labeled images of 2 sets outside the pool"


def test_an_answer_overrules_the_set(config: Config) -> None:
    found = outside(
        config,
        ("cat/1.png", "dog", "labeled"),
        ("cat/2.png", None, "out-of-world"),
        ("dog/3.png", None, "withdrawn"),
    )
    assert found.labels == {"cat/1.png": "dog", "cat/4.png": "cat", "dog/5.png": "dog"}
    assert found.told().endswith(", 2 without a class are left out")


def test_an_id_that_stands_in_the_pool_too_is_refused(config: Config) -> None:
    found = outside(config)
    found.check({"x": (0, 0)})
    with pytest.raises(LabelError, match=r"labels\.sets: 1 ids stand in the pool too, such as 'dog/5\.png'"):
        found.check({"x": (0, 0), "dog/5.png": (0, 1)})


def test_the_listings_are_frozen_with_the_round(store: Store, config: Config) -> None:
    folder = Folder.of_round(Workspace(store), 0)
    found = outside(config)
    digests = found.freeze(folder, config)
    assert list(digests) == [one.uri for one in config.labels.sets]
    for number, ids in ((0, 3), (1, 2)):
        snapshot = Snapshot.read(folder.below(f"sets/{number:03d}/"))
        assert snapshot.digest() == digests[config.labels.sets[number].uri]
        (shard,) = load_shards(snapshot.folder, snapshot.table)
        assert shard.rows == ids
    assert found.freeze(folder, config) == digests


def test_rows_say_which_set_holds_them_where_there_are_sets() -> None:
    labels, places = [("b", 1), ("a", 0)], {"a": (3, 1), "b": (0, 2)}
    plain = labeled_table(labels, places, share=0.0, seed=0)
    assert labeled_table(labels, places, share=0.0, seed=0, sets={}) == plain
    table = labeled_table(labels, places, share=0.0, seed=0, sets={"b": 1})
    assert table.drop_columns(["set"]) == plain
    assert table["set"] == pa.chunked_array([[-1, 1]], pa.int32())
