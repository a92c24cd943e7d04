"""Objects under a URI, on local disk or S3 alike: whole-object atomic writes and two conditional ones.

`open_store(uri, storage)` gives a `Store`. Stores travel to workers by URI and endpoint alone: credentials are
found again there by the standard AWS variables, and never enter a pickle.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.fs
import tenacity

from pipeline.config import Storage
from pipeline.errors import ArtefactMissing, StorageError, StoreUnavailable


@dataclass(frozen=True)
class Entry:
    """One listed object: its key below the store's URI, its size in bytes and its version tag."""

    key: str
    size: int
    etag: str


class Store(Protocol):
    """Objects by key. Writes are atomic: an object is there whole, or not at all."""

    @property
    def uri(self) -> str:
        """Where the objects are."""

    def get(self, key: str) -> bytes:
        """The object's bytes; `ArtefactMissing` without it."""

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """The object's bytes and the tag that `put_if_match` wants."""

    def put(self, key: str, data: bytes) -> None:
        """Write, replacing what is there."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless the object exists; true when this call wrote it."""

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        """Replace the object if its tag is still `etag`; true when this call wrote it."""

    def exists(self, key: str) -> bool:
        """Whether the object is there."""

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All objects whose key starts with `prefix`, in the order of their keys."""

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens without it."""

    def open(self, key: str) -> pa.NativeFile:
        """The object for random access, so that Parquet reads only what it needs."""

    def url(self, key: str) -> str:
        """The full URI of a key."""


# -------------------------------------------------------------------------------------------------- local


