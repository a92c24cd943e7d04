"""What is particular to S3: pages, parts, versions, ranges, and keys that no disk could hold."""

from __future__ import annotations

import io
import itertools
import os
import random
import tarfile

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from pipeline.cluster.joining import storage_environment
from pipeline.config.sections import Storage
from pipeline.errors import ObjectChanged, StorageError
from pipeline.store import s3 as s3_store
from pipeline.store.opening import open_store
from pipeline.store.s3 import S3Store
from tests.s3.conftest import fill
from tests.support.fault_proxy import FaultProxy, Kind, Rule


def parquet(groups: int = 10, rows: int = 200) -> bytes:
    draw = random.Random(0)
    total = groups * rows
    images = [draw.randbytes(1000) for _ in range(total)]
    table = pa.table({"id": [f"{n}" for n in range(total)], "note": ["-" * 40] * total, "image": images})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=rows)
    return sink.getvalue()


@pytest.mark.slow
def test_ten_thousand_keys_come_in_order_a_page_at_a_time(over: S3Store, line: FaultProxy) -> None:
    shuffled = [f"{n % 7}/{n:05d}-é" for n in range(10_000)]
    random.Random(0).shuffle(shuffled)
    fill(over, shuffled)
    line.requests.clear()
    entries = over.list()
    first = [entry.key for entry in itertools.islice(entries, 1000)]
    assert line.requests["GET"] == 2  # whether the URI names one object, and a page
    assert first + [entry.key for entry in entries] == sorted(shuffled)
    assert line.requests["GET"] == 11

    assert [entry.key for entry in over.list("3/0999")] == ["3/09992-é", "3/09999-é"]


@pytest.mark.parametrize(
    "key", ["a//b.png", "/x.png", "//", "./x.png", "a/../b.png", "..", "a/./b", "a b+c%20"]
)
def test_keys_that_no_disk_holds_are_listed_and_read(s3: S3Store, key: str) -> None:
    name = f"{key}/k.png" if key.endswith("/") else key
    s3.client.put_object(Bucket=s3.bucket, Key=s3.prefix + name, Body=b"what others wrote")
    (entry,) = s3.list()
    assert entry.key == name
    assert s3.get(name, etag=entry.etag) == b"what others wrote"
    one = open_store(s3.url(name), Storage())
    assert [found.key for found in one.list()] == [""]
    assert one.get("", etag=entry.etag) == b"what others wrote"
    for store, at in ((s3, name), (one, "")):
        with store.open(at, etag=entry.etag, size=entry.size) as file:
            assert file.read() == b"what others wrote"


def test_a_bucket_may_hold_keys_that_begin_with_a_slash(s3_bucket: str) -> None:
    bucket = S3Store(s3_bucket, Storage())
    bucket.client.put_object(Bucket=bucket.bucket, Key="/x", Body=b"1")
    assert [entry.key for entry in bucket.list()] == ["/x"]
    assert open_store(bucket.url("/x"), Storage()).get("") == b"1"


def test_an_open_file_never_shows_two_versions(s3: S3Store) -> None:
    s3.put("k", b"1" * 1_000_000)
    with s3.open("k") as file:
        assert file.read_at(10, 0) == b"1" * 10
        s3.put("k", b"2" * 1_000_000)
        with pytest.raises(ObjectChanged):
            file.read_at(10, 500_000)


def test_parquet_over_a_changed_object_says_so(s3: S3Store) -> None:
    s3.put("t.parquet", parquet())
    (entry,) = s3.list()
    file = pq.ParquetFile(s3.open("t.parquet", etag=entry.etag, size=entry.size))
    s3.put("t.parquet", parquet(groups=9))
    with pytest.raises(ObjectChanged):
        file.read_row_group(0)


def test_parquet_takes_few_requests_and_no_head(over: S3Store, line: FaultProxy) -> None:
    data = parquet()
    over.put("t.parquet", data)
    (entry,) = over.list()
    line.requests.clear()
    with over.open("t.parquet", etag=entry.etag, size=entry.size) as file:
        read = pq.ParquetFile(file).read_row_group(3, columns=["id", "image"])
    assert read["id"].to_pylist() == [str(n) for n in range(600, 800)]
    assert read.equals(pq.ParquetFile(io.BytesIO(data)).read_row_group(3, columns=["id", "image"]))
    assert dict(line.requests) == {"GET": 2}  # the footer, and the row group


