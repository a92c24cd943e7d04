"""The account: shards checked by id, merged into few files, and what is wrong or worth another try told apart."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.project import Config
from pipeline.pool.inventory.found import digest_of
from pipeline.pool.snapshot import Snapshot, SnapshotWriter
from pipeline.score import account as room
from pipeline.score.account import Tally, clear_parts, overflow, write_part
from pipeline.store.opening import LocalStore
from pipeline.types import FACTS, PART, QUARANTINE, SCORED, SCORES, Listed
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.keys import scored_part_key

MakeConfig = Callable[..., Config]

Bad = dict[str, Any]


def scored(shard: int, ids: Sequence[str], bad: dict[int, Bad] | None = None) -> pa.Table:
    """A finished shard; what the scores say follows from the place."""
    rows = []
    for row, name in enumerate(ids):
        broken = (bad or {}).get(row)
        rows.append(
            {"row": row, "id": name, "uri": f"u{shard}", "shard": shard}
            | (
                {"stage": "decode", "attempts": 1} | broken
                if broken
                else {"sisome": shard + row / 16, "is_ood": False}
            )
        )
    return pa.Table.from_pylist(rows, schema=SCORED)


def listed(workspace: Workspace, sizes: Sequence[int], prefix: str = "") -> Snapshot:
    writer = SnapshotWriter(Folder(workspace, prefix))
    for number, size in enumerate(sizes):
        item = Listed(f"pool/{number}.tar", None, size, 1, "e")
        writer.add((item,), digest_of(pa.array(ids_of(number, size), pa.string())))
    return writer.close()


def ids_of(shard: int, size: int) -> list[str]:
    return [f"{shard}-{row}" for row in range(size)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(LocalStore(str(tmp_path / "w")))


def merged(found: Snapshot) -> Tally:
    """What the workers would do, here."""
    total = Tally()
    for number, run in enumerate(room._runs(found)):
        total.add(room._merge(run, number, room.FileColumns((), ())))
    return total


def files(workspace: Workspace, below: str) -> dict[str, bytes]:
    return {key: workspace.store.get(key) for key in workspace.keys(below)}


def test_whole_shards_become_two_tables(workspace: Workspace) -> None:
    found = listed(workspace, [3, 2], "r/")
    reason = {"reason": "no bytes", "stage": "decode"}
    write_part(Folder(workspace, "r/"), 0, scored(0, ids_of(0, 3), {1: reason}))
    write_part(Folder(workspace, "r/"), 1, scored(1, ids_of(1, 2)))
    tally = merged(found)
    assert (tally.scored, tally.quarantined, tally.wrong, tally.retry) == (4, 1, {}, [])
    assert tally.reasons == Counter({"no bytes": 1})
    scores = workspace.read_table("r/scores/00000.parquet")
    assert scores.schema.equals(SCORES)
    assert scores["id"].to_pylist() == ["0-0", "0-2", "1-0", "1-1"]
    assert scores["sisome"].to_pylist() == [0.0, 2 / 16, 1.0, 1 + 1 / 16]
    broken = workspace.read_table("r/quarantine/00000.parquet")
    assert broken.schema.equals(QUARANTINE)
    assert broken.to_pylist() == [
        {"id": "0-1", "uri": "u0", "shard": 0, "stage": "decode", "reason": "no bytes", "attempts": 1}
    ]


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=15),
    rows=st.integers(1, 20),
    most=st.integers(1, 5),
)
def test_files_are_few_and_hold_whole_shards(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], rows: int, most: int
) -> None:
    workspace = Workspace(LocalStore(str(tmp_path_factory.mktemp("w"))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "FILE_ROWS", rows)
        patch.setattr(room, "MOST_SHARDS", most)
        runs = [run.numbers.tolist() for run in room._runs(listed(workspace, sizes))]
    assert [number for run in runs for number in run] == list(range(len(sizes)))
    for run in runs:
        assert len(run) <= most
        assert len(run) == 1 or sum(sizes[number] for number in run) <= rows
    for one, other in itertools.pairwise(runs):  # no run could have taken one shard more
        assert len(one) == most or sum(sizes[n] for n in [*one, other[0]]) > rows


def test_the_order_of_writing_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FILE_ROWS", 7)
    sizes = [3, 4, 2, 5, 1]
    made = []
    for name, order in (("a", [0, 1, 2, 3, 4]), ("b", [3, 0, 4, 2, 1])):
        workspace = Workspace(LocalStore(str(tmp_path / name)))
        found = listed(workspace, sizes)
        for number in order:
            bad = {0: {"reason": "truncated PNG"}} if number % 2 else None
            write_part(Folder(workspace), number, scored(number, ids_of(number, sizes[number]), bad))
        merged(found)
        made.append(files(workspace, "scores/") | files(workspace, "quarantine/"))
    assert made[0] == made[1]
    assert [key for key in made[0] if key.startswith("scores/")] == [
        f"scores/{n:05d}.parquet" for n in range(3)
    ]


# -------------------------------------------------------------------------------------- what does not add up

READ = {"reason": "vanished since the pool was listed", "stage": "read"}


@pytest.mark.parametrize(
    ("ids", "bad", "right"),
    [
        (["0-0", "0-1", "0-2"], {}, True),
        (["0-2", "0-0", "0-1"], {}, True),  # which row holds which id is not the account's to know
        (["0-0", "0-1", "0-1"], {}, False),  # twice
        (["0-0", "0-1", "other"], {}, False),
        (["0-0", "0-1"], {}, False),
        (["0-0", "0-1", "0-2", "0-3"], {}, False),
        ([], {}, False),
        (["0-0", "0-1", "0-2"], {2: {"reason": "no bytes"}}, True),
        (["0-0", "0-1", "other"], {2: {"reason": "no bytes"}}, False),
        (
            ["u0:0", "u0:1", "u0:2"],
            dict.fromkeys(range(3), READ),
            True,
        ),  # ids could not be read again: by number
        (["0-0", "u0:1", "u0:2"], dict.fromkeys((1, 2), READ), True),
        (["0-0", "other", "0-2"], {2: READ}, False),  # a row that was not read excuses no foreign id
        (["u0:0", "u0:1"], dict.fromkeys(range(2), READ), False),
        (["u0:0", "u0:1", "u0:2", "u0:3"], dict.fromkeys(range(4), READ), False),
    ],
)
def test_shards_that_do_not_add_up_are_named(
    workspace: Workspace, ids: list[str], bad: dict[int, Bad], right: bool
) -> None:
    found = listed(workspace, [3, 1])
    write_part(Folder(workspace), 0, scored(0, ids, bad))
    write_part(Folder(workspace), 1, scored(1, ids_of(1, 1)))
    tally = merged(found)
    assert bool(tally.wrong) is not right
    if not right:
        assert tally.wrong == {0: f"pool/0.tar: 3 listed, {len(ids) - len(bad)} + {len(bad)} found"}
    assert (tally.scored, tally.quarantined) == (len(ids) - len(bad) + 1, len(bad))


def test_what_an_earlier_attempt_left_in_quarantine_goes(workspace: Workspace) -> None:
    found = listed(workspace, [2])
    write_part(Folder(workspace), 0, scored(0, ids_of(0, 2), {1: READ}))
    merged(found)
    assert workspace.keys("quarantine/") == ["quarantine/00000.parquet"]
    write_part(Folder(workspace), 0, scored(0, ids_of(0, 2)))
    merged(found)
    assert workspace.keys("quarantine/") == []
    assert workspace.read_table("scores/00000.parquet").num_rows == 2


def test_shards_that_storage_failed_are_worth_another_try(workspace: Workspace) -> None:
    found = listed(workspace, [2, 2, 2])
    lost = {"reason": "storage did not answer", "stage": "read", "attempts": 4}
    write_part(Folder(workspace), 0, scored(0, ids_of(0, 2), {0: READ}))
    write_part(Folder(workspace), 1, scored(1, ids_of(1, 2), {0: lost, 1: READ}))
    write_part(Folder(workspace), 2, scored(2, ids_of(2, 2)))
    assert merged(found).retry == [1]


def test_too_much_is_told_with_reasons_and_what_may_heal_is_unfinished_again(
    workspace: Workspace, make_config: MakeConfig
) -> None:
    found = listed(workspace, [2, 2, 2])
    for number in range(3):
        write_part(Folder(workspace), number, scored(number, ids_of(number, 2)))
    tally = Tally(
        scored=1,
        quarantined=5,
        reasons=Counter({"b": 1, "storage did not answer": 2, "no bytes": 2, "a": 1}),
        examples={
            "b": "b: 1",
            "storage did not answer": "storage did not answer",
            "no bytes": "no bytes",
            "a": "a: x",
        },
        retry=[1],
    )
    config = make_config(scoring={"max_quarantined": 0.25})
    error = overflow(found, config, tally, where="quarantine/")
    assert str(error) == (
        "5 of 6 rows are broken, more than scoring.max_quarantined (0.25) tolerates; raise it, or mend the rows that "
        f"{workspace.store.url('quarantine')} names; most often: "
        "no bytes (2, such as 'no bytes'); storage did not answer (2, such as 'storage did not answer'); "
        "a (1, such as 'a: x'); "
        "what storage did not answer for is tried again by the next run"
    )
    assert workspace.keys("parts/") == [scored_part_key(0), scored_part_key(2)]
    calm = overflow(found, make_config(), Tally(quarantined=1), where="parts/")
    assert "tried again" not in str(calm)
    assert len(workspace.keys("parts/")) == 2


def test_reasons_are_counted_by_kind(workspace: Workspace) -> None:
    found = listed(workspace, [3])
    bad = {n: {"reason": reason} for n, reason in enumerate(["broken PNG: x", "broken PNG: y", "no bytes"])}
    write_part(Folder(workspace), 0, scored(0, ids_of(0, 3), bad))
    tally = merged(found)
    assert tally.reasons == Counter({"broken PNG": 2, "no bytes": 1})
    assert tally.examples == {"broken PNG": "broken PNG: x", "no bytes": "no bytes"}
    assert workspace.read_table("scores/00000.parquet").equals(SCORES.empty_table())


def test_tallies_add_up() -> None:
    one = Tally(1, 2, Counter(a=2), {"a": "a: 2"}, {3: "x"}, [3], 1)
    other = Tally(10, 20, Counter(a=1, b=19), {"a": "a: 1", "b": "b"}, {4: "y"}, [4], 2)
    one.add(other)
    assert one == Tally(11, 22, Counter(a=3, b=19), {"a": "a: 1", "b": "b"}, {3: "x", 4: "y"}, [3, 4], 3)


def test_parts_go_when_their_files_are_there(workspace: Workspace) -> None:
    for number in range(3):
        write_part(Folder(workspace, "r/"), number, scored(number, ids_of(number, 2)))
    workspace.write_json("r/account.json", {})
    clear_parts(Folder(workspace, "r/"))
    assert workspace.keys("r/") == ["r/account.json"]
    clear_parts(Folder(workspace, "r/"))  # again, after it was cut short


# ------------------------------------------------------------------------------------------------ metadata


def test_metadata_are_columns_of_both_tables_where_they_are_asked_for(workspace: Workspace) -> None:
    found = listed(workspace, [3, 1])
    facts = [["c1", "2026"], None, ["c2", None]]
    first = scored(0, ids_of(0, 3), {1: {"reason": "no bytes"}})
    first = first.set_column(first.schema.get_field_index("metadata"), FACTS, pa.array(facts, FACTS.type))
    for shard, rows in ((0, first), (1, scored(1, ids_of(1, 1), {0: {"reason": "truncated PNG"}}))):
        write_part(found.folder, shard, rows, metadata=True)
    (run,) = room._runs(found)
    room._merge(run, 0, room.FileColumns((), ("camera", "day")))
    scores = workspace.read_table("scores/00000.parquet")
    assert scores.schema.names == [*SCORES.names, "camera", "day"]
    assert scores.select(["id", "camera", "day"]).to_pylist() == [
        {"id": "0-0", "camera": "c1", "day": "2026"},
        {"id": "0-2", "camera": "c2", "day": None},
    ]
    lost = workspace.read_table("quarantine/00000.parquet")
    assert lost.schema.names == [*QUARANTINE.names, "camera", "day"]
    assert lost.select(["id", "camera"]).to_pylist() == [
        {"id": "0-1", "camera": None},
        {"id": "1-0", "camera": None},
    ]


def test_without_metadata_no_byte_is_another(workspace: Workspace) -> None:
    found = listed(workspace, [2])
    write_part(found.folder, 0, scored(0, ids_of(0, 2)))
    assert workspace.read_table(scored_part_key(0)).schema.equals(PART)
    merged(found)
    assert workspace.read_table("scores/00000.parquet").schema.equals(SCORES)
