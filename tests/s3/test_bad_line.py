"""The store over a line that breaks answers by chance, and over one that never gets better."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.sections import Storage
from pipeline.errors import StoreUnavailable
from pipeline.store.s3 import S3Store
from tests.s3.conftest import fill
from tests.support.fault_proxy import FaultProxy, Kind, Rule

KINDS: tuple[Kind, ...] = ("503", "500", "reset", "slow", "truncate", "lost")


def work(store: S3Store) -> None:
    """Some of everything that the store does; asserts what came of it."""
    contents = {f"k{n:02d}": random.Random(n).randbytes(2000 * n) for n in range(30)}
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(store.put, contents, contents.values()))
        assert dict(zip(contents, threads.map(store.get, contents), strict=True)) == contents
    assert [(entry.key, entry.size) for entry in store.list()] == [(k, len(v)) for k, v in contents.items()]
    sink = io.BytesIO()
    table = pa.table({"n": range(5000), "text": [f"{n}" * 40 for n in range(5000)]})
    pq.write_table(table, sink, row_group_size=500)
    store.put("t.parquet", sink.getvalue())
    with store.open("t.parquet") as file:
        assert pq.read_table(file).equals(table)
    assert store.put_if_absent("lease", b"one")
    assert not store.put_if_absent("lease", b"two")
    data, tag = store.get_tagged("lease")
    assert data == b"one"
    assert store.put_if_match("lease", b"three", tag)
    assert not store.put_if_match("lease", b"four", tag)
    assert store.get("lease") == b"three"


@pytest.mark.parametrize("share", [0.05, 0.2])
@pytest.mark.parametrize("kind", KINDS)
def test_work_over_a_bad_line_comes_out_right(
    over: S3Store, line: FaultProxy, hasty: None, kind: Kind, share: float
) -> None:
    line.rules = [Rule(kind, share=share, seconds=0.02)]
    work(over)
    assert 0 < line.faults[kind] < sum(line.requests.values()) / 2


def test_work_over_a_line_with_all_faults_comes_out_right(
    over: S3Store, line: FaultProxy, hasty: None
) -> None:
    line.rules = [Rule(kind, share=0.05, seconds=0.02) for kind in KINDS]
    work(over)
    assert set(line.faults) == set(KINDS)


def test_a_listing_of_many_pages_survives(over: S3Store, line: FaultProxy, hasty: None) -> None:
    keys = [f"{n:04d}" for n in range(2500)]
    fill(over, keys)
    line.rules = [Rule(kind, share=0.1) for kind in ("503", "500", "reset", "truncate")]
    assert [entry.key for entry in over.list()] == keys


ASKS: dict[str, Callable[[S3Store], Any]] = {
    "get": lambda store: store.get("k"),
    "open": lambda store: store.open("k"),
    "read": lambda store: store.open("k", etag="tag", size=10).read(),
    "parquet": lambda store: pq.ParquetFile(store.open("k", etag="tag", size=1000)),
    "list": lambda store: list(store.list()),
    "put": lambda store: store.put("k", b"1"),
    "put_if_absent": lambda store: store.put_if_absent("k", b"1"),
    "exists": lambda store: store.exists("k"),
    "delete": lambda store: store.delete("k"),
}


@pytest.mark.parametrize(
    ("ask", "kind"), [*((ask, "503") for ask in ASKS), ("get", "reset"), ("list", "500")]
)
def test_a_fault_that_never_ends_is_told_with_its_attempts(
    over: S3Store, line: FaultProxy, hasty: None, ask: str, kind: Kind
) -> None:
    line.rules = [Rule(kind)]
    with pytest.raises(StoreUnavailable) as raised:
        ASKS[ask](over)
    assert raised.value.attempts == 8
    assert sum(line.requests.values()) == line.faults[kind] == 8
    assert pickle.loads(pickle.dumps(raised.value)).attempts == 8


def test_an_answer_that_never_comes_whole_is_told_too(over: S3Store, line: FaultProxy, hasty: None) -> None:
    over.put("k", b"0123456789")
    line.rules = [Rule("truncate", method="GET")]
    for ask in (lambda: over.get("k"), lambda: over.open("k")):
        with pytest.raises(StoreUnavailable) as raised:
            ask()
        assert raised.value.attempts == 8


def test_the_same_seed_breaks_the_same_requests(s3: S3Store, s3_endpoint: str, hasty: None) -> None:
    counts = []
    for seed in (1, 1, 2, 3):
        with FaultProxy(s3_endpoint, [Rule("503", share=0.3)], seed=seed) as line:
            store = S3Store(s3.uri, Storage(endpoint=line.url))
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(store.put, map(str, range(40)), itertools.repeat(b"")))
        counts.append(line.faults["503"])
    assert counts[0] == counts[1]
    assert len(set(counts)) > 1


def test_the_proxy_stands_alone(s3: S3Store, s3_endpoint: str) -> None:
    command = [sys.executable, "-m", "tests.support.fault_proxy", s3_endpoint, "503=0.5", "--seed", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        store = S3Store(s3.uri, Storage(endpoint=process.stdout.readline().strip()))
        for n in range(5):
            store.put(f"{n}", b"1")
        process.send_signal(signal.SIGINT)
        assert "'503'" in process.stdout.read()
    assert process.returncode == 0
    assert len(list(s3.list())) == 5
