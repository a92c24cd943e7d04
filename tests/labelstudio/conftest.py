"""A real Label Studio on loopback, in an environment of its own; only `make test-labelstudio` collects these tests."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from tests.support.progress_wait import end, until

PROGRAM = os.environ.get("SISOM_LABEL_STUDIO")
collect_ignore_glob = [] if PROGRAM else ["test_*.py"]


@dataclass(frozen=True)
class LabelStudio:
    """What its API answers."""

    url: str
    token: str

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Token {self.token}", "Content-Type": "application/json"}
        try:
            with urlopen(Request(f"{self.url}{path}", data, headers, method=method)) as answer:
                return json.loads(answer.read() or b"null")
        except HTTPError as error:
            pytest.fail(f"{method} {path}: {error.code} {error.read()[:2000].decode(errors='replace')}")


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    folder = tmp_path_factory.mktemp("label-studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = LabelStudio(f"http://127.0.0.1:{port}", secrets.token_hex(20))
    command = [
        str(PROGRAM), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port),
        "--data-dir", str(folder / "data"), "--username", "lead@example.com", "--password", secrets.token_hex(8),
        "--user-token", found.token, "--enable-legacy-api-token",
    ]  # fmt: skip
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "COLLECT_ANALYTICS": "false",  # it speaks to nobody
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    log = folder / "log.txt"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, env=environment, stdout=sink, stderr=subprocess.STDOUT, cwd=folder
        )
    try:
        words = lambda: log.read_text(errors="replace")[-3000:]  # noqa: E731
        until(lambda: _answers(found), process, folders=[folder], words=words, pause_s=1.0)
        yield found
    finally:
        end(process)


def _answers(found: LabelStudio) -> bool:
    try:
        found.ask("GET", "/api/version")
    except (URLError, ConnectionError):
        return False
    return True
