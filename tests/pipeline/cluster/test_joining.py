"""Joining a cluster."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cluster import joining
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


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("AF_UNIX path length cannot exceed 107 bytes: /scratch/...", "set RAY_TMPDIR to a short one"),
        ("The current node timed out during startup.", "try again when less runs"),
        ("[Errno 28] No space left on device: '/tmp/ray'", "make room in its folder (/tmp)"),
        ("[Errno 13] Permission denied: '/tmp/ray'", "set RAY_TMPDIR to another"),
        ("[Errno 98] Address already in use", "by `ray stop`"),
        ("nobody has seen this before", "see its logs in /tmp/ray"),
    ],
)
def test_a_ray_that_does_not_start_is_one_sentence(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, said: str, remedy: str
) -> None:
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)

    def refuse(**_: object) -> None:
        raise Exception(said)  # as Ray does when a start takes too long

    monkeypatch.setattr(joining.ray, "init", refuse)
    with pytest.raises(SystemFault) as raised:
        start(make_config())
    text = str(raised.value)
    assert text.startswith(f"Ray does not start on this machine ({said})") and remedy in text
    assert "\n" not in text


def test_a_long_temporary_folder_is_told_by_ray_itself(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the real Ray, whose sockets have no room there."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(SystemFault, match="too long a path: set RAY_TMPDIR to a short one"):
        start(make_config())


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (
            "The current node timed out during startup. This could happen because",
            "the machine may be too busy",
        ),
        ("supported reports failed", "the machine may be too busy"),
        ("Requested 9 bytes, which exceeds /dev/shm size", "make room in /dev/shm"),
    ],
)
def test_what_ray_raises_bare_is_a_sentence_too(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, said: str, remedy: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def refuse(**_: object) -> None:
        raise Exception(said)

    monkeypatch.setattr(joining.ray, "init", refuse)
    with pytest.raises(SystemFault, match=remedy):
        start(make_config())
