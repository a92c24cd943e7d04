"""Every broken and odd file meets its fate, in this process and apart from it."""

from __future__ import annotations

import os
import re
import tarfile
import warnings
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.images.decode import Decoded, Transform, decode_batch
from pipeline.images.decode_apart import decode_apart
from tests.support.corpus import MAX_PIXELS, Case, as_folder, as_parquet, as_tars, cases

TRANSFORM = Transform(32, None, "bilinear", MAX_PIXELS)
GROUPS = (
    r"no bytes|not an image|too many pixels|wholly transparent|(truncated|broken) [A-Z0-9]+"
    r"|[A-Za-z ]+ is not supported here"
)


@pytest.fixture(scope="module")
def corpus() -> list[Case]:
    return cases(0)


@pytest.fixture(scope="module")
def decoded(corpus: list[Case]) -> Decoded:
    return decode_batch([case.data for case in corpus], TRANSFORM)


def test_it_is_large_and_its_names_are_distinct(corpus: list[Case]) -> None:
    assert len(corpus) >= 300
    assert max(Counter(case.name.partition(".")[0] for case in corpus).values()) == 1
    assert all("/" not in case.name and len(os.fsencode(case.name)) <= 255 for case in corpus)
    assert min(Counter(case.fate for case in corpus).values()) >= 100


def test_a_seed_makes_the_same_bytes_and_another_makes_others(corpus: list[Case]) -> None:
    assert cases(0) == corpus
    other = cases(1)
    assert [case.name for case in other] == [case.name for case in corpus]
    assert other != corpus


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_case_meets_its_fate(seed: int) -> None:
    corpus = cases(seed)
    found = decode_batch([case.data for case in corpus], TRANSFORM)
    reasons = dict(zip(found.bad, found.reasons, strict=True))
    assert sorted([*found.good, *found.bad]) == list(range(len(corpus)))
    wrong = [
        (case.name, case.fate, reasons.get(i))
        for i, case in enumerate(corpus)
        if (i in reasons) != (case.fate == "quarantined")
        or not reasons.get(i, "").startswith(case.reason or "")
    ]
    assert not wrong


def test_reasons_are_short_and_name_the_kind_of_fault(decoded: Decoded) -> None:
    for reason in decoded.reasons:
        assert re.fullmatch(GROUPS, reason.partition(":")[0]), reason
        assert len(reason) < 250
        assert reason.isprintable()
        assert not re.search(r"0x[0-9a-f]{6}|\.py\b|/", reason), reason


def test_nothing_is_printed_or_warned_of(corpus: list[Case], capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        decode_batch([case.data for case in corpus], TRANSFORM)
    assert not [str(warning.message) for warning in seen]
    assert capfd.readouterr() == ("", "")


def test_images_before_it_do_not_matter(corpus: list[Case], decoded: Decoded) -> None:
    backwards = decode_batch([case.data for case in reversed(corpus)], TRANSFORM)
    last = len(corpus) - 1
    assert [last - i for i in reversed(backwards.good)] == decoded.good
    assert (backwards.pixels[::-1] == decoded.pixels).all()
    assert backwards.reasons[::-1] == decoded.reasons


def test_apart_is_the_same(corpus: list[Case], decoded: Decoded) -> None:
    apart = decode_apart([case.data for case in corpus], TRANSFORM, timeout_s=60)
    assert (apart.good, apart.bad, apart.reasons) == (decoded.good, decoded.bad, decoded.reasons)
    assert (apart.pixels == decoded.pixels).all()


def test_the_writers_lose_nothing(corpus: list[Case], tmp_path: Path) -> None:
    want = {case.name: case.data for case in corpus}
    as_folder(corpus, tmp_path / "folder")
    assert {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()} == want
    as_parquet(corpus, tmp_path / "a" / "corpus.parquet", 50)
    table = pq.read_table(tmp_path / "a" / "corpus.parquet")
    assert dict(zip(table["id"].to_pylist(), table["image"].to_pylist(), strict=True)) == want
    assert pq.ParquetFile(tmp_path / "a" / "corpus.parquet").num_row_groups == -(-len(corpus) // 50)
    as_tars(corpus, tmp_path / "tars", 50)
    found = {}
    for path in sorted((tmp_path / "tars").iterdir()):
        with tarfile.open(path) as file:
            found |= {member.name: file.extractfile(member).read() for member in file}  # type: ignore[union-attr]
    assert found == want
