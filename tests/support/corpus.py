"""Broken and odd image files, each with its fate: what a pool of the open world may hold.

    python -m tests.support.corpus OUT [--seed N] [--as folder|parquet|tars]

The same seed makes the same bytes (with the same release of Pillow). No image that is to be scored has more than
MAX_PIXELS pixels; every bomb claims more than any sane limit.
"""

from __future__ import annotations

import argparse
import io
import itertools
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.support import odd_images
from tests.support.odd_images import EXTENSIONS, encoded, photo

MAX_PIXELS = 1_000_000


@dataclass(frozen=True)
class Case:
    """A file: its name, its bytes and what must become of it.

    Names are without folders, and unique even without their extension.
    `reason` is how the quarantine's reason begins; None where it is scored, or where several would be right.
    """

    name: str
    data: bytes
    fate: Literal["scored", "quarantined"]
    reason: str | None = None


def cases(seed: int = 0) -> list[Case]:
    """At least 300 cases, names unique, in a fixed order."""
    chance = np.random.default_rng(seed)
    whole = dict(odd_images.whole(chance))
    made = [Case(name, data, "scored") for name, data in whole.items()]
    made += [Case(f"odd shape {name}", data, "scored") for name, data in odd_images.shapes(chance)]
    made += [Case(f"much metadata {name}", data, "scored") for name, data in odd_images.metadata(chance)]
    made += [
        Case(f"garbage after {name}", data + chance.bytes(100), "scored") for name, data in whole.items()
    ]
    made += _truncated(whole)
    made += _renamed(chance)
    made += _hostile_names(chance)
    made += _duplicates(chance)
    made += [
        Case(f"not an image {name}", data, "quarantined", why)
        for name, data, why in odd_images.other_files(chance)
    ]
    made += [Case(f"bomb {name}", data, "quarantined", "too m") for name, data in odd_images.bombs()]
    made += [
        Case(f"broken {name}", data, "quarantined", why) for name, data, why in odd_images.broken(chance)
    ]
    return made


def poisoned(data: bytes, how: Literal["SEGV", "KILL", "ABRT", "EXIT", "HANG"]) -> bytes:
    """The same picture, which ends its decoder where `poison/` is on PYTHONPATH, and is good elsewhere."""
    return data + b"POISON:" + how.encode()


# ------------------------------------------------------------------------------------------- places and names


def _truncated(whole: dict[str, bytes]) -> list[Case]:
    """Every format cut at many places, well before the end of its pixels."""
    made = []
    names = (
        "plain PNG.png", "mode P PNG.png", "mode I 16 PNG.png", "plain JPEG.jpg", "mode CMYK JPEG.jpg",
        "progressive JPEG.jpg", "plain GIF.gif", "plain WEBP.webp", "lossless WEBP.webp", "plain BMP.bmp",
        "plain TIFF.tif", "packed by tiff_lzw TIFF.tif", "mode RGB AVIF.avif", "mode RGB JPEG2000.jp2",
        "mode RGB PPM.ppm", "mode F PPM.ppm", "mode RGB SGI.sgi", "mode RGB DDS.dds",
    )  # fmt: skip
    for name, percent in itertools.product(names, (1, 3, 6, 10, 20, 35, 50, 65, 80)):
        stem, _, extension = name.rpartition(".")
        data = whole[name]
        cut = max(1, len(data) * percent // 100)
        made.append(Case(f"{stem} cut at {percent}.{extension}", data[:cut], "quarantined"))
    return made


def _renamed(chance: np.random.Generator) -> list[Case]:
    kinds = list(EXTENSIONS)
    pairs = [(kind, EXTENSIONS[kinds[(i + 1) % len(kinds)]]) for i, kind in enumerate(kinds)]
    pairs += [("PNG", "PNG"), ("JPEG", "JPG"), ("JPEG", "jpeg"), ("TIFF", "tiff"), ("WEBP", "Webp")]
    return [
        Case(f"{kind} that is called {extension}.{extension}", encoded(photo(chance), kind), "scored")
        for kind, extension in pairs
    ]


def _hostile_names(chance: np.random.Generator) -> list[Case]:
    names = (
        "line\nbreak", "return\rhere", "tab\there", "quote'quote", 'double"quote', "back\\slash", "comma,semi;colon",
        "<script>alert(1)<%2Fscript>", "&amp;", "-rf", "--help", "%2F%2e%2e%2F", "100% sure", "a+b", "#fragment",
        "question?x=1", "s3:", "$(touch x)", "`touch x`", "{{ 7*7 }}", "*", "~", "two  spaces ", " lead", "Case",
        "case", "CASE", "emoji \U0001f600\U0001f1e6", "\u05e2\u05d1\u05e8\u05d9\u05ea", "\u202egnp", "e\u0301",
        "\u00e9", "\u65e5\u672c\u8a9e", "zero\u200bwidth", "bell\x07", "escape\x1b[31m", "x" * 200,
        "\u65e5" * 80, "NULL", "None", "nan", "0", "1e5", "=1+1", "line\u2028separator",
    )  # fmt: skip
    made = []
    for i, name in enumerate(names):
        data = encoded(photo(chance), "PNG")
        good = i % 4 != 3  # names must be safe in the scores and in the quarantine
        made.append(Case(f"{name}.png", data if good else data[:60], "scored" if good else "quarantined"))
    return made


def _duplicates(chance: np.random.Generator) -> list[Case]:
    good, bad = encoded(photo(chance), "JPEG"), b"the same again"
    made = [Case(f"copy {i}.jpg", good, "scored") for i in range(5)]
    return made + [Case(f"bad copy {i}.jpg", bad, "quarantined", "not an image: ") for i in range(3)]


# ------------------------------------------------------------------------------------------------------ writers


def as_folder(cases: Sequence[Case], root: Path) -> None:
    """A file a case."""
    root.mkdir(parents=True, exist_ok=True)
    for case in cases:
        (root / case.name).write_bytes(case.data)


def as_parquet(cases: Sequence[Case], path: Path, row_group_size: int) -> None:
    """One Parquet file with columns `id` and `image`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"id": [case.name for case in cases], "image": pa.array([c.data for c in cases], pa.binary())}
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)


def as_tars(cases: Sequence[Case], root: Path, per_tar: int) -> None:
    """Tars of `per_tar` files each, of equal bytes for equal cases."""
    root.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(cases), per_tar)):
        with tarfile.open(root / f"{number:05d}.tar", "w", format=tarfile.PAX_FORMAT) as file:
            for case in cases[start : start + per_tar]:
                _add(file, case.name, case.data)


def _add(file: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    file.addfile(info, io.BytesIO(data))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--as", dest="shape", choices=("folder", "parquet", "tars"), default="folder")
    arguments = parser.parse_args()
    made = cases(arguments.seed)
    if arguments.shape == "folder":
        as_folder(made, arguments.out)
    elif arguments.shape == "parquet":
        as_parquet(made, arguments.out / "corpus.parquet", 64)
    else:
        as_tars(made, arguments.out, 64)
    fates = [case.fate for case in made]
    print(f"{len(made)} files: {fates.count('scored')} to score, {fates.count('quarantined')} to quarantine")


if __name__ == "__main__":
    main()
