"""Names and parameters that MLflow accepts."""

from __future__ import annotations

from pipeline.errors import mask
from pipeline.track.names import MAX_KEY_CHARS, config_params, key
from tests.support.mlflow_records import config_at


def test_keys_are_legal_distinct_and_stable() -> None:
    assert key("labels", "cat") == "labels/cat"
    names = ["a/b", "a_b", "a*b", "a?b", "", ".", "..", "x" * 300, "x" * 301, "y" * 250]
    keys = [key("labels", name) for name in names]
    assert len(set(keys)) == len(names)
    assert all(len(k) <= MAX_KEY_CHARS for k in keys)
    assert [key(*k.split("/")) for k in keys] == keys


def test_config_params_are_flat_and_hold_no_password() -> None:
    params = config_params(config_at("/w", uri="postgresql://ann:s3@cret@db/mlflow"))
    assert params["train/lr"] == "0.1"
    assert params["taxonomy"] == '["cat","dog"]'
    assert params["tracking/uri"] == "postgresql://***@db/mlflow"
    assert mask("see https://u:p@h/x and s3://bucket/key") == "see https://***@h/x and s3://bucket/key"
