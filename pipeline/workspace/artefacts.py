"""The workspace: all state of one project under one URI.

Artefacts are whole objects, written atomically; their presence is the
promise that they are finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.project import Config
from pipeline.encoding import to_json, to_parquet
from pipeline.errors import ArtefactDamaged, UserError, WorkspaceMismatch
from pipeline.store.opening import Store, open_store
from pipeline.workspace import keys
from pipeline.workspace.keys import PROJECT, round_key


@dataclass(frozen=True)
class Workspace:
    """Typed reads and writes of artefacts by key."""

    store: Store

    def exists(self, key: str) -> bool:
        """Whether the artefact is finished."""
        return self.store.exists(key)

    def read_json(self, key: str) -> Any:
        """A JSON artefact; `ArtefactDamaged` if it is none."""
        data = self.store.get(key)
        with self.undamaged(key):
            return json.loads(data)

    def write_json(self, key: str, value: Any) -> None:
        """A JSON artefact, with sorted keys so that equal values are equal bytes."""
        self.store.put(key, to_json(value))

    def read_table(self, key: str, columns: list[str] | None = None) -> pa.Table:
        """A Parquet artefact; `ArtefactDamaged` if it is none."""
        with self.undamaged(key), self.store.open(key) as file:
            return pq.read_table(file, columns=columns)

    def row_groups(self, key: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """A Parquet artefact one row group after another: memory for one at a time."""
        with self.undamaged(key), self.store.open(key) as file:
            parquet = pq.ParquetFile(file, pre_buffer=True)  # on S3 a few large requests, not one a column
            for number in range(parquet.num_row_groups):
                yield parquet.read_row_group(number, columns, use_threads=False)

    def write_table(self, key: str, table: pa.Table, *, row_group_size: int | None = None) -> None:
        """A Parquet artefact, Zstandard."""
        self.store.put(key, to_parquet(table, row_group_size))

    @contextlib.contextmanager
    def undamaged(self, key: str) -> Iterator[None]:
        """Around reading an artefact: `ArtefactDamaged` for what only damaged bytes raise."""
        try:
            yield
        except (ValueError, OSError, pa.ArrowException) as error:
            url = self.store.url(key)
            raise ArtefactDamaged.at(
                url,
                f"{url} is damaged ({' '.join(str(error).split())[:200]}); remove it and what was made from it, "
                f"and run again to make it anew",
            ) from None

    def keys(self, prefix: str) -> list[str]:
        """The artefacts below a prefix, sorted."""
        return sorted(entry.key for entry in self.store.list(prefix))

    def tables(self, prefix: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The Parquet artefacts below a prefix, one after another: memory for one at a time."""
        for key in self.keys(prefix):
            if key.endswith(".parquet"):
                yield self.read_table(key, columns)

    def digest(self, key: str) -> str:
        """SHA-256 of an artefact."""
        return hashlib.sha256(self.store.get(key)).hexdigest()

    def committed(self) -> int:
        """How many rounds are committed; they are numbered from 0 without gaps."""
        index = 0
        while self.exists(round_key(index, keys.ROUND)):
            index += 1
        return index

    def committed_round(self, index: int | None) -> int:
        """The index of a committed round; None stands for the last one.

        Raises:
            UserError: there is no such round.
        """
        committed = self.committed()
        chosen = committed - 1 if index is None else index
        if 0 <= chosen < committed:
            return chosen
        have = f"rounds 0 to {committed - 1} are" if committed else "no round is"
        raise UserError(
            f"round {max(chosen, 0)} is not committed in {self.store.uri} ({have}); see `sisom run`"
        )

    def claim(self, config: Config) -> None:
        """Make the workspace this config's, or check that it is; see `check`."""
        ours = {"format": 1, "digest": config.digest(), "config": config.identity()}
        if not self.store.put_if_absent(PROJECT, to_json(ours)):
            self.check(config)

    def check(self, config: Config) -> None:
        """Refuse a config that did not make this workspace; one that nobody made yet is anybody's.

        Raises:
            WorkspaceMismatch: another config made it; the message names the first key that differs.
        """
        if not self.exists(PROJECT):
            return
        ours = {"digest": config.digest(), "config": config.identity()}
        theirs = self.read_json(PROJECT)
        if not isinstance(theirs, dict) or not isinstance(theirs.get("config"), dict):
            raise WorkspaceMismatch(
                f"{self.store.url(PROJECT)} is not of this program; give `workspace` another place"
            )
        if theirs.get("digest") == ours["digest"]:
            return
        path, was, now = _first_difference(theirs["config"], ours["config"])
        raise WorkspaceMismatch(
            f"{self.store.uri} was made with {path} = {_shown(was)}, but the config says {_shown(now)}; "
            f"set it back, or give `workspace` another place"
        )


def open_workspace(config: Config) -> Workspace:
    """The workspace of a config; nothing is written."""
    return Workspace(open_store(config.workspace, config.storage))


_ABSENT = object()  # a key that another version of the config has, apart from one that is null


def _first_difference(was: Any, now: Any, path: str = "") -> tuple[str, Any, Any]:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in sorted(set(was) | set(now)):
            before, after = was.get(key, _ABSENT), now.get(key, _ABSENT)
            if before != after:
                return _first_difference(before, after, f"{path}.{key}" if path else key)
    return path, was, now


def _shown(value: Any) -> str:
    text = "nothing" if value is _ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}..."
