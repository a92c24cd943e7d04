"""The store on S3: the user's faults, credentials, points of time."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from botocore.utils import parse_timestamp
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.sections import Storage
from pipeline.errors import ArtefactMissing, StorageError, UserError
from pipeline.store.opening import open_store
from pipeline.store.s3 import S3Store
from pipeline.store.s3_client import moment_of


@pytest.mark.s3
@pytest.mark.parametrize("bucket", ["no-such-bucket", "Not_A_Bucket!"])
def test_a_bucket_that_is_not_there_is_the_users_fault(s3_bucket: str, bucket: str) -> None:
    store = open_store(f"s3://{bucket}/x", Storage())
    asks: list[Callable[[], object]] = [
        lambda: store.get("k"),
        lambda: store.put("k", b""),
        lambda: store.put_if_absent("k", b""),
        lambda: store.put_if_match("k", b"", "tag"),
        lambda: list(store.list()),
    ]
    for ask in asks:
        with pytest.raises(StorageError, match=bucket) as raised:
            ask()
        assert isinstance(raised.value, UserError)


@pytest.mark.s3
def test_no_credentials_is_the_users_fault(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="AWS_ACCESS_KEY_ID"):
        open_store(s3_bucket, Storage()).get("k")


@pytest.mark.s3
def test_the_endpoint_may_come_from_the_config(
    s3_bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    store = open_store(s3_bucket, Storage(endpoint=s3_endpoint, region="us-east-1"))
    store.put("k", b"1")
    with store.open("k") as file:
        assert file.read() == b"1"


@pytest.mark.s3
def test_no_secret_travels_in_a_pickle(s3_bucket: str) -> None:
    canary = os.environ["AWS_SECRET_ACCESS_KEY"]
    store = open_store(s3_bucket, Storage())
    store.put("k", b"1")
    with store.open("k"):  # the client is built, and holds the secret
        data = pickle.dumps(store)
    assert canary.encode() not in data
    assert pickle.loads(data).get("k") == b"1"
    with pytest.raises(ArtefactMissing) as raised:
        store.get("missing")
    assert canary.encode() not in pickle.dumps(raised.value)


@given(
    st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1)),
    st.sampled_from([UTC, timezone(timedelta(hours=2))]),
)
def test_points_of_time_are_read_as_boto3_reads_them(when: datetime, zone: timezone) -> None:
    whole = when.replace(microsecond=0, tzinfo=zone)
    told: list[object] = [
        whole.isoformat(),
        format_datetime(whole),
        int(whole.timestamp()),
        str(int(whole.timestamp())),
    ]
    utc = when.replace(microsecond=when.microsecond // 1000 * 1000)
    told += [
        utc.isoformat(timespec="milliseconds") + "Z",
        whole.astimezone(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"),
    ]
    for text in told:
        assert moment_of(text) == parse_timestamp(text), text
        assert moment_of(text).utcoffset() == parse_timestamp(text).utcoffset()


@pytest.mark.s3
def test_an_empty_object_may_stand_for_a_folder(s3_bucket: str) -> None:
    """Some tools write `pool` beside `pool/...`; other ones `pool/`."""
    whole = open_store(s3_bucket, Storage())
    assert isinstance(whole, S3Store)
    whole.put("pool/a.png", b"1")
    whole.put("pool/b.png", b"2")
    whole.put("pool-2/c.png", b"3")
    for uri in (f"{s3_bucket}/pool", f"{s3_bucket}/pool/"):
        pool = open_store(uri, Storage())
        assert [entry.key for entry in pool.list()] == ["a.png", "b.png"]
        for marker in ("pool", "pool/"):
            whole.client.put_object(Bucket=whole.bucket, Key=whole.prefix + marker, Body=b"")
            assert [entry.key for entry in pool.list()] == ["a.png", "b.png"]
        whole.client.delete_object(Bucket=whole.bucket, Key=f"{whole.prefix}pool")
        whole.client.delete_object(Bucket=whole.bucket, Key=f"{whole.prefix}pool/")


@pytest.mark.s3
def test_an_empty_object_that_stands_alone_is_an_object(s3_bucket: str) -> None:
    whole = open_store(s3_bucket, Storage())
    whole.put("pool-2/c.png", b"3")
    for data in (b"", b"x"):
        whole.put("pool", data)
        (entry,) = open_store(f"{s3_bucket}/pool", Storage()).list()
        assert (entry.key, entry.size) == ("", len(data))
