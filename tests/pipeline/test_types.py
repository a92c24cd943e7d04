"""The pipeline's values: shards, and schemas that build on each other."""

from __future__ import annotations

from pipeline.types import EXTRAS, LABEL_STATUSES, PART, SCORED, SCORES, TOGETHER, Listed, Shard


def listed(uri: str, row_group: int | None = None, rows: int = 1) -> Listed:
    return Listed(uri, row_group, rows, 10, "tag")


def test_a_shard_counts_its_rows_and_says_where_it_is() -> None:
    group = Shard(3, (listed("a.parquet", 2, 40),))
    assert (group.rows, group.place) == (40, "a.parquet#2")
    images = Shard(4, (listed("a.png"), listed("b.png"), listed("c.png")))
    assert (images.rows, images.place) == (3, "a.png and 2 more")
    assert Shard(5, (listed("a.tar", None, 7),)).place == "a.tar"


def test_score_files_are_a_part_of_what_a_shard_leaves() -> None:
    for schema in (PART, TOGETHER):
        assert [schema.field(name) for name in SCORES.names] == list(SCORES)
    assert [PART.field(name) for name in EXTRAS.names] == list(EXTRAS)
    assert SCORED.names == [*PART.names, "metadata", "features"]


def test_an_answer_is_one_of_four_kinds() -> None:
    assert LABEL_STATUSES == ("labeled", "unknown-class", "out-of-world", "skipped")
