"""Names that leave things out, and folders that tell metadata."""

from __future__ import annotations

import pytest

from pipeline.pool.inventory.names import by_ending, folder_values, hidden, no_data


@pytest.mark.parametrize(
    ("key", "folder"),
    [
        ("_delta_log/00000000000000000010.checkpoint.parquet", "_delta_log"),
        ("t/_temporary/0/attempt_0/part-0.parquet", "_temporary"),
        ("x/__MACOSX/a.png", "__MACOSX"),
        ("_new/a.png", None),
        ("_temporary", None),  # a file of that name is judged by its end
        ("my_temporary/a.png", None),
        ("a.png", None),
    ],
)
def test_folders_of_notes_and_of_work_in_progress_hold_no_data(key: str, folder: str | None) -> None:
    assert no_data(key) == folder


@pytest.mark.parametrize("name", ["./a.png", "../a.png", "a..png", "x/a.b/c.png", "_a.png"])
def test_dots_that_lead_somewhere_hide_nothing(name: str) -> None:
    assert hidden(name) is None


def test_endings_that_are_none_make_no_kinds() -> None:
    found = [by_ending("members", f"a.{'x' * n}") for n in range(12)]
    assert len(set(found)) == 9  # of eight letters at most, and the rest
    assert by_ending("objects", "x.y/a") == "objects of no known ending"
    assert by_ending("objects", "x/a.TXT") == "objects that end in .txt"


@pytest.mark.parametrize(
    ("uri", "values"),
    [
        ("s3://b/camera=3/day=2026-01-31/a.png", ("3", "2026-01-31")),
        ("s3://b/camera=3/camera=4/a.png", ("4", None)),
        ("s3://b/camera=a%2Fb/day=/a.png", ("a/b", None)),
        ("s3://b/camera=__HIVE_DEFAULT_PARTITION__/a.png", (None, None)),
        ("s3://b/a.png", (None, None)),
        ("s3://b/camera=3", (None, None)),  # an object, and no folder
        ("s3://b/camera=x=y/a.png", ("x=y", None)),
    ],
)
def test_folders_tell_metadata(uri: str, values: tuple[str | None, ...]) -> None:
    assert folder_values(uri, ("camera", "day")) == values
