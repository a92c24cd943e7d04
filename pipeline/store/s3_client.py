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

from pipeline.config.sections import Access
from pipeline.errors import StorageError, StoreUnavailable, mask
from pipeline.store.base import changed, missing, unavailable
from pipeline.store.refusals import passes, what_to_do, while_passing


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
        if passes(code, status):
            raise unavailable(uri, error, while_passing(code)) from error
        region = error.response["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
        refusal = Refused(f"{uri}: S3 says {code}; {what_to_do(code, region)}")
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


def client(access: Access, *, to_sign: str | None = None) -> Any:
    """Return the boto3 client of this process.

    With `to_sign`, it is one for links to objects of that bucket.

    Raises:
        StorageError: an environment variable that the access names is not set.
    """
    names = (access.access_key_env, access.secret_key_env, access.session_token_env)
    for name in names:
        if name is not None and not os.environ.get(name):
            raise StorageError(f"storage: the environment variable {name} is not set")
    # What decides how S3 is spoken to: the variables, and the process, since sockets belong to one.
    settings = sorted((n, v) for n, v in os.environ.items() if n.startswith("AWS_") or n in names)
    with _client_lock:  # building clients is the one thing in boto3 that threads may not share
        return _client(access, to_sign, os.getpid(), *settings)


@functools.lru_cache(maxsize=8)  # one a process, not one a store: a pool has a store for every shard
def _client(access: Access, to_sign: str | None, *around: Any) -> Any:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config as BotoConfig
    from botocore.session import get_session

    # A pool may be millions of small objects: half a millisecond of each went into its date and the agent's name.
    session = get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=moment_of)
    no_sign = os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in ("1", "true", "yes")
    unsigned = access.anonymous or (no_sign and access.access_key_env is None)
    region = access.region if to_sign is None else _region_of(to_sign, _client(access, None, *around))
    made = boto3.session.Session(botocore_session=session).client(
        "s3",
        endpoint_url=access.endpoint,
        region_name=region,
        aws_access_key_id=access.access_key_env and os.environ[access.access_key_env],
        aws_secret_access_key=access.secret_key_env and os.environ[access.secret_key_env],
        aws_session_token=access.session_token_env and os.environ[access.session_token_env],
        config=BotoConfig(
            # Left to itself, boto3 signs links by version 2, which newer regions and many other servers refuse.
            signature_version=UNSIGNED if unsigned else "s3v4" if to_sign else None,
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=32,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent=f"sisom boto3/{boto3.__version__}",
        ),
    )
    if access.requester_pays and to_sign is None:
        made.meta.events.register("provide-client-params.s3", _paying)
    if access.requester_pays and to_sign is not None:
        made.meta.events.register("before-sign.s3", _paid_link)
    return made


def _paying(params: dict[str, Any], model: Any, **_: Any) -> dict[str, Any]:
    """Accept to pay, for each request that may cost."""
    takes = model.input_shape is not None and "RequestPayer" in model.input_shape.members
    return {**params, "RequestPayer": "requester"} if takes else params


def _paid_link(request: Any, **_: Any) -> None:
    """Accept to pay within a link, since browsers send no such header."""
    request.params = {**request.params, "x-amz-request-payer": "requester"}


def _region_of(bucket: str, asking: Any) -> str | None:
    """Return the region that links to a bucket are signed for.

    Requests are led to the right region by S3's answers; nobody leads a link there.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    told: str | None = asking.meta.region_name
    if ".amazonaws.com" not in asking.meta.endpoint_url:
        return told
    try:
        answer = asking.head_bucket(Bucket=bucket)
    except ClientError as error:  # of a refusal the header tells it too
        answer = error.response
    except BotoCoreError:
        return told
    return answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region") or told


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
