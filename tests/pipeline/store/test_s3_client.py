"""S3 over a bad line: a server on a real socket that breaks the answers it is told to break."""

from __future__ import annotations

import io
import re
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.sections import Storage
from pipeline.errors import StorageError, StoreUnavailable
from pipeline.store.base import Entry
from pipeline.store.opening import Store, open_store
from pipeline.store.s3_client import PATIENCE, client, speaking

pytestmark = pytest.mark.s3

CODES = {
    "403": "AccessDenied",
    "400": "RequestTimeout",
    "409": "ConditionalRequestConflict",
    "429": "SlowDown",
}


class Line:
    """Objects by key, and what goes wrong with the next requests of a method."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.faults: defaultdict[str, list[str]] = defaultdict(list)
        self.requests: list[str] = []
        self.page = 1000


class Handler(BaseHTTPRequestHandler):
    """Enough of S3 for one bucket."""

    protocol_version = "HTTP/1.1"
    line: Line

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.serve()

    def do_GET(self) -> None:
        self.serve()

    def do_PUT(self) -> None:
        self.serve()

    def serve(self) -> None:
        self.line.requests.append(self.command)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        planned = self.line.faults[self.command]
        fault = planned.pop(0) if planned else ""
        if fault == "reset":
            self.close_connection = True
        elif fault.isdigit():
            self.refuse(int(fault), CODES.get(fault, "InternalError"))
        else:
            url = urlsplit(self.path)
            key = url.path.removeprefix("/bucket").removeprefix("/")
            if self.command == "PUT":
                self.put(key, body, lost=fault == "lost")
            elif "list-type" in parse_qs(url.query):
                self.list(parse_qs(url.query), cut=fault == "cut")
            elif key in self.line.objects:
                self.get(self.line.objects[key], cut=fault == "cut")
            else:
                self.refuse(404, "NoSuchKey")

    def put(self, key: str, body: bytes, *, lost: bool) -> None:
        there = self.line.objects.get(key)
        if self.headers.get("If-None-Match") == "*" and there is not None:
            return self.refuse(412, "PreconditionFailed")
        if self.headers.get("If-Match") and (
            there is None or self.headers["If-Match"] != tag(there).strip('"')
        ):
            return self.refuse(412, "PreconditionFailed")
        self.line.objects[key] = body
        if lost:  # carried out, and nobody hears of it
            self.close_connection = True
            return None
        return self.answer(200, b"", {"ETag": tag(body)})

    def get(self, data: bytes, *, cut: bool) -> None:
        status, headers = 200, {"ETag": tag(data), "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
        if self.headers.get("If-Match", tag(data)) != tag(data):
            return self.refuse(412, "PreconditionFailed")
        if found := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            first = int(found[1]) if found[1] else max(0, len(data) - int(found[2]))
            last = min(int(found[2]) if found[1] else len(data), len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            status, data = 206, data[first : last + 1]
        return self.answer(status, data, headers, cut=cut)

    def list(self, query: dict[str, list[str]], *, cut: bool) -> None:
        prefix, after = (
            query["prefix"][0] if "prefix" in query else "",
            query.get("continuation-token", [""])[0],
        )
        names = sorted(n for n in self.line.objects if n.startswith(prefix) and n > after)
        size = min(self.line.page, int(query.get("max-keys", ["1000"])[0]))
        more = len(names) > size
        items = "".join(
            f"<Contents><Key>{n}</Key><Size>{len(self.line.objects[n])}</Size><ETag>{tag(b'')}</ETag></Contents>"
            for n in names[:size]
        )
        token = f"<NextContinuationToken>{names[size - 1]}</NextContinuationToken>" if more else ""
        text = f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{items}</ListBucketResult>"
        self.answer(200, text.encode(), {"Content-Type": "application/xml"}, cut=cut)

    def refuse(self, status: int, code: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>planned</Message></Error>"
        self.answer(status, text.encode(), {"Content-Type": "application/xml"})

    def answer(self, status: int, data: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True


def tag(data: bytes) -> str:
    return f'"{hash(data) & 0xFFFFFFFF:x}"'


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def line(server: ThreadingHTTPServer, s3_account: None, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    Handler.line = Line()
    return Handler.line


@pytest.fixture
def bad_store(line: Line) -> Store:
    return open_store("s3://bucket/p", Storage())


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same number of attempts, without the waits between them."""
    monkeypatch.setattr(PATIENCE, "sleep", lambda seconds: None)


PASSING = ["cut", "reset", "500", "503", "400", "429"]


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_tried_again(line: Line, bad_store: Store, fault: str) -> None:
    line.objects["p/k"] = b"0123456789"
    line.faults["GET"] = [fault, fault]
    assert bad_store.get("k") == b"0123456789"
    assert line.requests == ["GET"] * 3


@pytest.mark.parametrize("fault", [f for f in PASSING if f != "cut"])
def test_a_write_is_tried_again(line: Line, bad_store: Store, fault: str) -> None:
    line.faults["PUT"] = [fault, fault]
    bad_store.put("k", b"data")
    assert line.objects == {"p/k": b"data"}
    assert len(line.requests) == 3


def test_patience_ends(line: Line, bad_store: Store, hasty: None) -> None:
    line.objects["p/k"] = b"data"
    line.faults["GET"] = ["503"] * 100
    with pytest.raises(StoreUnavailable) as raised:
        bad_store.get("k")
    assert (raised.value.uri, raised.value.attempts) == ("s3://bucket/p/k", 8)
    assert len(line.requests) == 8  # not eight times what boto would try by itself


