"""URIs and settings of stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.sections import AccessTo, Storage
from pipeline.errors import StorageError
from pipeline.store.opening import open_store


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("gs://bucket/x", "gs:// is not known here"),
        ("s3:///x", "s3://bucket/prefix"),
        ("s3://", "s3://bucket/prefix"),
        ("a\0b", "null byte"),
    ],
)
def test_a_uri_of_another_kind_is_the_users_fault(uri: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        open_store(uri, Storage())


def test_a_path_and_its_file_uri_are_one_place(tmp_path: Path) -> None:
    open_store(str(tmp_path / "a b"), Storage()).put("k", b"1")
    assert open_store(f"file://{tmp_path}/a%20b", Storage()).get("k") == b"1"


@pytest.mark.parametrize(
    ("storage", "environment", "message"),
    [
        ({"endpoint": "localhost:9000"}, {}, "localhost:9000"),
        ({}, {"AWS_PROFILE": "nobody"}, "nobody"),
    ],
)
def test_settings_that_can_not_work_are_the_users_fault(
    s3_account: None,
    monkeypatch: pytest.MonkeyPatch,
    storage: dict[str, str],
    environment: dict[str, str],
    message: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match=message):
        open_store("s3://bucket/x", Storage(**storage)).get("k")


def test_pool_and_workspace_have_an_access_of_their_own(
    s3_bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool is somebody else's and public, the workspace is ours."""
    pool = AccessTo(uri=f"{s3_bucket}/pool", endpoint=s3_endpoint, anonymous=True, region="eu-central-1")
    storage = Storage(endpoint=s3_endpoint, places=(pool,))
    sent: dict[str, str | None] = {}
    for uri in (f"{s3_bucket}/pool/a", f"{s3_bucket}/poolside", f"{s3_bucket}/work"):
        store = open_store(uri, storage)
        store.client.meta.events.register(  # type: ignore[attr-defined]
            "before-send.s3",
            lambda request, uri=uri, **_: sent.update({uri: request.headers.get("Authorization")}),
        )
        try:
            list(store.list())
        except StorageError as error:  # moto has no public buckets unless they are made so
            assert "AccessDenied" in str(error)
    assert sent[f"{s3_bucket}/pool/a"] is None
    assert sent[f"{s3_bucket}/work"] is not None
    assert sent[f"{s3_bucket}/poolside"] is not None
