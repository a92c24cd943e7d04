"""Refusals of S3 in words: which pass, and what to do about the others."""

from __future__ import annotations

import pytest

from pipeline.store.refusals import passes, what_to_do, while_passing


@pytest.mark.parametrize(
    ("code", "status", "passing"),
    [
        ("SlowDown", 503, True),
        ("RequestTimeout", 400, True),
        ("InternalError", 500, True),
        ("429", 429, True),
        ("AccessDenied", 403, False),
        ("NotImplemented", 501, False),
        ("501", 501, False),
    ],
)
def test_what_passes_is_tried_again_and_nothing_else(code: str, status: int, passing: bool) -> None:
    assert passes(code, status) == passing


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("AccessDenied", "s3:ListBucket"),
        ("AccessDenied", "storage.requester_pays"),
        ("ExpiredToken", "get new temporary credentials"),
        ("400", "get new temporary credentials"),
        ("InvalidAccessKeyId", "check AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "check AWS_ACCESS_KEY_ID"),
        ("NoSuchBucket", "check the bucket's name"),
        ("PermanentRedirect", "set storage.region"),
        ("AuthorizationHeaderMalformed", "set storage.region"),
        ("RequestTimeTooSkewed", "clock"),
        ("InvalidObjectState", "restore it first"),
        ("NotImplemented", "check storage.endpoint"),
        ("NeverHeardOf", "check storage.endpoint and storage.region, or ask"),
    ],
)
def test_every_refusal_has_a_hint(code: str, hint: str) -> None:
    assert hint in what_to_do(code)


def test_the_bucket_s_region_is_named_where_s3_tells_it() -> None:
    assert what_to_do("PermanentRedirect", "eu-north-1").endswith("to the bucket's own, which is eu-north-1")
    assert "eu-north-1" not in what_to_do("AccessDenied", "eu-north-1")


def test_a_busy_server_wants_fewer_requests() -> None:
    assert "fewer resources.actors" in while_passing("SlowDown")
    assert while_passing("InternalError") == ""
