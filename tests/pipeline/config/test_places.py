"""Places as people write them: expanded, taken as they stand, or refused with what to write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.config.load import parse
from pipeline.config.places import place
from pipeline.errors import ConfigError

PLAIN = "workspace: w\ntaxonomy: [cat, dog]\npool: {uri: p}\noracle: {kind: people, initial: i}\n"


@pytest.mark.parametrize(
    "text",
    [
        "runs/x",
        "/data/x",
        "s3://bucket/x",
        "s3://bucket",
        "file:///data/x",
        "file://localhost/x",
        "a b#c",
        "50%/x",
    ],
)
def test_places_stand_as_they_are(text: str) -> None:
    assert place(text) == text


def test_the_home_is_filled_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place("~/runs") == f"{tmp_path}/runs"
    assert place("~") == str(tmp_path)
    config = parse(PLAIN, "c.yaml", ["workspace=~/runs", "pool.uri=~/pool"])
    assert (config.workspace, config.pool.uri) == (f"{tmp_path}/runs", f"{tmp_path}/pool")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("~root/x", "write the home of another user as a full path"),
        ("$HOME/x", r"variables such as \$HOME are not filled in"),
        ("s3://b/${USER}", r"variables such as \$\{USER\} are not filled in"),
        ("%TEMP%/x", "variables such as %TEMP% are not filled in"),
        ("C:\\Users\\x", "a path of Windows"),
        ("s3:/bucket/x", "write it with two slashes, s3://"),
        ("file:x", "write it with two slashes, file://"),
        ("file://host/x", "names a machine; write file:///path"),
        ("hdfs+x://bucket/x", "is not known here; use a path or s3://bucket/prefix"),
        ("S3://bucket/x", "is not known here; write s3://"),
        ("http://x", "is not known here"),
        ("s3://KEY:SECRET@bucket/x", "holds no user or password"),
        ("  ", "an empty place"),
    ],
)
@pytest.mark.parametrize("key", ["workspace", "pool.uri"])
def test_what_would_be_another_place_is_refused_with_its_key(key: str, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        parse(PLAIN, "c.yaml", [f"{key}={json.dumps(text)}"])
    assert key in str(refused.value)
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("uri", ["gs://bucket/x", "az://bucket/x", "abfss://bucket/x"])
def test_buckets_elsewhere_are_reached_as_s3(uri: str) -> None:
    with pytest.raises(
        ConfigError, match=r"write s3://BUCKET/PREFIX, set storage\.endpoint to .*AWS_ACCESS_KEY_ID"
    ):
        parse(PLAIN, "c.yaml", [f"pool.uri={uri}"])
    # As the message says.
    config = parse(
        PLAIN, "c.yaml", ["pool.uri=s3://bucket/x", "storage.endpoint=https://storage.googleapis.com"]
    )
    assert config.storage.endpoint == "https://storage.googleapis.com"
