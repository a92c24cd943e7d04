"""The questions that committed rounds have asked, as answers refer to them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.project import Config
from pipeline.labels.forms.values import Words, spellings
from pipeline.pool.shards import form_of
from pipeline.store.opening import open_store
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.plan import Plan


@dataclass(frozen=True)
class Questions:
    """The questions asked so far.

    uris        the object of each id that was asked about
    rounds      the last round that asked about it
    """

    workspace: Workspace
    config: Config
    uris: Mapping[str, str]
    rounds: Mapping[str, int]

    @classmethod
    def read(cls, workspace: Workspace, config: Config) -> Questions:
        """Read the queries of all committed rounds.

        Raises:
            UserError: there is none.
        """
        uris: dict[str, str] = {}
        rounds: dict[str, int] = {}
        for index in range(workspace.committed_round(None) + 1):
            query = Folder.of_round(workspace, index).read_table(keys.QUERY, ["id", "uri"])
            names = query["id"].to_pylist()
            uris |= dict(zip(names, query["uri"].to_pylist(), strict=True))
            rounds |= dict.fromkeys(names, index)
        return cls(workspace, config, uris, rounds)

    @cached_property
    def _words(self) -> Words:
        return Words(self.uris)

    @cached_property
    def _places(self) -> tuple[str, ...]:
        """The pool's place as tools write it before a key."""
        if len(self.config.pool.uris) > 1:  # ids have their place before them
            return ()
        (uri,) = self.config.pool.uris
        return (open_store(uri, self.config.storage).url("").rstrip("/") + "/", uri.rstrip("/") + "/")

    def meant(self, text: str) -> str:
        """Return the id that was meant by a text.

        An id may have gone through a spreadsheet, or stand behind the pool's own place. A text that means none is
        returned as it is.
        """
        found = self._words.find(text)
        if found is not None:
            return found
        for place in self._places:
            if text.startswith(place) and text != place:
                key = text.removeprefix(place)
                return self._words.find(key) or key
        return text

    def offered(self, name: str) -> Collection[str]:
        """Return the classes that could be chosen for an id."""
        return self._taxonomy(self.rounds.get(name, self.workspace.committed_round(None)))

    def _taxonomy(self, index: int) -> Collection[str]:
        if index not in self._taxonomies:
            plan = Plan.find(Folder.of_round(self.workspace, index))
            names = self.config.taxonomy if plan is None else plan.taxonomy
            self._taxonomies[index] = frozenset(self.config.labels.renamed.get(name, name) for name in names)
        return self._taxonomies[index]

    @cached_property
    def _taxonomies(self) -> dict[int, Collection[str]]:
        return {}

    @cached_property
    def learned(self) -> dict[str, str]:
        """The classes that the last committed round has learned, by id.

        Labeled sets outside the pool are among them.
        """
        folder = Folder.of_round(self.workspace, self.workspace.committed_round(None))
        plan = Plan.find(folder)
        if plan is None or not folder.exists(keys.LABELED):
            return {}
        rows = folder.read_table(keys.LABELED, ["id", "target"])
        names = self.config.labels.renamed
        classes = [names.get(name, name) for name in plan.taxonomy]
        return {
            name: classes[i]
            for name, i in zip(rows["id"].to_pylist(), rows["target"].to_pylist(), strict=True)
        }

    def in_pool(self, ids: Iterable[str]) -> dict[str, tuple[str, str | None]]:
        """Find ids that the last committed round has scored.

        They may be spelled otherwise. Needs the memory of one row group.

        Returns:
            (id in the pool, URI of its object) by the given id.
        """
        asked_for = {spelling: name for name in sorted(ids) for spelling in spellings(name)}
        asked_for |= {name: name for name in ids}  # who spells it right is meant first
        wanted = pa.array(sorted(asked_for), pa.string())
        last = Folder.of_round(self.workspace, self.workspace.committed_round(None))
        found: dict[str, tuple[str, str | None]] = {}
        for name in last.names(keys.SCORES):
            for part in last.row_groups(name, ["id", "uri"]):
                rows = part.filter(pc.is_in(part["id"], value_set=wanted))
                for here, uri in zip(rows["id"].to_pylist(), rows["uri"].to_pylist(), strict=True):
                    name_given = asked_for[here]
                    if name_given not in found or here == name_given:
                        found[name_given] = (here, uri)
        return found

    @property
    def example(self) -> str:
        """An id, to show what ids look like."""
        return min(self.uris, default="")

    @property
    def of_images(self) -> bool:
        """True if each image is an object of its own."""
        return all(form_of(uri) == "image" for uri in self.uris.values())