@dataclass(frozen=True)
class LocalStore:
    """A directory. Names that start with a dot are its own and are never listed."""

    uri: str

    @property
    def root(self) -> Path:
        """The directory."""
        return Path(self.uri)

    def path(self, key: str) -> Path:
        """Where a key lies; a key can't leave the directory."""
        if not key or key.startswith("/") or ".." in key.split("/"):
            raise StorageError(f"{key!r} is not a key below {self.uri}")
        return self.root / key

    def get(self, key: str) -> bytes:
        try:
            return self.path(key).read_bytes()
        except FileNotFoundError:
            raise _missing(self.url(key)) from None

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        data = self.get(key)
        return data, hashlib.sha256(data).hexdigest()

    def _staged(self, target: Path, data: bytes) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
        with staged.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return staged

    def put(self, key: str, data: bytes) -> None:
        target = self.path(key)
        self._staged(target, data).replace(target)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        target = self.path(key)
        staged = self._staged(target, data)
        try:
            os.link(staged, target)  # unlike rename, fails when the target exists
        except FileExistsError:
            return False
        finally:
            staged.unlink()
        return True

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        target = self.path(key)
        with (target.parent / f".{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.suppress(ArtefactMissing):
                if self.get_tagged(key)[1] == etag:
                    self.put(key, data)
                    return True
        return False

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def list(self, prefix: str = "") -> Iterator[Entry]:
        if self.root.is_file():  # a URI may name one object
            stat = self.root.stat()
            yield Entry("", stat.st_size, _local_etag(stat))
            return
        folder = self.root / prefix if (self.root / prefix).is_dir() else (self.root / prefix).parent
        for directory, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                path = Path(directory, name)
                key = path.relative_to(self.root).as_posix()
                if not name.startswith(".") and key.startswith(prefix):
                    stat = path.stat()
                    yield Entry(key, stat.st_size, _local_etag(stat))

    def delete(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def open(self, key: str) -> pa.NativeFile:
        path = self.path(key) if key else self.root
        try:
            return pa.memory_map(str(path)) if path.stat().st_size else pa.BufferReader(b"")
        except FileNotFoundError:
            raise _missing(self.url(key)) from None

    def url(self, key: str) -> str:
        return f"{self.uri}/{key}" if key else self.uri


def _local_etag(stat: os.stat_result) -> str:
    return f"{stat.st_mtime_ns:x}-{stat.st_size:x}"


# ----------------------------------------------------------------------------------------------------- S3

# Truncated bodies and resets surface while the body is read, where boto3 itself no longer retries.
_patient = tenacity.retry(
    retry=tenacity.retry_if_exception_type(StoreUnavailable),
    stop=tenacity.stop_after_attempt(6),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
    reraise=True,
)


@dataclass(frozen=True)
class S3Store:
    """Objects below `s3://bucket/prefix`."""

    uri: str
    endpoint: str | None = None
    region: str | None = None

    def __getstate__(self) -> dict[str, Any]:  # the client holds sockets and credentials: not in a pickle
        return {"uri": self.uri, "endpoint": self.endpoint, "region": self.region}

    @cached_property
    def bucket(self) -> str:
        """The bucket's name."""
        return urlparse(self.uri).netloc

    @cached_property
    def prefix(self) -> str:
        """Key prefix below the bucket, ending in a slash unless empty."""
        path = unquote(urlparse(self.uri).path).strip("/")
        return f"{path}/" if path else ""

    @cached_property
    def client(self) -> Any:
        """The boto3 client of this process."""
        import boto3
        from botocore.config import Config as BotoConfig

        with _client_lock:  # building clients is the one thing in boto3 that threads may not share
            return boto3.session.Session().client(
                "s3",
                endpoint_url=self.endpoint,
                region_name=self.region,
                config=BotoConfig(
                    retries={"mode": "standard", "max_attempts": 6},
                    connect_timeout=10,
                    read_timeout=60,
                    max_pool_connections=32,
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )

    def get(self, key: str) -> bytes:
        return self.get_tagged(key)[0]

    @_patient
    def get_tagged(self, key: str) -> tuple[bytes, str]:
        with self._speaking(key):
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)
            return answer["Body"].read(), answer["ETag"]

    @_patient
    def put(self, key: str, data: bytes) -> None:
        with self._speaking(key):
            self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self._conditional(key, data, IfNoneMatch="*")

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        return self._conditional(key, data, IfMatch=etag)

    @_patient
    def _conditional(self, key: str, data: bytes, **condition: str) -> bool:
        from botocore.exceptions import ClientError

        with self._speaking(key):
            try:
                self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data, **condition)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] in (404, 409, 412):
                    return False
                raise
            return True

    @_patient
    def exists(self, key: str) -> bool:
        from botocore.exceptions import ClientError

        with self._speaking(key):
            try:
                self.client.head_object(Bucket=self.bucket, Key=self.prefix + key)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return False
                raise
            return True

    def list(self, prefix: str = "") -> Iterator[Entry]:
        with self._speaking(prefix):
            whole = self.prefix.rstrip("/")
            if not prefix and whole:  # a URI may name one object
                first = self.client.list_objects_v2(Bucket=self.bucket, Prefix=whole, MaxKeys=1)
                for item in first.get("Contents", []):
                    if item["Key"] == whole:
                        yield Entry("", item["Size"], item["ETag"])
                        return
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            for page in pages:
                for item in page.get("Contents", []):
                    key = item["Key"][len(self.prefix) :]
                    if key and not key.endswith("/"):
                        yield Entry(key, item["Size"], item["ETag"])

    @_patient
    def delete(self, key: str) -> None:
        with self._speaking(key):
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def open(self, key: str) -> pa.NativeFile:
        path = f"{self.bucket}/{(self.prefix + key).rstrip('/') if key else self.prefix.rstrip('/')}"
        try:
            return self._arrow.open_input_file(path)
        except FileNotFoundError:
            raise _missing(self.url(key)) from None
        except OSError as error:
            raise _unavailable(self.url(key), error) from error

    @cached_property
    def _arrow(self) -> pyarrow.fs.S3FileSystem:
        # Built where it is used: pickled, it would lose its retry strategy and carry the secret in clear.
        options: dict[str, Any] = {}
        if endpoint := self.endpoint or os.environ.get("AWS_ENDPOINT_URL"):
            parts = urlparse(endpoint)
            options |= {"endpoint_override": parts.netloc, "scheme": parts.scheme}
        if region := self.region or os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION"):
            options["region"] = region
        return pyarrow.fs.S3FileSystem(
            request_timeout=60,
            connect_timeout=10,
            retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=8),
            **options,
        )

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{key}".rstrip("/")

    @contextlib.contextmanager
    def _speaking(self, key: str) -> Iterator[None]:
        """Turn what boto3 raises into our errors: the user's faults apart from the network's."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            yield
        except ClientError as error:
            status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
            code = error.response.get("Error", {}).get("Code", "")
            if code in ("NoSuchKey", "404"):
                raise _missing(self.url(key)) from None
            if code == "NoSuchBucket" or status in (400, 401, 403, 404):
                raise StorageError(f"{self.url(key)}: S3 says {code or status}") from None
            raise _unavailable(self.url(key), error) from error
        except NoCredentialsError:
            raise StorageError(
                f"{self.url(key)}: no AWS credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from None
        except (BotoCoreError, ConnectionError, TimeoutError) as error:
            raise _unavailable(self.url(key), error) from error


_client_lock = threading.Lock()


def _missing(uri: str) -> ArtefactMissing:
    error = ArtefactMissing(f"{uri}: not there")
    error.uri = uri
    return error


def _unavailable(uri: str, cause: BaseException) -> StoreUnavailable:
    error = StoreUnavailable(f"{uri}: storage does not answer: {cause}")
    error.uri = uri
    return error


def open_store(uri: str, storage: Storage) -> Store:
    """The store below a URI: a local path, `file://` or `s3://bucket/prefix`.

    Raises:
        StorageError: another scheme, or no bucket.
    """
    parts = urlparse(uri)
    if parts.scheme == "s3":
        if not parts.netloc:
            raise StorageError(f"{uri}: write it as s3://bucket/prefix")
        return S3Store(uri.rstrip("/"), storage.endpoint, storage.region)
    if parts.scheme == "file":
        return LocalStore(str(Path(unquote(parts.path)).absolute()))
    if "://" in uri:
        raise StorageError(f"{uri}: {parts.scheme}:// is not known here; use a path or s3://bucket/prefix")
    return LocalStore(str(Path(uri).absolute()))
