"""Tables of objects by name, imported on first use."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TypeVar

Entry = TypeVar("Entry")

__all__ = ["Table"]


class Table(Mapping[str, Entry]):
    """Objects by name, each imported when it is asked for.

    `places` has the module and the attribute of each, such as `sisom.detectors.logits:MspDetector`. They are written in
    our source alone, never read from a config.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> Entry:
        """Import and return an entry; raise KeyError for an unknown name."""
        module, _, attribute = self._places[name].partition(":")
        entry: Entry = getattr(import_module(module), attribute)
        return entry

    def __contains__(self, name: object) -> bool:
        """Return whether a name is known, without importing its entry."""
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
