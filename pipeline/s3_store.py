"""Objects on S3, through boto3; Arrow reads them at random. The only door to boto3."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs
import tenacity

from pipeline.errors import ArtefactMissing, StorageError, StoreUnavailable
from pipeline.store import Entry, checked, missing, reading, unavailable

# All patience is here: boto3's own would multiply with it, and knows nothing of bodies that break off.
PATIENCE = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(StoreUnavailable),
    stop=tenacity.stop_after_attempt(8),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
    reraise=True,
)
_patient = PATIENCE.wraps


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
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + checked(key))
            return answer["Body"].read(), answer["ETag"]

    @_patient
    def put(self, key: str, data: bytes) -> None:
        with self._speaking(key):
            self.client.put_object(Bucket=self.bucket, Key=self.prefix + checked(key), Body=data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self._conditional(key, data, IfNoneMatch="*")

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        return self._conditional(key, data, IfMatch=etag)

    def _conditional(self, key: str, data: bytes, **condition: str) -> bool:
        for attempt in PATIENCE.copy():
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
                    Bucket=self.bucket, Key=self.prefix + checked(key), Body=data, **condition
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
                self.client.head_object(Bucket=self.bucket, Key=self.prefix + checked(key))
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
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + checked(key))

    def open(self, key: str) -> pa.NativeFile:
        path = f"{self.bucket}/{self.prefix}{checked(key)}" if key else f"{self.bucket}/{self.prefix}"
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

        broken = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, ResponseParserError)

        try:
            yield
        except boto.ClientError as error:
            status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
            code = error.response.get("Error", {}).get("Code", "")
            if code in ("NoSuchKey", "404"):
                raise missing(self.url(key)) from None
            if status < 500 and status != 429 and code not in _PASSING:
                raise StorageError(f"{self.url(key)}: S3 says {code or status}") from None
            raise unavailable(self.url(key), error) from error
        except boto.NoCredentialsError:
            raise StorageError(
                f"{self.url(key)}: no AWS credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from None
        except (*broken, ConnectionError, TimeoutError) as error:
            raise unavailable(self.url(key), error) from error
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
