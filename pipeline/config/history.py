"""The config across releases.

What earlier releases did before a key existed, and what changed between two configs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.config.project import Config
from pipeline.config.sections import Pool

# What releases before a key existed did, as its value by its dotted path, where that is not its default today.
BEFORE: Final[Mapping[str, Any]] = {
    "labels.sets": [],
    "labels.renamed": {},
}

ABSENT: Final = object()  # value of a key that one of two configs lacks; None is a value


def as_of_its_day(values: Mapping[str, Any], before: Mapping[str, Any] = BEFORE) -> dict[str, Any]:
    """Fill missing keys of a stored config with its release's behaviour.

    A key that is younger than the config gets the value that describes what the product did at that time.

    Args:
        values: a config as an earlier release wrote it, nested by section.
        before: see `BEFORE`.
    """
    filled: dict[str, Any] = json.loads(json.dumps(values))
    for path, value in before.items():
        *sections, key = path.split(".")
        section = filled
        for name in sections:
            section = section.setdefault(name, {})
        section.setdefault(key, value)
    return filled


def whole(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fill a stored config's missing keys.

    They get the behaviour of its day, else the default. So a key that is younger than the config is no change of it.
    """
    defaults = Config.model_construct(workspace="", taxonomy=(), pool=Pool(uri="-")).frozen()
    return _filled(as_of_its_day(values), defaults)


def _filled(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Add the keys that only `defaults` has, section by section."""
    inner = {
        key: _filled(value, defaults[key])
        for key, value in values.items()
        if isinstance(value, Mapping) and isinstance(defaults.get(key), Mapping)
    }
    return {**defaults, **values, **inner}


@dataclass(frozen=True)
class Change:
    """A key whose value differs between two configs."""

    path: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.path}: {shown(self.before)} -> {shown(self.after)}"


def changes(before: Any, after: Any, path: str = "") -> Iterator[Change]:
    """List the keys that differ between two configs, sorted by path.

    Lists are compared as a whole.
    """
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        if before != after:
            yield Change(path, before, after)
        return
    for key in sorted({*before, *after}):
        inner = f"{path}.{key}" if path else key
        yield from changes(before.get(key, ABSENT), after.get(key, ABSENT), inner)


def shown(value: Any) -> str:
    """Return a value as JSON of at most 200 characters."""
    text = "nothing" if value is ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}..."
