"""Mutated files of every format: none ends or hangs its decoder, or takes more memory than its pixels may."""

from __future__ import annotations

import json
import subprocess
import sys

COUNT = 500
MOST_MEMORY = 512  # MiB of a child: the interpreter with its libraries, and a million pixels


def test_no_mutated_file_ends_hangs_or_fills_its_decoder() -> None:
    # In a process of its own, since a child begins with its parent's peak of memory.
    command = [sys.executable, "-m", "tests.support.decode_fuzz", "--count", str(COUNT)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["ended"] == []
    assert found["plain"] == [], "pictures of one colour from files that hold more"
    assert found["decoded"] > COUNT / 10
    assert found["decoded"] + sum(found["refused"].values()) == COUNT
    assert found["memory_mib"] < MOST_MEMORY
