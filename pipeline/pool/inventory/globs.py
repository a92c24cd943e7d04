"""Globs of keys, for `pool.include` and `pool.exclude`."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence


def chosen(key: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Return whether globs choose a key.

    It fits one of `include`, or there are none, and it fits none of `exclude`.
    """
    return (not include or fits(key, include)) and not fits(key, exclude)


def fits(key: str, globs: Sequence[str]) -> bool:
    """Return whether a whole key fits one of some globs."""
    return any(_pattern(glob).fullmatch(key) for glob in globs)


@functools.lru_cache(maxsize=1024)
def _pattern(glob: str) -> re.Pattern[str]:
    """Translate a glob.

    `*` and `?` stand for anything but slashes, `**` for anything, `**/` also for nothing, `[abc]` and `[!abc]` for one
    character. All else stands for itself.
    """
    out, at = [], 0
    while at < len(glob):
        rest = glob[at:]
        if rest.startswith("**/"):
            out.append("(?:.*/)?")
            at += 3
        elif rest.startswith("**"):
            out.append(".*")
            at += 2
        elif rest[0] in "*?":
            out.append("[^/]*" if rest[0] == "*" else "[^/]")
            at += 1
        elif choice := re.match(r"\[(!?)(\]?[^\]]*)\]", rest):
            within = re.sub(r"([\\\[\]^&~|])", r"\\\1", choice[2])
            out.append(f"[{'^/' if choice[1] else ''}{within}]" if choice[2] else re.escape(choice[0]))
            at += choice.end()
        else:
            out.append(re.escape(rest[0]))
            at += 1
    return re.compile("".join(out), re.DOTALL)
