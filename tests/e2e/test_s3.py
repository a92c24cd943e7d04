"""The same config with workspace and pool on S3: the same query, and no secret left behind."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from tests.e2e.conftest import QUICKSTART, Demo, Terminal

pytestmark = [pytest.mark.ray, pytest.mark.s3]
SECRET = "canary-7f3a9c"


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_the_quickstart_runs_on_s3_unchanged(demo: Demo, endpoint: str, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    keys = {
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="someone",
        aws_secret_access_key=SECRET,
    )
    client.create_bucket(Bucket="bucket")
    arguments = ["run", str(QUICKSTART), "--rounds", "1"]
    for text in ("workspace=s3://bucket/quickstart", "pool.uri=s3://bucket/digits/pool"):
        arguments += ["--set", text]
    terminal.run(*arguments, env={**keys, "AWS_ENDPOINT_URL": endpoint})
    again = terminal.run(*arguments, "--set", f"storage.endpoint={endpoint}", env=keys)
    assert "nothing to do" in again.stderr

    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="bucket"):
        for item in page.get("Contents", []):
            found[item["Key"]] = client.get_object(Bucket="bucket", Key=item["Key"])["Body"].read()
    assert {
        "quickstart/rounds/000/round.json",
        "quickstart/mlflow/mlflow.db",
        "digits/truth/truth.parquet",
    } <= set(found)
    assert not (tmp_path / "runs").exists(), "nothing of the workspace is on the local disk"
    leaks = [key for key, data in found.items() if SECRET.encode() in data]
    assert not leaks
    ours = pq.read_table(io.BytesIO(found["quickstart/rounds/000/query.parquet"]))
    theirs = pq.read_table(demo.workspace / "rounds/000/query.parquet")
    assert ours.drop_columns("uri") == theirs.drop_columns("uri")
