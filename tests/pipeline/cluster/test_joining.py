"""Joining a cluster."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from pipeline.cluster.joining import start
from pipeline.config.project import Config
from pipeline.errors import SystemFault


def test_a_cluster_that_does_not_answer_is_told_at_once(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    for name in ("RAY_DATA_DISABLE_PROGRESS_BARS", "RAY_AIR_NEW_OUTPUT", "TUNE_DISABLE_SIGINT_HANDLER"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(SystemFault, match=rf"RAY_ADDRESS='127.0.0.1:{port}' .*; see `ray status` there"):
        start(make_config())
