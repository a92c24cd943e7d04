"""Globs of keys, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pool.inventory.globs import chosen, fits


@pytest.mark.parametrize(
    ("glob", "good", "bad"),
    [
        ("*.png", ["a.png", ".png"], ["x/a.png", "a.png2", "a.PNG"]),
        ("**/*.png", ["a.png", "x/a.png", "x/y/a.png"], ["a.jpg"]),
        ("old/**", ["old/a", "old/x/y.png"], ["old", "older/a", "x/old/a"]),
        ("**/old/**", ["old/a", "x/y/old/z/a"], ["x/older/a"]),
        ("2026-0?/*", ["2026-01/a.png"], ["2026-01/x/a.png", "2026-011/a", "2026-0//a"]),
        ("part-[0-3].parquet", ["part-0.parquet", "part-3.parquet"], ["part-4.parquet", "part-.parquet"]),
        ("[!a]b", ["xb"], ["ab", "/b"]),
        ("[]a]b", ["]b", "ab"], ["b"]),
        ("a+b(c).png", ["a+b(c).png"], ["aab(c).png"]),
        ("a[b", ["a[b"], ["ab"]),
        ("**", ["", "a", "a/b\nc"], []),
    ],
)
def test_a_glob_fits_whole_keys(glob: str, good: list[str], bad: list[str]) -> None:
    assert [key for key in good + bad if fits(key, (glob,))] == good


@pytest.mark.parametrize(
    ("include", "exclude", "want"),
    [
        ((), (), ["a.png", "b.jpg", "x/a.png"]),
        (("*.png",), (), ["a.png"]),
        (("**/*.png",), (), ["a.png", "x/a.png"]),
        ((), ("x/**",), ["a.png", "b.jpg"]),
        (("**/*.png", "b.*"), ("x/**", "a*"), ["b.jpg"]),
    ],
)
def test_what_is_included_and_not_excluded_is_chosen(
    include: tuple[str, ...], exclude: tuple[str, ...], want: list[str]
) -> None:
    assert [key for key in ("a.png", "b.jpg", "x/a.png") if chosen(key, include, exclude)] == want


@given(st.text(st.characters(exclude_characters="*?[", codec="utf-8"), max_size=12))
def test_a_glob_without_signs_is_the_key_itself(key: str) -> None:
    assert fits(key, (key,))
    assert not fits(key + "x", (key,))
