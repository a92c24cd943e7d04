"""Links to objects on S3 that open without credentials."""

from __future__ import annotations

from pipeline.config.sections import Storage
from pipeline.errors import StorageError
from pipeline.store.s3_client import client, speaking


def presigned(uri: str, storage: Storage, seconds: int) -> str:
    """Make a link that lets anybody read an object for some time.

    It is signed by version 4, for the bucket's own region.

    Raises:
        StorageError: not an object on S3, or no credentials to sign with.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not key:
        raise StorageError(f"{uri}: only objects on S3 have presigned links")
    with speaking(uri):
        link: str = client(storage.of(uri), to_sign=bucket).generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds
        )
    if "X-Amz-Signature=" not in link:
        raise StorageError(f"{uri}: anonymous requests can't be signed; use another way to show images")
    return link
