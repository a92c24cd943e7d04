"""The same config with workspace and pool on S3, killed and gone on: the same query, and no secret left anywhere."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from tests.e2e.conftest import QUICKSTART, Demo, Terminal
from tests.support.progress_wait import finished, until

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.quick]
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "canary-7f3a9c",
    "OUR_OWN_SECRET": "canary-51b0de",  # that `storage.secret_key_env` names
    "MLFLOW_TRACKING_PASSWORD": "canary-c4d172",
}
ROUND = "quickstart/rounds/000/"
PASSWORD = "canary-08e6bb"  # in the URI of a server


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def leaks(data: bytes) -> list[str]:
    return [secret for secret in (*SECRETS.values(), PASSWORD) if secret.encode() in data]


def read(client: Any, key: str) -> bytes:
    data: bytes = client.get_object(Bucket="bucket", Key=key)["Body"].read()
    return data


def keys_below(client: Any, prefix: str) -> list[str]:
    """The keys below a prefix."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def parts(client: Any) -> list[str]:
    """The finished shards of the round."""
    return keys_below(client, f"{ROUND}parts/")


def leaking(folder: Path) -> list[tuple[str, list[str]]]:
    """The files that hold a secret."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    found = ((str(path), leaks(path.read_bytes())) for path in files)
    return [(path, held) for path, held in found if held]


def test_killed_while_it_scores_on_s3_the_quickstart_ends_unchanged(
    request: pytest.FixtureRequest, endpoint: str, tmp_path: Path, ray_folder: Path
) -> None:
    terminal = Terminal(tmp_path)
    keys = {
        **SECRETS,
        "AWS_ACCESS_KEY_ID": "someone",
        "OUR_OWN_KEY": "someone",
        "AWS_DEFAULT_REGION": "us-east-1",
        "RAY_TMPDIR": str(ray_folder),
    }
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="someone",
        aws_secret_access_key="whatever",
    )
    client.create_bucket(Bucket="bucket")
    arguments = ["run", str(QUICKSTART), "--rounds", "1"]
    for text in (
        "workspace=s3://bucket/quickstart",
        "pool.uri=s3://bucket/digits/pool",
        "storage.access_key_env=OUR_OWN_KEY",
        "storage.secret_key_env=OUR_OWN_SECRET",
        "resources.actors=1",  # which changes no byte
    ):
        arguments += ["--set", text]
    here = {**keys, "AWS_ENDPOINT_URL": endpoint}
    killed = terminal.start(*arguments, env=here)

    def in_scoring() -> bool:
        return bool(parts(client)) and not keys_below(client, f"{ROUND}account.json")

    until(in_scoring, killed, folders=[tmp_path], pause_s=0.5)
    os.kill(killed.pid, signal.SIGKILL)
    out, err = finished(killed, folders=[tmp_path])
    told = [subprocess.CompletedProcess(arguments, killed.returncode, out, err)]
    assert killed.returncode == -signal.SIGKILL
    finished_rows = sum(pq.read_metadata(io.BytesIO(read(client, key))).num_rows for key in parts(client))
    assert finished_rows > 0
    told.append(terminal.run(*arguments, env=here))
    listed = json.loads(read(client, f"{ROUND}metrics.json"))["listed"]
    scored = json.loads(read(client, f"{ROUND}timings/score.json"))["images"]
    assert scored == listed - finished_rows, "a finished shard was scored again"
    assert any((ray_folder / "ray").rglob("*.out")), "this Ray's logs are here"

    client.delete_object(
        Bucket="bucket", Key="quickstart/rounds/000/tracking.json"
    )  # as after an outage of MLflow
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        uri = f"http://ann:{PASSWORD}@127.0.0.1:{nobody.getsockname()[1]}"
        sets = ("--set", f"storage.endpoint={endpoint}", "--set", f"tracking.uri={uri}")
        told.append(terminal.run(*arguments, *sets, env=keys))
    assert "nothing to do" in told[-1].stderr
    assert "not now" in told[-1].stderr and "***@127.0.0.1" in told[-1].stderr

    found = {key: read(client, key) for key in keys_below(client, "")}
    assert {
        "quickstart/rounds/000/round.json",
        "quickstart/mlflow/mlflow.db",
        "digits/truth/truth.parquet",
    } <= set(found)
    assert not (tmp_path / "runs").exists(), "nothing of the workspace is on the local disk"
    assert not [(key, leaks(data)) for key, data in found.items() if leaks(data)]
    assert not [
        leaks((end.stdout + end.stderr).encode()) for end in told if leaks((end.stdout + end.stderr).encode())
    ]
    assert not leaking(ray_folder)
    assert not leaking(tmp_path)
    ours = pq.read_table(io.BytesIO(found["quickstart/rounds/000/query.parquet"]))
    first_round: Demo = request.getfixturevalue("first_round")  # another process may make it meanwhile
    theirs = pq.read_table(first_round.workspace / "rounds/000/query.parquet")
    assert ours.drop_columns("uri") == theirs.drop_columns("uri")


@pytest.mark.parametrize(
    "sets",
    [
        ["tracking.uri=" + f"http://ann:{PASSWORD}@h/" + "x" * 5000],
        [
            "storage.access_key_env=OUR_OWN_KEY",
            "storage.secret_key_env=NOT_SET",
            "workspace=s3://bucket/w",
        ],
    ],
)
def test_what_goes_wrong_tells_no_secret(sets: list[str], endpoint: str, tmp_path: Path) -> None:
    keys = {
        **SECRETS,
        "AWS_ACCESS_KEY_ID": "someone",
        "OUR_OWN_KEY": "someone",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    words = [word for text in sets for word in ("--set", text)]
    end = Terminal(tmp_path).run(
        "run", str(QUICKSTART), *words, env={**keys, "AWS_ENDPOINT_URL": endpoint}, expect=2
    )
    assert not leaks((end.stdout + end.stderr).encode()), end.stderr
    assert not leaking(tmp_path)


def test_a_config_is_shown_without_its_passwords(tmp_path: Path) -> None:
    sets = (
        "--set",
        f"tracking.uri=http://ann:{PASSWORD}@host",
        "--set",
        f"storage.endpoint=http://b:{PASSWORD}@s3",
    )
    shown = Terminal(tmp_path).run("config", "show", str(QUICKSTART), *sets).stdout
    assert "http://***@host" in shown and "http://***@s3" in shown
    assert not leaks(shown.encode())
