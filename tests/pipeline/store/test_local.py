"""The store on disk: links, odd names, killed writers, folders of many names."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import ArtefactMissing, ObjectChanged, StorageError, SystemFault
from pipeline.store import local as local_store
from pipeline.store.opening import LocalStore, Store


def keys(store: Store, prefix: str = "") -> list[str]:
    return [entry.key for entry in store.list(prefix)]


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
    writer.join()
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


ROOT = Path(__file__).parents[3]


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


@pytest.mark.slow
def test_listing_a_folder_of_many_names_takes_the_memory_of_a_run(tmp_path: Path) -> None:
    """In a process of its own: the threads of other tests allocate too."""
    for n in range(20_000):
        (tmp_path / f"{n:060d}").touch()
    child = subprocess.run(
        [sys.executable, "-c", PEAKS, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    in_runs, whole = map(int, child.stdout.split())
    assert in_runs < whole / 2


def test_pipes_sockets_and_devices_are_no_objects(tmp_path: Path) -> None:
    """A pipe would keep its reader waiting for ever; a device would never end."""
    (tmp_path / "a.png").write_bytes(b"1")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as one:
        one.bind(str(tmp_path / "socket.png"))
    store = LocalStore(str(tmp_path))
    assert keys(store) == ["a.png"]
    for key in ("pipe.png", "zero.png", "socket.png"):
        with pytest.raises(ArtefactMissing):
            store.get(key)
    assert list(LocalStore(str(tmp_path / "pipe.png")).list()) == []


def test_an_object_that_has_grown_is_not_read_at_all(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    store.put("k", b"1")
    (entry,) = store.list()
    with (tmp_path / "k").open("r+b") as file:
        file.truncate(1 << 40)  # a hole that no memory holds
    with pytest.raises(ObjectChanged):
        store.get("k", etag=entry.etag)
