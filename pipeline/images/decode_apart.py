"""Decoding in child processes, for images that kill or hang a decoder.

A child answers image by image, so its death points at the image that it had in hand. That one is tried once more,
alone: it is bad only if it ends that child too, and not when the machine, or an image before it, was to blame. So
a clean batch costs one start, and each poisonous image two more.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.errors import SystemFault
from pipeline.images.decode import Decoded, Transform, decode_batch

Images = Sequence[bytes | memoryview | None]

_SETTINGS = b"settings"
_IMAGES = pa.schema([("image", pa.large_binary())])
_ANSWERS = pa.schema([("pixels", pa.large_binary()), ("reason", pa.string())])


def decode_apart(images: Images, transform: Transform, *, timeout_s: float) -> Decoded:
    """Decode as `decode_batch` does, in a child process.

    Args:
        images: encoded image files.
        transform: what becomes of them.
        timeout_s: seconds that one image may take.

    Returns:
        What `decode_batch` returns; images that end their decoder are bad, with a reason such as
        `kills its decoder (signal 11)` or `hangs its decoder (more than 60 s)`.

    Raises:
        SystemFault: a child could not even begin.
    """
    answers: list[tuple[Any, str | None]] = []
    while len(answers) < len(images):
        given, death = _ask(images[len(answers) :], transform, timeout_s)
        answers += given
        if death:
            again, death = _ask(images[len(answers) : len(answers) + 1], transform, timeout_s)
            answers += again or [(None, death)]
    bad = [i for i, (_, reason) in enumerate(answers) if reason is not None]
    good = [i for i, (_, reason) in enumerate(answers) if reason is None]
    pixels = np.empty((len(good), 3, transform.size, transform.size), np.uint8)
    for place, i in enumerate(good):
        pixels[place] = np.frombuffer(answers[i][0], np.uint8).reshape(pixels.shape[1:])
    return Decoded(pixels, good, bad, [reason for _, reason in answers if reason is not None])


def _ask(images: Images, transform: Transform, timeout_s: float) -> tuple[list[tuple[Any, str | None]], str]:
    """Return a child's answers, and how it ended if some are missing.

    An answer is (pixels, reason); the text is empty if all images have one.
    """
    answers: list[tuple[Any, str | None]] = []
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-P", "-m", "pipeline.images.decode_apart"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=_environment()
        ) as child:
            assert child.stdin
            assert child.stdout
            try:
                _send(images, {"transform": asdict(transform), "timeout_s": timeout_s}, child.stdin)
                reader = pa.ipc.open_stream(child.stdout)
                reader.read_next_batch()  # an empty one: it has begun
            except (OSError, StopIteration, pa.ArrowException):
                child.kill()
                log.seek(0)
                said = " ".join(log.read().decode(errors="replace").split())[-500:]
                raise SystemFault(
                    f"a child that decodes images could not begin ({child.wait()}): {said}"
                ) from None
            try:
                for batch in reader:
                    answers.append((batch["pixels"][0].as_buffer(), batch["reason"][0].as_py()))
            except (OSError, pa.ArrowException):
                pass  # it ended in the middle of an answer
    if len(answers) == len(images):
        return answers, ""
    if child.returncode == -signal.SIGALRM:
        return answers, f"hangs its decoder (more than {timeout_s:g} s)"
    how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit status {child.returncode}"
    return answers, f"kills its decoder ({how})"


_NEEDED = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "LANG", "LC_ALL", "TMPDIR")


def _environment() -> dict[str, str]:
    """Return the variables that a Python needs to start, and no secret.

    The package is found from any working directory.
    """
    home = str(Path(__file__).resolve().parents[2])
    path = os.environ.get("PYTHONPATH")
    kept = {name: os.environ[name] for name in _NEEDED if name in os.environ}
    return kept | {"PYTHONPATH": f"{path}{os.pathsep}{home}" if path else home}


def _send(images: Images, settings: dict[str, Any], sink: Any) -> None:
    schema = _IMAGES.with_metadata({_SETTINGS: json.dumps(settings).encode()})
    with sink, pa.ipc.new_stream(sink, schema) as writer:
        for data in images:
            writer.write_batch(pa.record_batch([pa.array([data], pa.large_binary())], schema=schema))


def main() -> None:
    """Decode images from standard input, and answer on standard output."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what decoders print must not mix with the answers
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # An alarm ends the process wherever it is, even if nobody waits for it any more.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    with pa.ipc.open_stream(sys.stdin.buffer) as reader:
        settings = json.loads(reader.schema.metadata[_SETTINGS])
        images = [batch["image"][0].as_py() for batch in reader]  # all, before any answer: neither side waits
    transform = Transform(**settings["transform"])
    Image.preinit()  # the formats' modules, whose import is not the first image's time
    with pa.ipc.new_stream(answers, _ANSWERS) as writer:
        writer.write_batch(_answer([], []))
        answers.flush()
        for data in images:
            signal.setitimer(signal.ITIMER_REAL, settings["timeout_s"])
            decoded = decode_batch([data], transform)
            signal.setitimer(signal.ITIMER_REAL, 0)
            pixels = [decoded.pixels.tobytes()] if decoded.good else [None]
            writer.write_batch(_answer(pixels, decoded.reasons or [None]))
            answers.flush()


def _answer(pixels: Sequence[bytes | None], reasons: Sequence[str | None]) -> pa.RecordBatch:
    columns = [pa.array(pixels, pa.large_binary()), pa.array(reasons, pa.string())]
    return pa.record_batch(columns, schema=_ANSWERS)


if __name__ == "__main__":
    main()
