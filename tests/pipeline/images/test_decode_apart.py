"""Images that kill or hang their decoder are found, and only they: real processes die here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipeline.images.decode
from pipeline.errors import SystemFault
from pipeline.images.decode import Transform, decode_batch
from pipeline.images.decode_apart import decode_apart
from tests.support.corpus import encoded, photo, poisoned

POISON = Path(__file__).parents[2] / "support" / "poison"
TRANSFORM = Transform(16, 20, "bicubic", 1_000_000)
CHANCE = np.random.default_rng(0)
IMAGES = [encoded(photo(CHANCE), kind) for kind in ("PNG", "JPEG") for _ in range(10)]


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The poison is at work in children, whose numbers are kept; the decoder of this process is well."""
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{POISON}{os.pathsep}{before}" if before else str(POISON))
    seen: list[int] = []
    real = subprocess.Popen

    class Counting(real):  # type: ignore[valid-type,misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            seen.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", Counting)
    yield seen
    for pid in seen:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def check(images: list[Any], reasons: dict[int, str], timeout_s: float = 60.0) -> None:
    """All but `reasons` are as they would be without a bug in the decoder."""
    apart = decode_apart(images, TRANSFORM, timeout_s=timeout_s)
    assert dict(zip(apart.bad, apart.reasons, strict=True)) == reasons
    assert apart.good == [i for i in range(len(images)) if i not in reasons]
    assert (apart.pixels == decode_batch([images[i] for i in apart.good], TRANSFORM).pixels).all()
    assert apart.pixels.shape == (len(apart.good), 3, 16, 16)


def test_a_clean_batch_costs_one_start(starts: list[int]) -> None:
    check([*IMAGES, None, b"", memoryview(IMAGES[0])], {20: "no bytes", 21: "no bytes"})
    assert len(starts) == 1


def test_nothing_costs_nothing(starts: list[int]) -> None:
    check([], {})
    assert not starts


@pytest.mark.parametrize("place", [0, 19])
def test_what_kills_is_bad_wherever_it_stands(place: int, starts: list[int]) -> None:
    images = [*IMAGES]
    images[place] = poisoned(images[place], "SEGV")
    check(images, {place: "kills its decoder (signal 11)"})
    assert len(starts) == 3 - (place == 19)


@pytest.mark.slow
def test_several_ways_to_die(starts: list[int]) -> None:
    images = [*IMAGES]
    ways = {2: "KILL", 3: "ABRT", 11: "EXIT"}
    for place, how in ways.items():
        images[place] = poisoned(images[place], how)  # type: ignore[arg-type]
    says = {"KILL": "signal 9", "ABRT": "signal 6", "EXIT": "exit status 7"}
    check(images, {place: f"kills its decoder ({says[how]})" for place, how in ways.items()})
    assert len(starts) == 1 + 2 * len(ways)


def test_what_hangs_is_bad_and_a_slow_batch_is_not(starts: list[int]) -> None:
    images = [*IMAGES[:3], poisoned(IMAGES[3], "HANG"), *IMAGES[4:]]
    check(images, {3: "hangs its decoder (more than 2 s)"}, timeout_s=2)
    assert len(starts) == 3


@pytest.mark.slow
def test_an_ignored_alarm_rings_all_the_same(starts: list[int]) -> None:
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)  # children inherit it
    try:
        check([poisoned(IMAGES[0], "HANG")], {0: "hangs its decoder (more than 2 s)"}, timeout_s=2)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_who_dies_only_once_is_innocent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first child is killed from outside, at an image that is as good as any."""
    once = tmp_path / "once"
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\n"
        "from PIL import Image\n"
        "real = Image.open\n"
        "seen = 0\n"
        "def once(fp, *args, **kwargs):\n"
        "    global seen\n"
        "    seen += 1\n"
        f"    if seen == 5 and not os.path.exists({str(once)!r}):\n"
        f"        open({str(once)!r}, 'w').close()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(fp, *args, **kwargs)\n"
        "Image.open = once\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check(IMAGES, {})
    assert once.exists()


def test_the_working_directory_is_no_place_for_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "numpy.py").write_text("raise SystemExit('shadowed')\n")
    check(IMAGES, {})


def test_the_child_runs_the_code_of_its_parent(tmp_path: Path) -> None:
    """A copy of the package, which the parent alone was told of, from another working directory."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(Path(pipeline.images.decode.__file__).parents[1], home / "pipeline")
    source = (home / "pipeline" / "images" / "formats.py").read_text()
    (home / "pipeline" / "images" / "formats.py").write_text(source.replace("no bytes", "no bytes at all"))
    script = (
        f"import sys; sys.path.insert(0, {str(home)!r})\n"
        "from pipeline.images.decode import Transform\n"
        "from pipeline.images.decode_apart import decode_apart\n"
        "print(*decode_apart([None], Transform(8, None, 'bilinear', 9), timeout_s=60).reasons)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=elsewhere, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("no bytes at all\n", "")


def test_a_child_that_cannot_begin_blames_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyarrow.py").write_text("raise SystemExit('no room for a child')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SystemFault, match="no room for a child"):
        decode_apart([IMAGES[0] * 100], TRANSFORM, timeout_s=60)


def test_a_decoder_may_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "from PIL import Image\n"
        "real = Image.open\n"
        "Image.open = lambda *args, **kwargs: os.write(1, b'chatter') and real(*args, **kwargs)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check(IMAGES, {})


def test_more_than_a_pipe_holds_either_way(starts: list[int]) -> None:
    rng = np.random.default_rng(1)
    images = [encoded(photo(rng, 200, 200), "BMP") for _ in range(30)]
    transform = Transform(128, None, "bilinear", 1_000_000)
    apart = decode_apart(images, transform, timeout_s=60)
    assert (apart.pixels == decode_batch(images, transform).pixels).all()
    assert len(starts) == 1


def test_a_child_is_told_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its decoder is the one that may be taken over: what it does not know, it can't tell."""
    seen = tmp_path / "seen"
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, pathlib\npathlib.Path({str(seen)!r}).write_text(repr(dict(os.environ)))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in (
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "POOL_SECRET",
        "RAY_AUTH_TOKEN",
        "MLFLOW_TOKEN",
    ):
        monkeypatch.setenv(name, "canary")
    assert len(decode_apart(IMAGES[:2], TRANSFORM, timeout_s=60).good) == 2
    assert "canary" not in seen.read_text()
    assert "PYTHONPATH" in seen.read_text()
