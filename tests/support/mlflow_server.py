"""A real `mlflow server` on SQLite and loopback, in a process group of its own, that can be killed and come back."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.progress_wait import until


class MlflowServer:
    """Keeps its database and artefacts in `folder`, and its port for life."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        """Its SQLite file."""
        return self._folder / "server.db"

    def start(self, most_bytes: int | None = None) -> None:
        """Start it, and wait until it answers; with `most_bytes`, no file that it writes can grow beyond."""

        def limit() -> None:
            if most_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

        command = [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--backend-store-uri", f"sqlite:///{self.database}"),
            *("--artifacts-destination", str(self._folder / "artefacts")),
        ]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, start_new_session=True, stdout=log, stderr=log, preexec_fn=limit
            )
        words = (self._folder / "server.log").read_text
        until(self._answers, self._process, folders=[self._folder], words=words)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    """A server that is started, and gone in the end."""
    server = MlflowServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
