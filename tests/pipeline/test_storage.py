"""Objects on disk and on S3: what holds for the one holds for the other."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.utils import parse_timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config.sections import Storage
from pipeline.errors import ArtefactMissing, ObjectChanged, StorageError, SystemFault, UserError
from pipeline.store import local as local_store
from pipeline.store.opening import LocalStore, Store, open_store
from pipeline.store.s3_client import moment_of

STRANGE_KEYS = [
    "a b",
    "50%25.parquet",
    "a%2Fb",
    "x#y?z",
    "grüße/猫",
    "a+b&c=d",
    "{'quotes'}",
    "-",
]


def keys(store: Store, prefix: str = "") -> list[str]:
    return [entry.key for entry in store.list(prefix)]


def all_at_once(count: int, job: Callable[[int], bool]) -> list[int]:
    """Run a job in many threads that start together; who said true."""
    gate = threading.Barrier(count)
    winners: list[int] = []

    def one(number: int) -> None:
        gate.wait()
        if job(number):
            winners.append(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return winners


def test_what_is_put_is_got(store: Store) -> None:
    store.put("a/b.bin", b"one")
    assert store.get("a/b.bin") == b"one"
    store.put("a/b.bin", b"")
    assert store.get("a/b.bin") == b""
    assert store.exists("a/b.bin")
    assert [(entry.key, entry.size) for entry in store.list()] == [("a/b.bin", 0)]
    store.delete("a/b.bin")
    assert not store.exists("a/b.bin")
    store.delete("a/b.bin")


@pytest.mark.parametrize("key", STRANGE_KEYS)
def test_keys_of_any_kind_come_back_through_their_uri(store: Store, key: str) -> None:
    store.put("a/b", b"another")
    store.put(key, b"this")
    assert store.get(key) == b"this"
    assert key in keys(store)
    with open_store(store.url(key), Storage()).open("") as file:
        assert file.read() == b"this"


@pytest.mark.parametrize("key", ["../x", "a/../../x", "..", "", "/x", "a//b", "./a", "a/.", "a\0b"])
def test_a_key_does_not_leave_its_store(store: Store, key: str) -> None:
    outside = open_store(f"{store.uri.rpartition('/')[0]}", Storage())
    outside.put("x", b"outside")
    with pytest.raises(StorageError):
        store.put(key, b"inside")
    with pytest.raises((StorageError, ArtefactMissing)):  # S3 takes any text for a key: it is not there
        store.get(key)
    assert outside.get("x") == b"outside"


def test_listing_is_in_the_order_of_the_keys(store: Store) -> None:
    # "-" < "." < "/" < "0": a folder's files stand where its slash puts them.
    want = ["a-b", "a.b", "a/b/c", "a/x", "a0", "ab", "b"]
    for key in reversed(want):
        store.put(key, b"")
    assert keys(store) == want == sorted(want)


@pytest.mark.parametrize(
    ("prefix", "want"),
    [
        ("", ["rounds/000/x", "rounds/001/x", "rounds/001/y/z", "rounds.txt", "scores"]),
        ("rounds", ["rounds/000/x", "rounds/001/x", "rounds/001/y/z", "rounds.txt"]),
        ("rounds/", ["rounds/000/x", "rounds/001/x", "rounds/001/y/z"]),
        ("rounds/00", ["rounds/000/x", "rounds/001/x", "rounds/001/y/z"]),
        ("rounds/001", ["rounds/001/x", "rounds/001/y/z"]),
        ("rounds/001/y", ["rounds/001/y/z"]),
        ("scores", ["scores"]),
        ("scores/", []),
        ("nothing", []),
    ],
)
def test_a_prefix_need_not_be_a_folder(store: Store, prefix: str, want: list[str]) -> None:
    for key in ["rounds/000/x", "rounds/001/x", "rounds/001/y/z", "rounds.txt", "scores"]:
        store.put(key, b"")
    assert sorted(keys(store, prefix)) == sorted(want)
    assert keys(store, prefix) == sorted(keys(store, prefix))


def test_names_with_a_dot_in_front_are_never_listed(store: Store) -> None:
    for key in ["a", ".hidden", "b/.tmp", ".git/config", "b/c.d"]:
        store.put(key, b"")
    assert keys(store) == ["a", "b/c.d"]


def test_an_empty_place_lists_nothing(store: Store) -> None:
    assert keys(store) == []


def test_a_uri_may_name_one_object(store: Store) -> None:
    store.put("folder/one.parquet", b"12345")
    store.put("folder/one.parquet.bak", b"")
    one = open_store(store.url("folder/one.parquet"), Storage())
    assert [(entry.key, entry.size) for entry in one.list()] == [("", 5)]
    assert one.url("") == store.url("folder/one.parquet")
    with one.open("") as file:
        assert file.read() == b"12345"


def test_a_tag_changes_with_the_content(store: Store) -> None:
    store.put("k", b"one")
    data, first = store.get_tagged("k")
    store.put("k", b"two")
    assert data == b"one"
    assert store.get_tagged("k")[1] != first


def test_listed_tags_change_when_an_object_is_replaced(store: Store) -> None:
    store.put("k", b"one")
    (before,) = store.list()
    store.put("k", b"three")
    (after,) = store.list()
    assert before.etag != after.etag
    assert (before.size, after.size) == (3, 5)


def test_a_listed_version_is_read_or_nothing(store: Store) -> None:
    store.put("a/k", b"one")
    (entry,) = store.list()
    assert store.get("a/k", etag=entry.etag) == b"one"
    with store.open("a/k", etag=entry.etag, size=entry.size) as file:
        assert file.read() == b"one"
    store.put("a/k", b"other")
    for read in (
        lambda: store.get("a/k", etag=entry.etag),
        lambda: store.open("a/k", etag=entry.etag),
        lambda: store.open("a/k", size=entry.size),
        lambda: store.open("a/k", etag=entry.etag, size=entry.size).read(),
    ):
        with pytest.raises(ObjectChanged) as raised:
            read()
        assert raised.value.uri == store.url("a/k")
        assert isinstance(raised.value, SystemFault)
    store.delete("a/k")
    with pytest.raises(ArtefactMissing):
        store.get("a/k", etag=entry.etag)
    with pytest.raises(ArtefactMissing):
        store.open("a/k", etag=entry.etag, size=entry.size).read()


@pytest.mark.parametrize("prefix", ["", "a", "a-b", "a/", "a/b", "a/b/c", "a/bb", "a0", "a/z", "b", "c"])
def test_a_listing_has_the_keys_behind_any_prefix_in_order(store: Store, prefix: str) -> None:
    names = ["a-b", "a.b", "a/b/c", "a/x", "a0", "ab", "b"]
    for key in names:
        store.put(key, b"")
    assert keys(store, prefix) == [key for key in names if key.startswith(prefix)]


def test_of_many_that_create_one_wins(store: Store) -> None:
    winners = all_at_once(16, lambda n: store.put_if_absent("k", b"%d" % n))
    assert len(winners) == 1
    assert store.get("k") == b"%d" % winners[0]
    assert keys(store) == ["k"]


def test_of_many_that_replace_one_wins(store: Store) -> None:
    store.put("k", b"before")
    tag = store.get_tagged("k")[1]
    winners = all_at_once(16, lambda n: store.put_if_match("k", b"%d" % n, tag))
    assert len(winners) == 1
    assert store.get("k") == b"%d" % winners[0]


def test_a_replacement_needs_the_tag_that_is_there(store: Store) -> None:
    assert not store.put_if_match("deep/k", b"new", "no-such-tag")
    assert not store.exists("deep/k")
    store.put("deep/k", b"old")
    tag = store.get_tagged("deep/k")[1]
    assert store.put_if_match("deep/k", b"new", tag)
    assert not store.put_if_match("deep/k", b"newer", tag)
    assert store.get("deep/k") == b"new"


def test_parquet_is_read_in_pieces(store: Store) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": range(100), "text": ["x" * 50] * 100}), sink, row_group_size=10)
    store.put("t.parquet", sink.getvalue())
    with store.open("t.parquet") as file:
        assert file.seekable()
        assert pq.ParquetFile(file).read_row_group(3, columns=["n"])["n"].to_pylist() == list(range(30, 40))


def test_an_empty_object_opens(store: Store) -> None:
    store.put("empty", b"")
    with store.open("empty") as file:
        assert file.read() == b""


@pytest.mark.parametrize("missing", ["no", "a/no", "a", "a/b/c"])
def test_what_is_not_there_is_said_with_its_uri(store: Store, missing: str) -> None:
    store.put("a/b", b"")
    for read in (store.get, store.get_tagged, store.open):
        with pytest.raises(ArtefactMissing) as raised:
            read(missing)
        assert raised.value.uri == store.url(missing)
        assert isinstance(raised.value, SystemFault)
    assert not store.exists(missing)


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


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.sets(st.text("ab-./0é", min_size=1, max_size=6), max_size=8),
    prefix=st.text("ab-./0", max_size=4),
)
def test_listing_on_disk_is_filtering_and_sorting(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], prefix: str
) -> None:
    """Against the definition: the keys that start with the prefix, sorted, hidden ones left out."""
    store = LocalStore(str(tmp_path_factory.mktemp("listing")))
    written = []
    for name in sorted(names):
        try:
            store.put(name, b"")
            written.append(name)
        except StorageError:  # not a key, or a folder stands in its place
            continue
    if ".." in prefix.split("/"):
        with pytest.raises(StorageError):
            keys(store, prefix)
        return
    shown = [key for key in written if not any(piece.startswith(".") for piece in key.split("/"))]
    want = sorted(key for key in shown if key.startswith(prefix))
    assert keys(store, prefix) == want


# ---------------------------------------------------------------------------------------------- local only


def test_no_reader_sees_half_an_object(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    sizes = [1, 300_000, 5, 1_000_000]
    store.put("k", b"x" * sizes[0])
    done = threading.Event()
    seen: set[int] = set()

    def read() -> None:
        while not done.is_set():
            data = store.get("k")
            seen.add(len(data))
            assert keys(store) == ["k"]

    reader = threading.Thread(target=read)
    reader.start()
    for size in sizes * 10:
        store.put("k", b"x" * size)
    done.set()
    reader.join()
    assert seen <= set(sizes)


def write_and_die(folder: str) -> None:
    kept = os.fsync

    def killed(number: int) -> None:
        kept(number)
        os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = killed
    LocalStore(folder).put("a/k", b"half")


def test_what_a_killed_writer_leaves_is_not_an_object(tmp_path: Path) -> None:
    writer = multiprocessing.get_context("fork").Process(target=write_and_die, args=(str(tmp_path),))
    writer.start()
    writer.join(30)
    assert writer.exitcode == -signal.SIGKILL
    assert len(list((tmp_path / "a").iterdir())) == 1  # the leftover is there,
    store = LocalStore(str(tmp_path))
    assert keys(store) == keys(store, "a/") == []  # and is nobody's
    assert not store.exists("a/k")
    assert store.put_if_absent("a/k", b"whole")


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemFault, match="No space left"):
        LocalStore(str(tmp_path)).put("k", b"data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["file/k", "file/deep/k", "folder", "n" * 300])
def test_a_place_that_can_not_be_written_is_the_users_fault(tmp_path: Path, key: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError) as raised:
        LocalStore(str(tmp_path)).put(key, b"")
    assert key in str(raised.value)


def test_links_to_files_and_folders_are_followed_and_dead_ones_left_out(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "k").write_bytes(b"1")
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "folder").symlink_to(tmp_path / "real")
    (tmp_path / "pool" / "file").symlink_to(tmp_path / "real" / "k")
    (tmp_path / "pool" / "dead").symlink_to(tmp_path / "nowhere")
    assert keys(LocalStore(str(tmp_path / "pool"))) == ["file", "folder/k"]


def test_links_in_a_circle_end_in_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "k").write_bytes(b"")
    for name in ("one", "two", "three"):  # followed until the system objects, these are 3 ** 40 folders
        (tmp_path / name).symlink_to(tmp_path)
        (tmp_path / "a" / name).symlink_to(tmp_path)
    store = LocalStore(str(tmp_path))
    with pytest.raises(StorageError, match="one: a link that leads to a folder above itself"):
        keys(store)
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    with pytest.raises(StorageError, match="symbolic links"):
        keys(store, "itself")
    assert keys(store, "a/k") == ["a/k"]


def test_names_that_are_no_text_are_listed_as_text_and_not_found(tmp_path: Path) -> None:
    for name in (b"b", b"a\xff.png", b"f\xe9/k", b"a"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"1")
    store = LocalStore(str(tmp_path))
    shown = keys(store)
    assert shown == ["a", "a\\xff.png", "b", "f\\xe9/k"]
    for key in (shown[1], shown[3]):
        key.encode()
        for read in (store.get, store.open):
            with pytest.raises(ArtefactMissing):
                read(key)


# ------------------------------------------------------------------------------------------------- S3 only


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


def test_a_folder_of_many_names_is_sorted_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into memory is sorted on disk: the same listing, whatever fits."""
    names = [f"{(n * 7919) % 5003:04d}" for n in range(3000)]
    names += ["a\nb", "x;y", "0100-", "0100.d", "grüße", "\udcff"]
    for name in names:
        (tmp_path / name).touch()
    for name in ("0100.d-folder", "0200-folder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "in").touch()
    store = LocalStore(str(tmp_path))
    want = list(store.list())
    assert len(want) == len(names) + 2
    assert [entry.key for entry in want] == sorted(entry.key for entry in want)
    for run in (1000, 1001, 3007, 3008, 100_000):
        monkeypatch.setattr(local_store, "RUN", run)
        assert list(store.list()) == want


ROOT = Path(__file__).parents[2]
PEAKS = """
import sys, tracemalloc
from pipeline.store import local as local_store
from pipeline.store.opening import LocalStore

def peak(run):
    local_store.RUN = run
    tracemalloc.start()
    assert sum(1 for _ in LocalStore(sys.argv[1]).list()) == 20_000
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found

peak(1000)  # what is made once
print(peak(1000), peak(1 << 20))
"""


def test_listing_a_folder_of_many_names_takes_the_memory_of_a_run(tmp_path: Path) -> None:
    """In a process of its own: the threads of other tests allocate too."""
    for n in range(20_000):
        (tmp_path / f"{n:060d}").touch()
    child = subprocess.run(
        [sys.executable, "-c", PEAKS, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    in_runs, whole = map(int, child.stdout.split())
    assert in_runs < whole / 2


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
