"""Measure the layout and the prose of the packages, and check what the gates ask of them.

    python tests/gates/house.py            print every figure
    python tests/gates/house.py --check    list each fault with its place; exit status 1 where there is one

Faults: a docstring whose first line is longer than 12 words or opens with a preposition, a pronoun or a question
word; a sub-package whose `__init__.py` holds more than a sentence.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "sisom")
FACES = {"sisom/__init__.py", "pipeline/__init__.py"}  # the library's public names, and the version
MAX_WORDS = 12
MAX_PARAMETERS = 6
MAX_POSITIONAL = 3
_WORDS = (
    # prepositions and conjunctions
    "about above across after against along among around as at because before behind below beneath beside besides"
    " between beyond by despite down during except for from if in inside into like near of off on onto out outside over"
    " past per since through throughout to toward towards under until unless up upon via with within without while"
    # pronouns
    " he her him his i it its me my one our ours she that their theirs them these they this those us we you your"
    " anybody anyone anything everybody everyone everything nobody none nothing others somebody someone something"
    " whoever whatever"
    # question words
    " how what when where whether which who whom whose why"
)
OPENINGS = frozenset(_WORDS.split())


@dataclass(frozen=True)
class Docstring:
    """The first line of a docstring and its place."""

    place: str
    first: str

    @property
    def words(self) -> int:
        """The number of words."""
        return len(self.first.split())

    @property
    def opens_badly(self) -> bool:
        """Whether the first word is a preposition, a pronoun or a question word."""
        first = re.match(r"[A-Za-z]+", self.first)
        return first is not None and first.group().lower() in OPENINGS


def sources() -> Iterator[Path]:
    """List the source files of both packages, sorted."""
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def docstrings() -> Iterator[Docstring]:
    """List the docstrings of modules, classes and functions."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                line = getattr(node, "lineno", 1)
                yield Docstring(f"{path.relative_to(ROOT)}:{line}", text.partition("\n")[0])


def functions() -> Iterator[tuple[str, int, int]]:
    """List functions as (place, parameters, positional parameters), `self` and `cls` left out."""
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                positional = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
                if positional[:1] in (["self"], ["cls"]):
                    positional = positional[1:]
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                yield place, len(positional) + len(node.args.kwonlyargs), len(positional)


def untested() -> tuple[list[str], int]:
    """List source files without a test of the same name in the mirrored folder, and count all source files."""
    missing, total = [], 0
    for path in sources():
        relative = path.relative_to(ROOT)
        if path.name.startswith("__"):
            continue
        total += 1
        if not (ROOT / "tests" / relative.parent / f"test_{path.name}").exists():
            missing.append(str(relative))
    return missing, total


def layers() -> list[tuple[str, int, int]]:
    """List the layer contracts of pyproject.toml as (container, layers, names)."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [
        (
            contract["containers"][0],
            len(contract["layers"]),
            sum(len(x.split("|")) for x in contract["layers"]),
        )
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]


def faults() -> Iterator[str]:
    """List what the gates refuse, each with its place."""
    for each in docstrings():
        if each.opens_badly:
            yield f"{each.place}: opens with {each.first.split()[0]!r}: {each.first}"
        if each.words > MAX_WORDS:
            yield f"{each.place}: {each.words} words, {MAX_WORDS} are the most: {each.first}"
    for path in sources():
        relative = str(path.relative_to(ROOT))
        if (
            path.name == "__init__.py"
            and relative not in FACES
            and len(ast.parse(path.read_text()).body) != 1
        ):
            yield f"{relative}:1: the face of a package is one docstring and imports nothing"


def figures() -> Iterator[str]:
    """List the figures, one a line."""
    for package in PACKAGES:
        folders = (path.parent.relative_to(ROOT) for path in sources())
        widest = Counter(str(folder) for folder in folders if folder.parts[0] == package)
        (folder, files), *_ = widest.most_common(1)
        yield f"{package}: {sum(widest.values())} files in {len(widest)} folders; the widest, {folder}, has {files}"
    for container, count, names in layers():
        yield f"{container}: {count} layers of {names} names"
    found = list(functions())
    many = [place for place, parameters, positional in found if parameters > MAX_PARAMETERS]
    ordered = [place for place, parameters, positional in found if positional > MAX_POSITIONAL]
    yield (
        f"functions: {len(found)}; {len(many)} with more than {MAX_PARAMETERS} parameters, "
        f"{len(ordered)} with more than {MAX_POSITIONAL} positional"
    )
    texts = list(docstrings())
    bad = sum(each.opens_badly for each in texts)
    words = sorted(each.words for each in texts)
    yield (
        f"docstrings: {len(texts)}; {bad} ({bad / len(texts):.1%}) open with a preposition, pronoun or question "
        f"word; median {words[len(words) // 2]} words"
    )
    missing, total = untested()
    tested = total - len(missing)
    yield f"source files with a test of the same name: {tested} of {total} ({tested / total:.0%})"


def main() -> int:
    """Print figures, or faults; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="list faults instead of figures")
    parser.add_argument(
        "--untested", action="store_true", help="list source files without a test of the same name"
    )
    chosen = parser.parse_args()
    if chosen.untested:
        print(*untested()[0], sep="\n")
        return 0
    if not chosen.check:
        print(*figures(), sep="\n")
        return 0
    found = list(faults())
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
