"""Places as people write them in a config: paths and URIs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_VARIABLE: Final = re.compile(r"\$\{?\w+\}?|%\w+%")
_ONE_SLASH: Final = re.compile(r"^(s3|file|gs|az|https?):/?(?!/)", re.IGNORECASE)
_DRIVE: Final = re.compile(r"^[A-Za-z]:[\\/]")
_SCHEME: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_KNOWN: Final = ("s3", "file")
# Stores that can be reached as S3, and where.
_ENDPOINTS: Final = {
    "gs": "https://storage.googleapis.com, with an HMAC key of the bucket's project",
    "gcs": "https://storage.googleapis.com, with an HMAC key of the bucket's project",
    "az": "a gateway such as s3proxy before Azure's Blob Storage",
    "abfs": "a gateway such as s3proxy before Azure's Blob Storage",
    "abfss": "a gateway such as s3proxy before Azure's Blob Storage",
    "wasbs": "a gateway such as s3proxy before Azure's Blob Storage",
    "r2": "https://ACCOUNT.r2.cloudflarestorage.com",
    "oss": "https://oss-REGION.aliyuncs.com",
}


def place(text: str) -> str:
    """Return a path or URI with `~` expanded.

    Raises:
        ValueError: it would be taken for another place than it says; the message tells what to write.
    """
    if not text.strip():
        raise ValueError("an empty place; write a path or s3://bucket/prefix")
    if text == "~" or text.startswith("~/"):
        return str(Path(text).expanduser())
    if text.startswith("~"):
        raise ValueError(f"{text!r}: write the home of another user as a full path")
    if found := _VARIABLE.search(text):
        raise ValueError(
            f"{text!r}: variables such as {found.group()} are not filled in here; write the value out"
        )
    if _DRIVE.match(text):
        raise ValueError(f"{text!r} is a path of Windows, which is not supported; use WSL and its paths")
    scheme = _SCHEME.match(text)
    if scheme is None:
        if slash := _ONE_SLASH.match(text):
            raise ValueError(f"{text!r}: write it with two slashes, {slash.group(1)}://...")
        return text
    name = scheme.group(1)
    if name.lower() in _ENDPOINTS:
        raise ValueError(
            f"{text!r}: {name}:// is reached as S3: write s3://BUCKET/PREFIX, set storage.endpoint to "
            f"{_ENDPOINTS[name.lower()]}, and the keys as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if name not in _KNOWN:
        hint = f"write {name.lower()}://" if name.lower() in _KNOWN else "use a path or s3://bucket/prefix"
        raise ValueError(f"{text!r}: {name}:// is not known here; {hint}")
    rest = text[scheme.end() :]
    if name == "file" and not rest.removeprefix("localhost").startswith("/"):
        raise ValueError(f"{text!r}: names a machine; write file:///path for a path on this one")
    if name == "s3" and "@" in rest.partition("/")[0]:
        raise ValueError("an s3:// place holds no user or password; see storage.access_key_env")
    return text