def test_a_tar_is_streamed_in_large_pieces(over: S3Store, line: FaultProxy) -> None:
    draw, sink = random.Random(0), io.BytesIO()
    members = {f"{n:04d}.bin": draw.randbytes(draw.randrange(1000, 60_000)) for n in range(650)}
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    over.put("t.tar", sink.getvalue())
    (entry,) = over.list()
    for whole in (True, False):  # with the members' bytes, and headers alone
        line.requests.clear()
        found = {}
        with (
            over.open("t.tar", etag=entry.etag, size=entry.size) as file,
            tarfile.open(fileobj=file, mode="r:") as tar,
        ):
            for info in tar:
                member = tar.extractfile(info)
                assert member is not None
                found[info.name] = member.read() if whole else members[info.name]
        assert found == members
        assert dict(line.requests) == {"GET": 8}  # 0.25 MiB, twice as much each time, up to 4 MiB: 20 MB


@pytest.mark.parametrize("size", [0, 1, 1000, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, 700_000])
def test_reads_at_random_are_those_of_the_bytes(s3: S3Store, size: int) -> None:
    draw = random.Random(size)
    data = draw.randbytes(size)
    s3.put("k", data)
    (entry,) = s3.list()
    pinned = {"etag": entry.etag, "size": entry.size}
    for how in ({}, pinned):
        with s3.open("k", **how) as file:  # type: ignore[arg-type]
            assert file.size() == size
            for _ in range(30):
                at, count = draw.randrange(size + 10), draw.randrange(size + 10)
                file.seek(at)
                assert file.read(count) == data[at : at + count]
                assert file.tell() == max(at, min(at + count, size))
            file.seek(0)
            assert file.read() == data


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """The size of an object of three parts, the last of which is short."""
    monkeypatch.setattr(s3_store, "WHOLE", 6 << 20)
    monkeypatch.setattr(s3_store, "PART", 5 << 20)  # the least that S3 takes
    return (10 << 20) + 5


def test_large_objects_go_in_parts_and_come_back_whole(
    over: S3Store, line: FaultProxy, small_parts: int
) -> None:
    for size, requests in ((6 << 20, {"PUT": 1}), (small_parts, {"POST": 2, "PUT": 3})):
        data = random.Random(0).randbytes(size)
        line.requests.clear()
        over.put("large", data)
        assert dict(line.requests) == requests
        (entry,) = over.list()
        assert entry.size == size
        assert over.get("large", etag=entry.etag) == data


def test_an_upload_that_fails_leaves_nothing(
    over: S3Store, line: FaultProxy, small_parts: int, hasty: None
) -> None:
    over.put("k", b"before")
    line.rules = [Rule("503", method="PUT", holds="partNumber=2")]
    with pytest.raises(Exception, match="does not answer"):
        over.put("k", b"x" * small_parts)
    assert over.get("k") == b"before"
    assert "Uploads" not in over.client.list_multipart_uploads(Bucket=over.bucket)


@pytest.mark.parametrize("kind", ["reset", "500", "lost"])
def test_an_upload_survives_a_broken_start_part_or_end(
    over: S3Store, line: FaultProxy, small_parts: int, kind: Kind
) -> None:
    data = random.Random(1).randbytes(small_parts)
    line.rules = [Rule(kind, holds=text, first=1) for text in ("uploads", "partNumber=2", "uploadId")]
    over.put("k", data)
    assert sum(line.faults.values()) >= 3
    assert over.get("k") == data
    assert [entry.key for entry in over.list()] == ["k"]


def test_a_write_of_a_key_that_no_disk_holds_is_refused(s3: S3Store) -> None:
    for key in ("a//b", "../x", "./x", "/x"):
        for write in (s3.put, s3.put_if_absent, lambda k, d: s3.put_if_match(k, d, "tag")):
            with pytest.raises(StorageError, match="not a key"):
                write(key, b"")


def test_the_filesystems_that_ray_builds_write_here_too(
    s3: S3Store, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints go through Arrow's client, whose bodies of no stated length Ceph's gateway refuses."""
    for name in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in storage_environment(Storage(endpoint=s3_endpoint)).items():
        monkeypatch.setenv(name, value)
    theirs = pyarrow.fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"])
    for size in (10, 12 << 20):
        with theirs.open_output_stream(f"{s3.bucket}/{s3.prefix}theirs") as file:
            file.write(b"1" * size)
        assert s3.get("theirs") == b"1" * size


def test_an_empty_object_beside_a_folder_of_its_name_is_no_pool(s3_bucket: str) -> None:
    store = open_store(f"{s3_bucket}/pool", Storage())
    above = open_store(s3_bucket, Storage())
    above.put("pool", b"")
    assert [entry.key for entry in store.list()] == [""], "alone it is what the URI names"
    store.put("a.png", b"1")
    for uri in (f"{s3_bucket}/pool", f"{s3_bucket}/pool/"):
        assert [entry.key for entry in open_store(uri, Storage()).list()] == ["a.png"]
    above.put("pool", b"content")
    assert [entry.key for entry in store.list()] == [""], "an object with content is meant"
