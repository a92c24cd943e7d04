"""The only door to boto3: clients, credentials, retries, errors."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import tenacity

from pipeline.config.sections import Storage
from pipeline.errors import StorageError, StoreUnavailable, mask
from pipeline.store.base import changed, missing, unavailable


class Refused(StorageError):
    """A refusal without an error of its own; `code` is S3's name."""

    code: str = ""


def _count(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, StoreUnavailable):
        error.attempts = state.attempt_number


# All retries are here: boto3's own would multiply with them, and do not cover bodies that break off.
PATIENCE = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(StoreUnavailable),
    stop=tenacity.stop_after_attempt(8),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
    after=_count,
    reraise=True,
)
patient = PATIENCE.wraps


# Refusals that pass by themselves, whatever their status says.
_PASSING = (
    "ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "SlowDown", "Throttling",
    "ThrottlingException", "TooManyRequests",
)  # fmt: skip


_DENIED = (
    "these credentials may not do it here: check the bucket's policy, storage.region and storage.endpoint, or "
    "storage.requester_pays for a bucket that wants it"
)
_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what storage.access_key_env and secret_key_env name"
_EXPIRED = "get new temporary credentials, with their AWS_SESSION_TOKEN, and run the same command again"
_REGION = "set storage.region, or AWS_DEFAULT_REGION, to the bucket's own"
# What to do about a refusal, by S3's name for it.
_HINTS = {
    "AccessDenied": _DENIED,
    "403": _DENIED,
    "AllAccessDisabled": _DENIED,
    "InvalidAccessKeyId": f"{_KEYS}; temporary keys need AWS_SESSION_TOKEN or storage.session_token_env too",
    "SignatureDoesNotMatch": f"{_KEYS}, and storage.region",
    "InvalidToken": _EXPIRED,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "NoSuchBucket": "check the bucket's name, storage.region and storage.endpoint",
    "InvalidBucketName": "check the bucket's name",
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "RequestTimeTooSkewed": "set this machine's clock",
    "InvalidObjectState": "the object is archived; restore it first, or leave it out by pool.exclude",
    "MethodNotAllowed": "this endpoint does not offer it; check storage.endpoint",
    "NotImplemented": "this endpoint does not offer it; check storage.endpoint",
    "QuotaExceeded": "make room in the bucket",
    "AccountProblem": "ask whoever owns the account",
}


@contextlib.contextmanager
def speaking(uri: str) -> Iterator[None]:
    """Turn boto3's errors into ours.

    The user's mistakes are kept apart from the network's faults.

    Raises:
        ArtefactMissing, ObjectChanged: the object is not there, or not in the version that was asked for.
        Refused, StorageError: S3 says no, or cannot be asked in this way.
        StoreUnavailable: it may well answer the next time.
    """
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    broken = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, ResponseParserError)
    try:
        yield
    except boto.ClientError as error:
        status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code", "") or str(status)
        if code in ("NoSuchKey", "404"):
            raise missing(uri) from None
        if code in ("PreconditionFailed", "412"):
            raise changed(uri) from None
        if status >= 500 or status == 429 or code in _PASSING:
            raise unavailable(uri, error) from error
        hint = _HINTS.get(code)
        refusal = Refused(f"{uri}: S3 says {code}" + (f"; {hint}" if hint else ""))
        refusal.code = code
        raise refusal from None
    except boto.NoCredentialsError:
        raise StorageError(
            f"{uri}: no AWS credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            f"storage.anonymous: true for what is public"
        ) from None
    except (*broken, ConnectionError, TimeoutError) as error:
        raise unavailable(uri, error) from error
    except (boto.BotoCoreError, ValueError) as error:  # a profile, region, endpoint or bucket that can't be
        raise StorageError(f"{uri}: {mask(' '.join(str(error).split()))}") from None


_client_lock = threading.Lock()


def client(storage: Storage) -> Any:
    """Return the boto3 client of this process.

    Raises:
        StorageError: an environment variable that `storage` names is not set.
    """
    names = (storage.access_key_env, storage.secret_key_env, storage.session_token_env)
    for name in names:
        if name is not None and not os.environ.get(name):
            raise StorageError(f"storage: the environment variable {name} is not set")
    # What decides how S3 is spoken to: the variables, and the process, since sockets belong to one.
    settings = sorted((n, v) for n, v in os.environ.items() if n.startswith("AWS_") or n in names)
    with _client_lock:  # building clients is the one thing in boto3 that threads may not share
        return _client(storage, os.getpid(), *settings)


@functools.lru_cache(maxsize=8)  # one a process, not one a store: a pool has a store for every shard
def _client(storage: Storage, *_: Any) -> Any:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config as BotoConfig
    from botocore.session import get_session

    # A pool may be millions of small objects: half a millisecond of each went into its date and the agent's name.
    session = get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=moment_of)
    no_sign = os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in ("1", "true", "yes")
    unsigned = storage.anonymous or (no_sign and storage.access_key_env is None)
    made = boto3.session.Session(botocore_session=session).client(
        "s3",
        endpoint_url=storage.endpoint,
        region_name=storage.region,
        aws_access_key_id=storage.access_key_env and os.environ[storage.access_key_env],
        aws_secret_access_key=storage.secret_key_env and os.environ[storage.secret_key_env],
        aws_session_token=storage.session_token_env and os.environ[storage.session_token_env],
        config=BotoConfig(
            signature_version=UNSIGNED if unsigned else None,
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=32,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent=f"sisom boto3/{boto3.__version__}",
        ),
    )
    if storage.requester_pays:
        made.meta.events.register("provide-client-params.s3", _paying)
    return made


def _paying(params: dict[str, Any], model: Any, **_: Any) -> dict[str, Any]:
    """Accept to pay, for each request that may cost."""
    takes = model.input_shape is not None and "RequestPayer" in model.input_shape.members
    return {**params, "RequestPayer": "requester"} if takes else params


def moment_of(text: Any) -> datetime:
    """Parse a point of time as boto3 does, but faster.

    The fast ways read what S3 writes in lists and in headers.
    """
    for parse in (datetime.fromisoformat, parsedate_to_datetime) if isinstance(text, str) else ():
        with contextlib.suppress(TypeError, ValueError):
            moment: datetime = parse(text)
            if moment.tzinfo is not None:
                return moment
    from botocore.utils import parse_timestamp

    parsed: datetime = parse_timestamp(text)
    return parsed


def presigned(uri: str, storage: Storage, seconds: int) -> str:
    """Make a link that lets anybody read an object for some time.

    Raises:
        StorageError: not an object on S3, or no credentials to sign with.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not key:
        raise StorageError(f"{uri}: only objects on S3 have presigned links")
    with speaking(uri):
        link: str = client(storage).generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds
        )
    if "Signature=" not in link:
        raise StorageError(f"{uri}: anonymous requests can't be signed; use another way to show images")
    return link
