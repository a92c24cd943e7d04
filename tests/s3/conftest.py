"""The same tests against moto in the default suite and against Ceph's gateway in `make test-s3`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.sections import Storage
from pipeline.store.s3 import S3Store
from pipeline.store.s3_client import PATIENCE
from tests.support.fault_proxy import FaultProxy

GATEWAY = bool(os.environ.get("SISOM_S3_ENDPOINT"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.s3)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same number of attempts, without the waits between them."""
    monkeypatch.setattr(PATIENCE, "sleep", lambda seconds: None)


@pytest.fixture
def s3(s3_bucket: str) -> S3Store:
    """A store below a prefix of an empty bucket."""
    return S3Store(f"{s3_bucket}/some place", Storage())


@pytest.fixture
def line(s3_endpoint: str) -> Iterator[FaultProxy]:
    """A line to the server that breaks nothing until it is given rules, and counts."""
    with FaultProxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def over(s3: S3Store, line: FaultProxy) -> S3Store:
    """The same store over that line."""
    return S3Store(s3.uri, Storage(endpoint=line.url))


def fill(store: S3Store, keys: list[str]) -> None:
    """Many small objects: by requests on a real server, straight into moto's memory else."""
    if GATEWAY:
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda key: store.put(key, key.encode()), keys))
    else:
        from moto.s3.models import s3_backends

        backend: Any = s3_backends["123456789012"]["aws"]
        for key in keys:
            backend.put_object(store.bucket, store.prefix + key, key.encode())
