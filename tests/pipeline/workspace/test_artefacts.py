"""The workspace over disk and S3: artefacts, committed rounds, and whose it is."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from pipeline.config.project import Config
from pipeline.encoding import to_json
from pipeline.errors import ArtefactDamaged, ArtefactMissing, WorkspaceMismatch
from pipeline.store.opening import Store
from pipeline.workspace.artefacts import Workspace, open_workspace
from pipeline.workspace.keys import PROJECT, round_key

MakeConfig = Callable[..., Config]


@pytest.fixture
def workspace(store: Store) -> Workspace:
    return Workspace(store)


def test_json_comes_back_and_equal_values_are_equal_bytes(workspace: Workspace) -> None:
    workspace.write_json("a.json", {"b": [1, None, "ü"], "a": 0.1})
    assert workspace.read_json("a.json") == {"a": 0.1, "b": [1, None, "ü"]}
    assert to_json({"b": 1, "a": 2}) == to_json({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"a": float("nan")})


def test_tables_come_back_in_the_order_of_their_keys(workspace: Workspace) -> None:
    for n in (2, 0, 1):
        workspace.write_table(f"scores/{n:06d}.parquet", pa.table({"n": [n], "m": ["x"]}))
    workspace.write_json("scores/other.json", {})
    assert [t["n"].to_pylist() for t in workspace.tables("scores/")] == [[0], [1], [2]]
    assert [t.column_names for t in workspace.tables("scores/", ["m"])] == [["m"]] * 3
    with pytest.raises(ArtefactMissing):
        workspace.read_table("scores/000003.parquet")


def test_rounds_count_up_to_the_first_that_is_not_committed(workspace: Workspace) -> None:
    assert workspace.committed() == 0
    for index in (0, 1, 3):
        workspace.write_json(round_key(index, "round.json"), {})
    workspace.write_json(round_key(2, "metrics.json"), {})
    assert workspace.committed() == 2


def test_the_first_config_makes_the_workspace_its_own(workspace: Workspace, make_config: MakeConfig) -> None:
    workspace.claim(make_config())
    first = workspace.store.get(PROJECT)
    workspace.claim(make_config())
    workspace.claim(make_config(rounds=99, resources={"actors": 3}, tracking={"experiment": "other"}))
    assert workspace.store.get(PROJECT) == first


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"train": {"lr": 0.5, "augment": {"pad": 0}}},
        {"test": {"uri": "x"}},
        {"model": {"name": "resnet10_w16", "layers": ["avgpool"]}},
        {"query": {"size": 3, "strategy": "random"}, "bank": {"subset": 1.0}, "slopes": {"search": "none"}},
        {"scoring": {"score": "knn"}, "open_world": {"promote_at": 3}},
        {"taxonomy": ["cat", "dog", "owl"]},
        {"taxonomy": ["cat", "hound"], "labels": {"renamed": {"dog": "hound"}}},
        {"labels": {"renamed": {"dog": "cat"}}},
        {"pool": {"uri": "unused", "images_per_shard": 7}},
    ],
)
def test_what_is_no_other_project_may_change(
    workspace: Workspace, make_config: MakeConfig, changes: dict[str, object]
) -> None:
    workspace.claim(make_config())
    first = workspace.store.get(PROJECT)
    workspace.claim(make_config(**changes))
    assert workspace.store.get(PROJECT) == first
    assert workspace.project() == make_config().digest() != make_config(**changes).digest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"taxonomy": ["cat", "dög"]}, 'taxonomy = ["cat", "dog"], but the config says ["cat", "dög"];'),
        ({"taxonomy": ["dog", "cat"]}, 'taxonomy = ["cat", "dog"], but the config says ["dog", "cat"];'),
        ({"taxonomy": ["owl", "cat", "dog"]}, "but the config says"),
        ({"pool": {"uri": "elsewhere"}}, 'pool.uri = "unused", but the config says "elsewhere";'),
        (
            {"pool": {"uri": "unused", "id_column": "key"}},
            'pool.id_column = "id", but the config says "key";',
        ),
        ({"pool": {"uri": "unused", "tar_ids": "path"}, "seed": 1}, 'pool.tar_ids = "member", but'),
    ],
)
@pytest.mark.parametrize("made", [1, 2], ids=["format-1", "format-2"])
def test_another_project_is_refused_by_the_first_key_that_differs(
    workspace: Workspace, make_config: MakeConfig, changes: dict[str, object], message: str, made: int
) -> None:
    config = make_config()
    if made == 1:
        older = {"format": 1, "digest": config.digest(), "config": config.frozen()}
        workspace.write_json(PROJECT, older)
    workspace.claim(config)
    with pytest.raises(WorkspaceMismatch, match="set it back, or give `workspace` another place") as raised:
        workspace.claim(make_config(**changes))
    assert message in str(raised.value)
    assert workspace.store.uri in str(raised.value)


def test_the_message_of_a_long_difference_is_short(workspace: Workspace, make_config: MakeConfig) -> None:
    workspace.claim(make_config(taxonomy=[f"class {n}" for n in range(1000)]))
    with pytest.raises(WorkspaceMismatch, match="taxonomy") as raised:
        workspace.claim(make_config())
    assert len(str(raised.value)) < 1000


def test_a_key_that_a_workspace_does_not_know_counts_as_the_default_of_its_day(
    workspace: Workspace, make_config: MakeConfig
) -> None:
    older = make_config().frozen()
    del older["test"]["uri"], older["pool"]["tar_ids"], older["open_world"]
    workspace.write_json(PROJECT, {"format": 1, "digest": "older", "config": older})
    workspace.claim(make_config())
    with pytest.raises(WorkspaceMismatch, match=r'pool\.tar_ids = "member", but the config says "path"'):
        workspace.claim(make_config(pool={"uri": "unused", "tar_ids": "path"}))


@pytest.mark.parametrize("content", [[], {"format": 2}, {"pinned": {"pool": 3}}, {"config": {"pool": {}}}])
def test_a_project_file_of_somebody_else_is_refused(
    workspace: Workspace, make_config: MakeConfig, content: object
) -> None:
    workspace.write_json(PROJECT, content)
    with pytest.raises(WorkspaceMismatch, match="is not of this program"):
        workspace.claim(make_config())


def test_opening_writes_nothing(base_uri: str, make_config: MakeConfig) -> None:
    workspace = open_workspace(make_config(workspace=base_uri))
    assert workspace.committed() == 0
    assert workspace.keys("") == []


@pytest.mark.parametrize(
    ("key", "data"), [("a.json", b"{"), ("a.parquet", b"PAR1 and no more"), ("a.json", b"\xff")]
)
def test_a_damaged_artefact_is_said_in_one_sentence(store: Store, key: str, data: bytes) -> None:
    workspace = Workspace(store)
    workspace.store.put(key, data)
    read = workspace.read_json if key.endswith(".json") else workspace.read_table
    with pytest.raises(ArtefactDamaged, match=r"is damaged .* run again to make it anew") as raised:
        read(key)
    assert raised.value.uri == store.url(key)
    with pytest.raises(ArtefactMissing):
        read("nobody.json")


def test_checking_writes_nothing_and_a_moved_workspace_is_the_same(
    store: Store, make_config: MakeConfig
) -> None:
    workspace = Workspace(store)
    workspace.check(make_config(seed=1))
    assert list(store.list()) == []
    workspace.claim(make_config(seed=1))
    workspace.check(make_config(seed=1, workspace="elsewhere"))
    with pytest.raises(WorkspaceMismatch, match=r'pool.uri = "unused", but the config says "other"'):
        workspace.check(make_config(seed=1, pool={"uri": "other"}))
    store.put("project.json", b"[]")
    with pytest.raises(WorkspaceMismatch, match="is not of this program"):
        workspace.check(make_config(seed=1))
