"""Who may speak to S3, and where credentials come from."""

from __future__ import annotations

import pickle

import pytest
from pydantic import ValidationError

from pipeline.config.sections import Storage
from pipeline.errors import StorageError
from pipeline.store.s3 import S3Store
from tests.s3.conftest import GATEWAY

signed = pytest.mark.skipif(not GATEWAY, reason="moto checks no signatures; make test-s3 does")


@signed
@pytest.mark.parametrize(
    ("name", "code"),
    [("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"), ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId")],
)
def test_wrong_credentials_are_the_users_fault(
    s3: S3Store, monkeypatch: pytest.MonkeyPatch, name: str, code: str
) -> None:
    s3.put("k", b"1")
    monkeypatch.setenv(name, "wrong-5f2a")
    for ask in (
        lambda: s3.get("k"),
        lambda: s3.open("k"),
        lambda: s3.put("k", b""),
        lambda: s3.put_if_absent("k", b""),
        lambda: list(s3.list()),
    ):
        with pytest.raises(StorageError, match=code) as raised:
            ask()
        assert "wrong-5f2a" not in str(raised.value)


@signed
def test_without_a_signature_what_is_private_stays_so(s3: S3Store) -> None:
    s3.put("k", b"1")
    nobody = S3Store(s3.uri, Storage(anonymous=True))
    for ask in (lambda: nobody.get("k"), lambda: nobody.put("k", b""), lambda: list(nobody.list())):
        with pytest.raises(StorageError, match="AccessDenied"):
            ask()


@pytest.mark.parametrize("how", ["config", "variable"])
def test_what_is_public_needs_no_credentials(s3: S3Store, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    s3.client.put_bucket_acl(Bucket=s3.bucket, ACL="public-read")
    s3.client.put_object(Bucket=s3.bucket, Key=f"{s3.prefix}k", Body=b"1", ACL="public-read")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="no AWS credentials"):
        s3.get("k")
    if how == "variable":
        monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "true")
    anyone = S3Store(s3.uri, Storage(anonymous=how == "config"))
    (entry,) = anyone.list()
    assert anyone.get("k", etag=entry.etag) == b"1"
    with anyone.open("k") as file:
        assert file.read() == b"1"


def test_credentials_are_found_under_the_names_that_the_config_gives(
    s3: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "canary-d41d8cd98f"
    monkeypatch.setenv("POOL_KEY", "test")
    monkeypatch.setenv("POOL_SECRET", secret)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another account's")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another account's")
    store = S3Store(s3.uri, Storage(access_key_env="POOL_KEY", secret_key_env="POOL_SECRET"))
    store.put("k", b"1")
    assert store.get("k") == b"1"
    assert secret.encode() not in pickle.dumps(store)
    assert secret not in repr(store)
    assert pickle.loads(pickle.dumps(store)).get("k") == b"1"
    monkeypatch.delenv("POOL_SECRET")
    with pytest.raises(StorageError, match="POOL_SECRET"):
        store.get("k")


@pytest.mark.parametrize(
    "storage",
    [
        {"access_key_env": "A"},
        {"secret_key_env": "A"},
        {"anonymous": True, "access_key_env": "A", "secret_key_env": "B"},
    ],
)
def test_half_a_pair_or_two_ways_in_are_refused(storage: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="access_key_env and secret_key_env"):
        Storage(**storage)  # type: ignore[arg-type]
