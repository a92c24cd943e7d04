"""Objects under a URI, on local disk or S3 alike: whole-object atomic writes and two conditional ones.

`open_store(uri, storage)` gives a `Store`. Stores travel to workers by URI and endpoint alone: credentials are
found again there by the standard AWS variables, and never enter a pickle.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

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
    """Objects by key. Writes are atomic: an object is there whole, or not at all.

    Keys are pieces joined by slashes. Objects below a piece that starts with a dot are nobody's data (a writer's
    leftovers, a tool's notes) and are never listed.
    """

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
        """All objects whose key starts with `prefix`, in the order of their keys' bytes."""

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens without it."""

    def open(self, key: str) -> pa.NativeFile:
        """The object for random access, so that Parquet reads only what it needs."""

    def url(self, key: str) -> str:
        """The full URI of a key."""


def _checked(key: str) -> str:
    """A key that disk and S3 understand alike, and that can't leave its store."""
    if "\0" in key or any(piece in ("", ".", "..") for piece in key.split("/")):
        raise StorageError(f"{key!r} is not a key: its pieces may not be empty, '.' or '..'")
    return key


# -------------------------------------------------------------------------------------------------- local


@dataclass(frozen=True)
class LocalStore:
    """A directory."""

    uri: str

    @property
    def root(self) -> Path:
        """The directory."""
        return Path(self.uri)

    def path(self, key: str) -> Path:
        """Where a key lies."""
        return self.root / _checked(key)

    def get(self, key: str) -> bytes:
        with _on_disk(self.url(key)):
            return self.path(key).read_bytes()

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        data = self.get(key)
        return data, hashlib.sha256(data).hexdigest()

    @contextlib.contextmanager
    def _staged(self, key: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        """The bytes on disk under a name of their own, beside their target."""
        target = self.path(key)
        staged = target.parent / f".{uuid.uuid4().hex}.tmp"
        with _on_disk(self.url(key), writing=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with staged.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                yield staged, target
            finally:
                staged.unlink(missing_ok=True)

    def put(self, key: str, data: bytes) -> None:
        with self._staged(key, data) as (staged, target):
            staged.replace(target)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._staged(key, data) as (staged, target):
            try:
                os.link(staged, target)  # unlike rename, fails when the target exists
            except FileExistsError:
                return False
        return True

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        target = self.path(key)
        if not self.exists(key):
            return False
        with (
            _on_disk(self.url(key), writing=True),
            (target.parent / f".{target.name}.lock").open("w") as lock,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.suppress(ArtefactMissing):
                if self.get_tagged(key)[1] == etag:
                    self.put(key, data)
                    return True
        return False

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def list(self, prefix: str = "") -> Iterator[Entry]:
        if ".." in prefix.split("/"):
            raise StorageError(f"{prefix!r} leads out of {self.uri}")
        with _on_disk(self.uri):
            if self.root.is_file():  # a URI may name one object
                if not prefix:
                    yield _entry("", self.root.stat())
            elif self.root.is_dir():
                yield from self._below("", prefix)

    def _below(self, folder: str, prefix: str) -> Iterator[Entry]:
        """What lies in a folder, in the order that S3 has: `a-b`, `a/b`, `a0`."""
        with os.scandir(self.root / folder) as items:
            shown = [item for item in items if not item.name.startswith(".")]
        names = {f"{item.name}/" if item.is_dir() else item.name: item for item in shown}
        for name in sorted(names):
            key = folder + name
            if name.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._below(key, prefix)
            elif key.startswith(prefix):
                try:
                    stat = names[name].stat()
                except FileNotFoundError:  # deleted since, or a link to nowhere
                    continue
                yield _entry(key, stat)

    def delete(self, key: str) -> None:
        with _on_disk(self.url(key), writing=True):
            self.path(key).unlink(missing_ok=True)

    def open(self, key: str) -> pa.NativeFile:
        path = self.path(key) if key else self.root
        with _on_disk(self.url(key)):
            if not path.is_file():
                raise FileNotFoundError
            return pa.memory_map(str(path)) if path.stat().st_size else pa.BufferReader(b"")

    def url(self, key: str) -> str:
        return f"{self.uri}/{key}" if key else self.uri


def _entry(key: str, stat: os.stat_result) -> Entry:
    return Entry(key, stat.st_size, f"{stat.st_mtime_ns:x}-{stat.st_size:x}")


# What no retry can change: another path, or other permissions, are for the user to give.
_USERS_OWN = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG
)  # fmt: skip


@contextlib.contextmanager
def _on_disk(uri: str, *, writing: bool = False) -> Iterator[None]:
    """Turn what the disk says into our errors: the user's faults apart from the machine's."""
    try:
        yield
    except OSError as error:
        if not writing and isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
            raise _missing(uri) from None
        if error.errno in _USERS_OWN:
            raise StorageError(f"{uri}: {error.strerror}") from None
        raise _unavailable(uri, error) from error


# ----------------------------------------------------------------------------------------------------- S3

# All patience is here: boto3's own would multiply with it, and knows nothing of bodies that break off.
_PATIENCE = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(StoreUnavailable),
    stop=tenacity.stop_after_attempt(8),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
    reraise=True,
)
_patient = _PATIENCE.wraps


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
        return self.uri.removeprefix("s3://").partition("/")[0]

    @cached_property
    def prefix(self) -> str:
        """Key prefix below the bucket, ending in a slash unless empty; as it stands, `%`, `#` and `?` too."""
        path = self.uri.removeprefix("s3://").partition("/")[2].strip("/")
        return f"{path}/" if path else ""

    @property
    def client(self) -> Any:
        """The boto3 client of this process."""
        with _client_lock:  # building clients is the one thing in boto3 that threads may not share
            return _client(self.endpoint, self.region, _surroundings())

    def get(self, key: str) -> bytes:
        return self.get_tagged(key)[0]

    @_patient
    def get_tagged(self, key: str) -> tuple[bytes, str]:
        with self._speaking(key):
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + _checked(key))
            return answer["Body"].read(), answer["ETag"]

    @_patient
    def put(self, key: str, data: bytes) -> None:
        with self._speaking(key):
            self.client.put_object(Bucket=self.bucket, Key=self.prefix + _checked(key), Body=data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self._conditional(key, data, IfNoneMatch="*")

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        return self._conditional(key, data, IfMatch=etag)

    def _conditional(self, key: str, data: bytes, **condition: str) -> bool:
        for attempt in _PATIENCE.copy():
            with attempt:
                if self._put_once(key, data, condition):
                    return True
                # An earlier attempt may have been carried out, and only its answer lost on the way.
                return attempt.retry_state.attempt_number > 1 and self._holds(key, data)
        raise AssertionError  # the last attempt has raised

    def _put_once(self, key: str, data: bytes, condition: Mapping[str, str]) -> bool:
        from botocore.exceptions import ClientError

        with self._speaking(key):
            try:
                self.client.put_object(
                    Bucket=self.bucket, Key=self.prefix + _checked(key), Body=data, **condition
                )
            except ClientError as error:
                if error.response["Error"]["Code"] in ("PreconditionFailed", "NoSuchKey", "412"):
                    return False
                raise
            return True

    def _holds(self, key: str, data: bytes) -> bool:
        try:
            return self.get(key) == data
        except ArtefactMissing:
            return False

    @_patient
    def exists(self, key: str) -> bool:
        from botocore.exceptions import ClientError

        with self._speaking(key):
            try:
                self.client.head_object(Bucket=self.bucket, Key=self.prefix + _checked(key))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return False
                raise
            return True

    def list(self, prefix: str = "") -> Iterator[Entry]:
        if ".." in prefix.split("/"):
            raise StorageError(f"{prefix!r} leads out of {self.uri}")
        whole = self.prefix.rstrip("/")
        if not prefix and whole:  # a URI may name one object
            first = self._page(Prefix=whole, MaxKeys=1).get("Contents", [])
            if first and first[0]["Key"] == whole:
                yield Entry("", first[0]["Size"], first[0]["ETag"])
                return
        more: dict[str, str] = {}
        while True:
            page = self._page(Prefix=self.prefix + prefix, **more)
            for item in page.get("Contents", []):
                key = item["Key"][len(self.prefix) :]
                hidden = any(piece.startswith(".") for piece in key.split("/"))
                if key and not key.endswith("/") and not hidden:
                    yield Entry(key, item["Size"], item["ETag"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    @_patient
    def _page(self, **wanted: Any) -> Mapping[str, Any]:
        with self._speaking(""):
            page: Mapping[str, Any] = self.client.list_objects_v2(Bucket=self.bucket, **wanted)
            return page

    @_patient
    def delete(self, key: str) -> None:
        with self._speaking(key):
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + _checked(key))

    def open(self, key: str) -> pa.NativeFile:
        path = f"{self.bucket}/{self.prefix}{_checked(key)}" if key else f"{self.bucket}/{self.prefix}"
        with reading(self.url(key)):
            return self._arrow.open_input_file(path.rstrip("/"))

    @property
    def _arrow(self) -> pyarrow.fs.S3FileSystem:
        return _filesystem(self.endpoint, self.region, _surroundings())

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{key}".rstrip("/")

    @contextlib.contextmanager
    def _speaking(self, key: str) -> Iterator[None]:
        """Turn what boto3 raises into our errors: the user's faults apart from the network's."""
        from botocore import exceptions as boto
        from botocore.parsers import ResponseParserError

        network = (boto.HTTPClientError, boto.IncompleteReadError, ResponseParserError)

        try:
            yield
        except boto.ClientError as error:
            status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
            code = error.response.get("Error", {}).get("Code", "")
            if code in ("NoSuchKey", "404"):
                raise _missing(self.url(key)) from None
            if status < 500 and status != 429 and code not in _PASSING:
                raise StorageError(f"{self.url(key)}: S3 says {code or status}") from None
            raise _unavailable(self.url(key), error) from error
        except boto.NoCredentialsError:
            raise StorageError(
                f"{self.url(key)}: no AWS credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from None
        except (*network, ConnectionError, TimeoutError) as error:
            raise _unavailable(self.url(key), error) from error
        except (
            boto.BotoCoreError,
            ValueError,
        ) as error:  # a profile, region, endpoint or bucket that can't be
            raise StorageError(f"{self.url(key)}: {' '.join(str(error).split())}") from None


# Refusals that pass by themselves, whatever their status says.
_PASSING = (
    "ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "SlowDown", "Throttling",
    "ThrottlingException", "TooManyRequests",
)  # fmt: skip
_client_lock = threading.Lock()


def _surroundings() -> tuple[Any, ...]:
    """What decides how S3 is spoken to: the standard variables, and the process, since sockets belong to one."""
    return os.getpid(), *sorted((name, v) for name, v in os.environ.items() if name.startswith("AWS_"))


@functools.lru_cache(maxsize=8)  # one a process, not one a store: a pool has a store for every shard
def _client(endpoint: str | None, region: str | None, surroundings: tuple[Any, ...]) -> Any:  # noqa: ARG001
    import boto3
    from botocore.config import Config as BotoConfig

    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        config=BotoConfig(
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=32,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@functools.lru_cache(maxsize=8)
def _filesystem(
    endpoint: str | None,
    region: str | None,
    surroundings: tuple[Any, ...],  # noqa: ARG001
) -> pyarrow.fs.S3FileSystem:
    # Built where it is used: pickled, it would lose its retry strategy and carry the secret in clear.
    options: dict[str, Any] = {}
    found = os.environ.get
    if endpoint := endpoint or found("AWS_ENDPOINT_URL_S3") or found("AWS_ENDPOINT_URL"):
        parts = urlsplit(endpoint)
        options |= {"endpoint_override": parts.netloc, "scheme": parts.scheme}
    if region := region or found("AWS_DEFAULT_REGION") or found("AWS_REGION"):
        options["region"] = region
    return pyarrow.fs.S3FileSystem(
        request_timeout=60,
        connect_timeout=10,
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=8),
        **options,
    )


@contextlib.contextmanager
def reading(uri: str) -> Iterator[None]:
    """Turn what Arrow says of storage, while it opens or reads an object, into our errors; the rest passes."""
    try:
        yield
    except FileNotFoundError:
        raise _missing(uri) from None
    except OSError as error:
        text = str(error)
        if "AWS Error ACCESS_DENIED" in text or "HTTP status 403" in text:
            raise StorageError(f"{uri}: S3 says AccessDenied") from None
        if "AWS Error" in text:
            raise _unavailable(uri, error) from error
        raise


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
    scheme, separator, rest = uri.partition("://")
    if "\0" in uri:
        raise StorageError(f"{uri!r}: a null byte is part of no place")
    if scheme == "s3" and separator:
        if not rest.partition("/")[0]:
            raise StorageError(f"{uri}: write it as s3://bucket/prefix")
        return S3Store(uri.rstrip("/"), storage.endpoint, storage.region)
    if scheme == "file" and separator:
        return LocalStore(str(Path(unquote(rest.removeprefix("localhost"))).absolute()))
    if separator and scheme.isidentifier():
        raise StorageError(f"{uri}: {scheme}:// is not known here; use a path or s3://bucket/prefix")
    return LocalStore(str(Path(uri).absolute()))
