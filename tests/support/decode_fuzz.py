"""Mutated files of every format through the decoder: what becomes of them, and what it costs.

python -m tests.support.decode_fuzz --count 6000
"""

from __future__ import annotations

import argparse
import json
import resource
from collections import Counter
from typing import Any

import numpy as np

from pipeline.images.decode import Transform
from pipeline.images.decode_apart import decode_apart
from pipeline.images.picture import picture
from tests.support.corpus import MAX_PIXELS
from tests.support.odd_images import whole

TRANSFORM = Transform(32, None, "bilinear", MAX_PIXELS)
SECONDS = 20.0  # one image may take
TOP = (0, 1, 0x7F, 0x80, 0xFF)
AT_ONCE = 250


def mutated(data: bytes, chance: np.random.Generator) -> bytes:
    """The file with one to four small damages: bits, bytes, numbers, pieces lost, doubled or put between."""
    found = bytearray(data)
    for _ in range(int(chance.integers(1, 5))):
        size = len(found)
        near = int(chance.integers(0, min(size, 256) if chance.random() < 0.5 else size))
        match int(chance.integers(0, 6)):
            case 0:
                found[near] ^= 1 << int(chance.integers(0, 8))
            case 1:
                found[near] = int(chance.choice(TOP))
            case 2:
                found[near : near + 4] = bytes([int(chance.choice(TOP))]) * len(found[near : near + 4])
            case 3:
                del found[near : near + int(chance.integers(1, 33))]
            case 4:
                found[near:near] = found[near : near + int(chance.integers(1, 33))]
            case _:
                found[near:near] = chance.bytes(int(chance.integers(1, 17)))
        if not found:
            return b""
    return bytes(found)


def fuzz(count: int, seed: int) -> dict[str, Any]:
    """Decode that many mutated files in child processes.

    Returns:
        How many were decoded, how many refused by kind of reason; which ended or hung their decoder, which came out in
        one colour although no file of the corpus is; and the most memory of a child, in MiB.
    """
    chance = np.random.default_rng(seed)
    originals = list(dict(whole(chance)).items())
    kinds: Counter[str] = Counter()
    ended, plain, good = [], [], 0
    for start in range(0, count, AT_ONCE):
        picked = [originals[i % len(originals)] for i in range(start, min(start + AT_ONCE, count))]
        files = [mutated(data, chance) for _, data in picked]
        found = decode_apart(files, TRANSFORM, timeout_s=SECONDS)
        good += len(found.good)
        plain += [picked[i][0] for i in found.good if of_one_colour(files[i])]
        for i, reason in zip(found.bad, found.reasons, strict=True):
            kinds[reason.partition(":")[0]] += 1
            if "its decoder" in reason:
                ended.append(f"{picked[i][0]} {reason}")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    return {"decoded": good, "refused": dict(kinds), "ended": ended, "plain": plain, "memory_mib": memory}


def of_one_colour(data: bytes) -> bool:
    """Whether a whole picture is of one colour."""
    pixels = np.asarray(picture(data, MAX_PIXELS))
    return bool((pixels == pixels[0, 0]).all())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=20_405)
    options = parser.parse_args()
    print(json.dumps(fuzz(options.count, options.seed)))
