"""Refusals of S3: their meaning, and remedies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_BUSY: Final = ("SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "429", "503")
# Refusals that pass by themselves, whatever their status says.
_PASSING: Final = (*_BUSY, "ConditionalRequestConflict", "OperationAborted", "RequestTimeout")
_NEVER: Final = ("NotImplemented", "501")  # although their status is one of the server's faults

_DENIED: Final = (
    "these credentials may not do it here: check the bucket's policy (s3:ListBucket, s3:GetObject, and for a workspace "
    "s3:PutObject and s3:DeleteObject), storage.endpoint, or storage.requester_pays for a bucket that wants it"
)
_KEYS: Final = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or those that storage.access_key_env names"
_EXPIRED: Final = (
    "get new temporary credentials, with their AWS_SESSION_TOKEN, and run the same command again"
)
_REGION: Final = "set storage.region, or AWS_DEFAULT_REGION, to the bucket's own"
_ENDPOINT: Final = "this endpoint does not offer it; check storage.endpoint"
_HINTS: Final[Mapping[str, str]] = {
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
    "AuthorizationQueryParametersError": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "400": f"{_EXPIRED}, or {_REGION}",  # a request about an object's head gets no words
    "RequestTimeTooSkewed": "this machine's clock differs too much from S3's: set it, by NTP if it can",
    "InvalidObjectState": "the object is archived; restore it first, or leave it out by pool.exclude",
    "KeyTooLongError": "S3 takes keys of 1024 bytes: choose a shorter prefix",
    "InvalidRequest": "see whether storage.endpoint speaks S3 with signatures of version 4",
    "UnauthorizedAccess": "the region of this bucket is for other accounts; check storage.region",
    "MethodNotAllowed": _ENDPOINT,
    "405": _ENDPOINT,
    "NotImplemented": _ENDPOINT,
    "501": _ENDPOINT,
    "QuotaExceeded": "make room in the bucket",
    "EntityTooLarge": "this endpoint takes no object as large; check storage.endpoint",
    "AccountProblem": "ask whoever owns the account",
    "NotSignedUp": "ask whoever owns the account: it is not signed up for S3",
    "InvalidPayer": "ask whoever owns the account",
    "KMS.DisabledException": "the key that encrypts the bucket is disabled; ask whoever owns it",
    "KMS.NotFoundException": "the key that encrypts the bucket is gone; ask whoever owns it",
}


def passes(code: str, status: int) -> bool:
    """Return whether a refusal may well be none the next time."""
    return code not in _NEVER and (status >= 500 or status == 429 or code in _PASSING)


def while_passing(code: str) -> str:
    """Return what helps where a refusal did not pass in time."""
    return "it wants fewer requests: try again later, or with fewer resources.actors" if code in _BUSY else ""


def what_to_do(code: str, region: str = "") -> str:
    """Return what to do about a refusal.

    Args:
        code: S3's name for it, or the status where it sends none.
        region: the bucket's own, where S3 tells it.
    """
    hint = _HINTS.get(code, "check storage.endpoint and storage.region, or ask whoever runs the bucket")
    return f"{hint}, which is {region}" if region and hint == _REGION else hint
