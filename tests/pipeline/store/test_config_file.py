"""Configs that lie on S3."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.load import MAX_CONFIG_BYTES, load
from pipeline.config.sections import Storage
from pipeline.errors import ConfigError, StorageError
from pipeline.store.config_file import config_text, load_config
from pipeline.store.opening import open_store
from pipeline.studies.kinds import load_study

pytestmark = pytest.mark.s3

PLAIN = b"workspace: w\ntaxonomy: [cat, dog]\npool: {uri: p}\noracle: {kind: people, initial: i}\n"


def test_a_config_on_s3_is_one_on_disk(s3_bucket: str, tmp_path: Path) -> None:
    open_store(s3_bucket, Storage()).put("a b/c.yaml", PLAIN)
    (tmp_path / "c.yaml").write_bytes(PLAIN)
    sets = ["query.size=7"]
    there, here = f"{s3_bucket}/a b/c.yaml", tmp_path / "c.yaml"
    assert load_config(there, sets) == load_config(here, sets) == load(here, sets)


def test_it_is_read_with_the_storage_that_overrides_name(
    s3_bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(s3_bucket, Storage()).put("c.yaml", PLAIN)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("OUR_KEY", "test")
    monkeypatch.setenv("OUR_SECRET", "canary-d41d8cd98f")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    sets = [
        f"storage.endpoint={s3_endpoint}",
        "storage.access_key_env=OUR_KEY",
        "storage.secret_key_env=OUR_SECRET",
    ]
    config = load_config(f"{s3_bucket}/c.yaml", [*sets, "rounds=3"])
    assert (config.storage.endpoint, config.rounds) == (s3_endpoint, 3)
    with pytest.raises(ConfigError, match="--set storage: endpint: unknown key; did you mean endpoint"):
        load_config(f"{s3_bucket}/c.yaml", ["storage.endpint=x"])


@pytest.mark.parametrize("load_one", [load_config, load_study])
def test_what_is_no_config_is_told_with_its_place(s3_bucket: str, load_one: object) -> None:
    store = open_store(s3_bucket, Storage())
    store.put("large.yaml", b"#" * (MAX_CONFIG_BYTES + 1))
    store.put("latin.yaml", b"workspace: caf\xe9\n")
    store.put("list.yaml", b"- a\n")
    for name, message in (
        ("none.yaml", "no such object"),
        ("large.yaml", "too large for a config"),
        ("latin.yaml", "cannot be read"),
        ("list.yaml", "expected `key: value` lines"),
    ):
        with pytest.raises(ConfigError, match=f"{s3_bucket}/{name}: {message}"):
            load_one(f"{s3_bucket}/{name}")  # type: ignore[operator]
    with pytest.raises(StorageError, match="NoSuchBucket"):
        config_text("s3://no-such-bucket-here/c.yaml")
