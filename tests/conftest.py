"""What all tests share: a clean environment, shapes enforced at run time, and a real S3 endpoint on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

from tests.support import seeds

if "sisom" not in sys.modules:
    # Before any test module can import the library, and left in place: every call in every test is checked.
    install_import_hook("sisom", "beartype.beartype")
    import sisom  # noqa: F401

from pipeline.config.project import Config
from pipeline.config.sections import Storage
from pipeline.store.opening import Store, open_store

# In the background of a shell Ctrl-C is ignored, and so it would be by every command that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A shared machine may stall anywhere: no example is too slow.
settings.register_profile("sisom", deadline=None)
settings.load_profile("sisom")


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the machine's own accounts and clusters leaks in."""
    nowhere = str(tmp_path_factory.mktemp("nowhere") / "none")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AWS_", "RAY_", "MLFLOW_")):
                patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", nowhere)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session")
def trained_seed() -> int:
    """The seed of every network that tests train; no test may notice which one it is."""
    return seeds.trained_seed()


@pytest.fixture
def patient_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for an MLflow that answers, however slowly; lines that break do so at once."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3600")
    monkeypatch.setattr("pipeline.track.tracker.GIVE_UP_S", 3600.0)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3 server on loopback, for all tests of a run: moto's, or the one that `make test-s3` started."""
    if given := os.environ.get("SISOM_S3_ENDPOINT"):
        yield given
        return
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that are nobody's, and those of the server that `make test-s3` starts."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-d41d8cd98f")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def s3_bucket(
    request: pytest.FixtureRequest, s3_endpoint: str, s3_account: None, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The URI of a new, empty bucket, of the same name whichever tests run."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    uri = f"s3://bucket-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]}"
    store: Any = open_store(uri, Storage())
    store.client.create_bucket(Bucket=store.bucket)
    return uri


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def base_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place, on disk and on S3 in turn."""
    if request.param == "local":
        return str(tmp_path / "some place")
    bucket: str = request.getfixturevalue("s3_bucket")
    return f"{bucket}/some place"


@pytest.fixture
def store(base_uri: str) -> Store:
    """An empty store, on disk and on S3 in turn."""
    return open_store(base_uri, Storage())


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Config]:
    """A small valid config; keyword arguments replace its keys."""

    def make(**changes: Any) -> Config:
        plain: dict[str, Any] = {
            "workspace": "unused",
            "taxonomy": ["cat", "dog"],
            "pool": {"uri": "unused"},
            "oracle": {"kind": "simulated", "truth": "unused"},
        }
        return Config.model_validate_json(json.dumps(plain | changes))

    return make
