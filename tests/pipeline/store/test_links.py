"""Links that open without credentials, against the signature worked out from AWS's description of version 4."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit
from urllib.request import urlopen

import boto3
import pytest
from botocore.stub import Stubber

from pipeline.config.sections import AccessTo, Storage
from pipeline.errors import StorageError
from pipeline.store.links import presigned
from pipeline.store.opening import open_store
from pipeline.store.s3_client import _region_of

pytestmark = pytest.mark.s3

SECRET = "canary-d41d8cd98f"


def signature(link: str) -> str:
    """What the link's signature must be, by the standard alone."""
    url = urlsplit(link)
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(url.query, keep_blank_values=True)
        if name != "X-Amz-Signature"
    )
    asked = dict(parse_qsl(url.query))
    assert asked["X-Amz-SignedHeaders"] == "host", "a browser sends no other header"
    canonical = "\n".join(
        ["GET", url.path, "&".join(f"{n}={v}" for n, v in pairs), f"host:{url.netloc}", "", "host",
         "UNSIGNED-PAYLOAD"]
    )  # fmt: skip
    _, day, region, service, end = asked["X-Amz-Credential"].split("/")
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", asked["X-Amz-Date"], f"{day}/{region}/{service}/{end}", digest])
    key = f"AWS4{SECRET}".encode()
    for part in (day, region, service, end, text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


@pytest.mark.parametrize("pays", [False, True])
@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_links_are_signed_by_version_4(s3_bucket: str, region: str, pays: bool) -> None:
    storage = Storage(requester_pays=pays, region=region)
    open_store(s3_bucket, Storage()).put("a b/ä+%.png", b"picture")
    link = presigned(f"{s3_bucket}/a b/ä+%.png", storage, 7200)
    asked = dict(parse_qsl(urlsplit(link).query))
    assert asked["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert asked["X-Amz-Expires"] == "7200"
    assert f"/{region}/s3/" in asked["X-Amz-Credential"]
    assert asked["X-Amz-Signature"] == signature(link)
    assert ("x-amz-request-payer" in asked) == pays
    assert SECRET not in link
    with urlopen(link) as answer:
        assert answer.read() == b"picture"


def test_a_link_is_signed_by_the_access_to_its_place(
    s3_bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL_KEY", "THEPOOLSKEY")
    monkeypatch.setenv("POOL_SECRET", SECRET)
    place = AccessTo(
        uri=s3_bucket, endpoint=s3_endpoint, access_key_env="POOL_KEY", secret_key_env="POOL_SECRET"
    )
    link = presigned(f"{s3_bucket}/k", Storage(endpoint=s3_endpoint, places=(place,)), 60)
    assert "X-Amz-Credential=THEPOOLSKEY%2F" in link


def test_what_can_not_be_signed_is_refused(s3_bucket: str) -> None:
    with pytest.raises(StorageError, match="anonymous requests can't be signed"):
        presigned(f"{s3_bucket}/k", Storage(anonymous=True), 60)
    for uri in ("/data/k", s3_bucket):
        with pytest.raises(StorageError, match="only objects on S3"):
            presigned(uri, Storage(), 60)


def test_the_region_is_the_bucket_s_own_even_if_it_may_not_be_looked_at(s3_account: None) -> None:
    asking: Any = boto3.client("s3", region_name="us-east-1", endpoint_url=None)
    assert ".amazonaws.com" in asking.meta.endpoint_url
    told = {"HTTPHeaders": {"x-amz-bucket-region": "eu-north-1"}}
    with Stubber(asking) as stub:
        stub.add_response("head_bucket", {"ResponseMetadata": told})
        assert _region_of("b", asking) == "eu-north-1"
        stub.add_client_error("head_bucket", "403", http_status_code=403, response_meta=told)
        assert _region_of("b", asking) == "eu-north-1"
        stub.add_client_error("head_bucket", "404", http_status_code=404)
        assert _region_of("b", asking) == "us-east-1"
