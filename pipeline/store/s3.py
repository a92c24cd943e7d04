"""Objects on S3."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from pipeline.config.sections import Access
from pipeline.errors import ArtefactMissing, ObjectChanged, PipelineError
from pipeline.store.base import Entry, changed, checked, unavailable
from pipeline.store.ranged import NEAR, RangedFile
from pipeline.store.s3_client import PATIENCE, Refused, client, patient, speaking

WHOLE = 64 << 20  # bytes up to which an object is written by one request
PART = 16 << 20  # bytes a request above that; S3 takes 10,000 of them, each of 5 MiB at least


@dataclass(frozen=True)
class S3Store:
    """Objects below `s3://bucket/prefix`. Pickled, it holds no client and no credentials."""

    uri: str
    storage: Access

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri, "storage": self.storage}

    @cached_property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.uri.removeprefix("s3://").partition("/")[0]

    @cached_property
    def prefix(self) -> str:
        """The key prefix below the bucket, ending in a slash unless empty.

        `%`, `#` and `//` are kept as they are.
        """
        path = self.uri.removeprefix("s3://").partition("/")[2].rstrip("/")
        return f"{path}/" if path else ""

    @property
    def client(self) -> Any:
        """The boto3 client of this process."""
        return client(self.storage)

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.prefix}{key}".rstrip("/")

    def _ask_once(self, operation: str, key: str, **more: Any) -> Mapping[str, Any]:
        """Send a request about an object, and read its body.

        The body is part of the request because it may break off too.
        """
        with speaking(self.url(key)):
            name = (self.prefix + key) if key else self.prefix.rstrip("/")
            answer = getattr(self.client, operation)(Bucket=self.bucket, Key=name, **more)
            return answer | {"Body": answer["Body"].read()} if "Body" in answer else dict(answer)

    _ask = patient(_ask_once)

    def get(self, key: str, *, etag: str | None = None) -> bytes:
        data: bytes = self._ask("get_object", key, **_pinned(etag))["Body"]
        return data

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        answer = self._ask("get_object", key)
        return answer["Body"], answer["ETag"]

    def open(
        self, key: str, *, etag: str | None = None, size: int | None = None, sparse: bool = False
    ) -> pa.NativeFile:
        tail, expected = b"", size
        if size is None or etag is None:
            tail, size, etag = self._tail(key, etag)
            if expected not in (None, size):
                raise changed(self.url(key))
        fetch = functools.partial(self._range, key, etag=etag)
        return pa.PythonFile(RangedFile(fetch, size, tail, sparse=sparse), mode="r")

    def _tail(self, key: str, etag: str | None) -> tuple[bytes, int, str]:
        """Read the object's last bytes, size and tag by one request.

        A Parquet reader starts with the last bytes anyway.
        """
        try:
            answer = self._ask("get_object", key, Range=f"bytes=-{NEAR}", **_pinned(etag))
        except Refused as error:
            if error.code != "InvalidRange":
                raise
            return b"", 0, ""  # of an empty object no range can be had
        size = answer.get("ContentRange", "").rpartition("/")[2] or len(answer["Body"])
        return answer["Body"], int(size), answer["ETag"]

    @patient
    def _range(self, key: str, first: int, count: int, *, etag: str) -> bytes:
        asked = f"bytes={first}-{first + count - 1}"
        data: bytes = self._ask_once("get_object", key, Range=asked, IfMatch=etag)["Body"]
        if len(data) != count:
            raise unavailable(self.url(key), EOFError(f"{asked} came as {len(data)} bytes"))
        return data

    def put(self, key: str, data: bytes) -> None:
        if len(data) <= WHOLE:
            self._ask("put_object", checked(key), Body=data)
        else:
            self._put_in_parts(checked(key), data)

    def _put_in_parts(self, key: str, data: bytes) -> None:
        upload = {"UploadId": self._ask("create_multipart_upload", key)["UploadId"]}

        def send(number: int) -> dict[str, Any]:
            part = data[(number - 1) * PART : number * PART]
            sent = self._ask("upload_part", key, **upload, PartNumber=number, Body=part)
            return {"PartNumber": number, "ETag": sent["ETag"]}

        try:
            with ThreadPoolExecutor(4) as threads:
                parts = list(threads.map(send, range(1, -(-len(data) // PART) + 1)))
            self._complete(key, len(data), **upload, MultipartUpload={"Parts": parts})
        except BaseException:
            with contextlib.suppress(PipelineError):  # else the parts would lie there, unseen and paid for
                self._ask_once("abort_multipart_upload", key, **upload)
            raise

    def _complete(self, key: str, size: int, **upload: Any) -> None:
        try:
            self._ask("complete_multipart_upload", key, **upload)
        except Refused as error:
            # An earlier attempt may have been carried out, and only its answer lost on the way.
            if error.code != "NoSuchUpload" or self._ask("head_object", key)["ContentLength"] != size:
                raise

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self._put_if(key, data, IfNoneMatch="*")

    def put_if_match(self, key: str, data: bytes, etag: str) -> bool:
        # Bare, as AWS documents it for writes: Ceph's gateway compares it with the tag as it keeps it, without quotes.
        return self._put_if(key, data, IfMatch=etag.strip('"'))

    def _put_if(self, key: str, data: bytes, **condition: str) -> bool:
        for attempt in PATIENCE.copy():
            with attempt:
                try:
                    self._ask_once("put_object", checked(key), Body=data, **condition)
                except (ObjectChanged, ArtefactMissing):
                    # An earlier attempt may have been carried out, and only its answer lost on the way.
                    return attempt.retry_state.attempt_number > 1 and self._holds(key, data)
                return True
        raise AssertionError  # the last attempt has raised

    def _holds(self, key: str, data: bytes) -> bool:
        try:
            return bool(self._ask_once("get_object", key)["Body"] == data)
        except ArtefactMissing:
            return False

    def exists(self, key: str) -> bool:
        try:
            self._ask("head_object", key)
        except ArtefactMissing:
            return False
        return True

    def delete(self, key: str) -> None:
        self._ask("delete_object", checked(key))

    def list(self, prefix: str = "") -> Iterator[Entry]:
        named = self.prefix.rstrip("/")
        if not prefix and named:  # a URI may name one object
            first = self._page(Prefix=named, MaxKeys=1).get("Contents", [])
            if first and first[0]["Key"] == named and (first[0]["Size"] or not self._holds_any()):
                yield Entry("", first[0]["Size"], first[0]["ETag"])
                return
        more: dict[str, str] = {}
        while True:
            page = self._page(Prefix=self.prefix + prefix, **more)
            for item in page.get("Contents", []):
                key = item["Key"][len(self.prefix) :]
                if key and not key.endswith("/") and not _hidden(key):
                    yield Entry(key, item["Size"], item["ETag"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _holds_any(self) -> bool:
        """Return whether anything lies below the prefix.

        Some tools write an empty object that stands for a folder.
        """
        return bool(self._page(Prefix=self.prefix, MaxKeys=1).get("Contents"))

    @patient
    def _page(self, **wanted: Any) -> Mapping[str, Any]:
        with speaking(self.url("")):
            page: Mapping[str, Any] = self.client.list_objects_v2(Bucket=self.bucket, **wanted)
            return page


def _pinned(etag: str | None) -> dict[str, str]:
    return {} if etag is None else {"IfMatch": etag}


def _hidden(key: str) -> bool:
    return any(piece.startswith(".") and piece not in (".", "..") for piece in key.split("/"))