def test_nobody_at_the_other_end_may_come_back(s3_account: None, hasty: None) -> None:
    with socket.socket() as reserved:  # bound and never listening: every connection is refused
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        store = open_store("s3://bucket/p", Storage(endpoint=f"http://127.0.0.1:{port}"))
        for ask in (lambda: store.get("k"), lambda: store.put("k", b""), lambda: list(store.list())):
            with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}"):
                ask()


def test_a_refusal_is_not_tried_again(line: Line, bad_store: Store) -> None:
    line.faults["GET"] = line.faults["PUT"] = ["403"] * 100
    with pytest.raises(StorageError, match="AccessDenied"):
        bad_store.get("k")
    with pytest.raises(StorageError, match="AccessDenied"):
        bad_store.put("k", b"")
    assert len(line.requests) == 2


@pytest.mark.parametrize("fault", ["cut", "reset", "503"])
def test_a_listing_goes_on_where_a_page_broke(line: Line, bad_store: Store, fault: str) -> None:
    line.objects = {f"p/{n:02d}": b"" for n in range(10)}
    line.page = 3
    entries = bad_store.list("")
    names = [next(entries).key for _ in range(3)]
    line.faults["GET"] = [fault]
    names += [entry.key for entry in entries]
    assert names == [f"{n:02d}" for n in range(10)]


@pytest.mark.parametrize("fault", ["lost", "503", "409", "reset"])
def test_creating_with_a_lost_answer_is_told_as_it_is(line: Line, bad_store: Store, fault: str) -> None:
    line.faults["PUT"] = [fault]
    assert bad_store.put_if_absent("k", b"mine")
    assert line.objects["p/k"] == b"mine"
    line.faults["PUT"] = [fault]
    assert not bad_store.put_if_absent("k", b"another")
    assert line.objects["p/k"] == b"mine"


@pytest.mark.parametrize("fault", ["lost", "503", "409", "reset"])
def test_replacing_with_a_lost_answer_is_told_as_it_is(line: Line, bad_store: Store, fault: str) -> None:
    bad_store.put("k", b"before")
    before = bad_store.get_tagged("k")[1]
    line.faults["PUT"] = [fault]
    assert bad_store.put_if_match("k", b"after", before)
    line.faults["PUT"] = [fault]
    assert not bad_store.put_if_match("k", b"later", before)
    assert line.objects["p/k"] == b"after"


def test_equal_bytes_of_another_writer_are_no_win(line: Line, bad_store: Store) -> None:
    line.objects["p/k"] = b"same"
    assert not bad_store.put_if_absent("k", b"same")


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": [f"{n}" for n in range(500)], "image": [b"x" * 100] * 500}), sink)
    return sink.getvalue()


@pytest.mark.parametrize("fault", ["cut", "reset", "503"])
def test_parquet_is_read_over_a_bad_line(line: Line, bad_store: Store, fault: str) -> None:
    line.objects["p/t.parquet"] = parquet()
    line.faults["GET"] = [fault]
    with bad_store.open("t.parquet") as file:
        assert pq.read_table(file).num_rows == 500
    assert not line.faults["GET"]


def test_a_refusal_comes_out_of_parquet_as_it_is(line: Line, bad_store: Store) -> None:
    line.objects["p/t.parquet"] = parquet()
    line.faults["GET"] = ["403"] * 100
    with pytest.raises(StorageError, match="AccessDenied"):
        pq.read_table(bad_store.open("t.parquet"))
    entry = Entry("t.parquet", len(parquet()), tag(parquet()))
    for read in (pq.read_table, pq.ParquetFile):
        with pytest.raises(StorageError, match="AccessDenied"):
            read(bad_store.open(entry.key, etag=entry.etag, size=entry.size))


def test_a_refusal_says_what_to_do() -> None:
    from botocore.exceptions import ClientError

    answer: Any = {
        "Error": {"Code": "PermanentRedirect"},
        "ResponseMetadata": {
            "HTTPStatusCode": 301,
            "HTTPHeaders": {"x-amz-bucket-region": "eu-north-1"},
        },
    }
    with pytest.raises(StorageError) as refused, speaking("s3://bucket/key"):
        raise ClientError(answer, "GetObject")
    message = str(refused.value)
    assert message.startswith("s3://bucket/key: S3 says PermanentRedirect; set storage.region")
    assert message.endswith("which is eu-north-1")


def test_requests_say_who_pays_and_carry_the_token(
    s3_endpoint: str, s3_account: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_KEY", "k")
    monkeypatch.setenv("OUR_SECRET", "s")
    monkeypatch.setenv("OUR_TOKEN", "canary-token")
    names = {"access_key_env": "OUR_KEY", "secret_key_env": "OUR_SECRET", "session_token_env": "OUR_TOKEN"}
    storage = Storage(endpoint=s3_endpoint, requester_pays=True, **names)
    sent: list[Any] = []
    made = client(storage)
    made.meta.events.register("before-send.s3", lambda request, **_: sent.append(dict(request.headers)))
    store = open_store("s3://bucket-who-pays/x", storage)
    made.create_bucket(Bucket="bucket-who-pays")
    store.put("k", b"1")
    assert store.get("k") == b"1"
    assert [entry.key for entry in store.list()] == ["k"]
    asked = [{name.lower(): value for name, value in headers.items()} for headers in sent[1:]]
    assert asked and all(headers["x-amz-request-payer"] in (b"requester", "requester") for headers in asked)
    assert all(headers["x-amz-security-token"] in (b"canary-token", "canary-token") for headers in asked)
    monkeypatch.delenv("OUR_TOKEN")
    with pytest.raises(StorageError, match="the environment variable OUR_TOKEN is not set"):
        client(storage)
