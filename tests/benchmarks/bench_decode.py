"""Decoding against a plain Pillow loop, as ratios from one run; nothing here asserts on time.

    python tests/benchmarks/bench_decode.py               images of its own making
    python tests/benchmarks/bench_decode.py --data DIR    DIR/cifar10 and DIR/miniplaces: Parquet of images

The loop opens, converts to RGB, scales the short side, crops the middle and makes an array of each image, and stops
at the first that is broken. The two sides take turns, by the processor time of one core; ratios are of medians, and
above 1 ours is faster.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from pipeline.images.decode import Transform, decode_batch
from pipeline.images.decode_apart import decode_apart

ROUNDS = 15


def plain_loop(images: list[bytes], size: int) -> list[np.ndarray]:
    arrays = []
    for data in images:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        short = min(image.size)
        if short != size:
            shape = (size * image.width // short, size * image.height // short)
            image = image.resize(shape, Image.Resampling.BILINEAR)
        left, top = (image.width - size) // 2, (image.height - size) // 2
        arrays.append(np.asarray(image.crop((left, top, left + size, top + size))))
    return arrays


def medians(clock: Callable[[], float], *sides: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    times: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side()
    for _ in range(rounds):
        for side, seen in zip(sides, times, strict=True):
            begin = clock()
            side()
            seen.append(clock() - begin)
    return [statistics.median(seen) for seen in times]


def made(kind: str, width: int, height: int, count: int) -> list[bytes]:
    """Pictures with about as much detail as photographs."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(count):
        coarse = rng.integers(0, 256, (max(4, height // 8), max(4, width // 8), 3), np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        sink = io.BytesIO()
        image.save(sink, kind)
        files.append(sink.getvalue())
    return files


def read(folder: Path, count: int) -> list[bytes]:
    file = next(iter(sorted(folder.glob("*.parquet"))))
    return pq.ParquetFile(file).read_row_group(0, columns=["image"])["image"].to_pylist()[:count]


def sets(data: Path | None) -> Iterator[tuple[str, list[bytes], int]]:
    if data:
        yield "CIFAR-10, 32 x 32 PNG", read(data / "cifar10", 1000), 32
        yield "MiniPlaces, 128 x 128 JPEG to 64", read(data / "miniplaces", 400), 64
    else:
        yield "32 x 32 PNG", made("PNG", 32, 32, 1000), 32
        yield "128 x 128 JPEG to 64", made("JPEG", 128, 128, 400), 64
    yield "500 x 375 JPEG to 224", made("JPEG", 500, 375, 50), 224


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    data = parser.parse_args().data
    print(
        "| decoding | against a plain loop | at least | images per second and core |\n| --- | --- | --- | --- |"
    )
    for name, images, size in sets(data):
        transform = Transform(size, None, "bilinear", 50_000_000)

        def ours(images: list[bytes] = images, transform: Transform = transform) -> object:
            return decode_batch(images, transform)

        def rival(images: list[bytes] = images, size: int = size) -> object:
            return plain_loop(images, size)

        mine, others = medians(time.process_time, ours, rival)
        print(f"| {name} | {others / mine:.2f} | 1.0 | {len(images) / mine:,.0f} |", flush=True)
    images = made("PNG", 32, 32, 1000)
    transform = Transform(32, None, "bilinear", 50_000_000)
    here, apart = medians(
        time.perf_counter,
        lambda: decode_batch(images, transform),
        lambda: decode_apart(images, transform, timeout_s=60.0),
        rounds=5,
    )
    print(f"\n1,000 clean images of 32 x 32, decoded apart: {apart:.2f} s instead of {here:.2f} s")


if __name__ == "__main__":
    main()
