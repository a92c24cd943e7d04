"""The workspace: all state of one project under one URI.

An artefact is a whole object, written atomically: if it is there, it is finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.history import changes, shown
from pipeline.config.project import PINNED_POOL, Config
from pipeline.config.sections import Pool
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
        """Return whether the artefact is finished."""
        return self.store.exists(key)

    def read_json(self, key: str) -> Any:
        """Read a JSON artefact.

        Raises:
            ArtefactDamaged: it is no JSON.
        """
        data = self.store.get(key)
        with self.undamaged(key):
            return json.loads(data)

    def write_json(self, key: str, value: Any) -> None:
        """Write a JSON artefact.

        Keys are sorted, so that equal values are equal bytes.
        """
        self.store.put(key, to_json(value))

    def read_table(self, key: str, columns: list[str] | None = None) -> pa.Table:
        """Read a Parquet artefact.

        Raises:
            ArtefactDamaged: it is no Parquet.
        """
        with self.undamaged(key), self.store.open(key) as file:
            return pq.read_table(file, columns=columns)

    def row_groups(self, key: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Read a Parquet artefact, one row group in memory at a time."""
        with self.undamaged(key), self.store.open(key) as file:
            parquet = pq.ParquetFile(file, pre_buffer=True)  # on S3 a few large requests, not one a column
            for number in range(parquet.num_row_groups):
                yield parquet.read_row_group(number, columns, use_threads=False)

    def write_table(self, key: str, table: pa.Table, *, row_group_size: int | None = None) -> None:
        """Write a Parquet artefact, compressed with Zstandard."""
        self.store.put(key, to_parquet(table, row_group_size))

    @contextlib.contextmanager
    def undamaged(self, key: str) -> Iterator[None]:
        """Guard the reading of an artefact.

        Raises:
            ArtefactDamaged: for errors that only damaged bytes raise.
        """
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
        """List the artefacts below a prefix, sorted."""
        return sorted(entry.key for entry in self.store.list(prefix))

    def tables(self, prefix: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Read Parquet artefacts below a prefix, one in memory at a time."""
        for key in self.keys(prefix):
            if key.endswith(".parquet"):
                yield self.read_table(key, columns)

    def digest(self, key: str) -> str:
        """Return the SHA-256 of an artefact."""
        return hashlib.sha256(self.store.get(key)).hexdigest()

    def committed(self) -> int:
        """Count the committed rounds; they are numbered from 0 without gaps."""
        index = 0
        while self.exists(round_key(index, keys.ROUND)):
            index += 1
        return index

    def committed_round(self, index: int | None) -> int:
        """Return the index of a committed round; None means the last one.

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
        """Make a new workspace the config's, or `check` an old one."""
        ours = {"format": 2, "digest": config.digest(), "pinned": config.pinned()}
        if not self.store.put_if_absent(PROJECT, to_json(ours)):
            self.check(config)

    def check(self, config: Config) -> None:
        """Refuse a config of another project.

        A workspace that was not claimed yet accepts any config.

        A project keeps its pool, the columns that its ids and images come from, and the order of its classes. All else
        may change from round to round.

        Raises:
            WorkspaceMismatch: another project's; the message names the first key that differs.
        """
        if not self.exists(PROJECT):
            return
        ours, theirs = config.pinned(), self._pinned()
        theirs["taxonomy"] = list(config.called_now(theirs["taxonomy"]))
        classes = len(theirs["taxonomy"])
        if ours["taxonomy"][:classes] == theirs["taxonomy"]:  # classes may join behind those that are there
            ours["taxonomy"] = theirs["taxonomy"]
        for change in changes(theirs, ours):
            raise WorkspaceMismatch(
                f"{self.store.uri} was made with {change.path} = {shown(change.before)}, but the config says "
                f"{shown(change.after)}; a workspace keeps its pool, its ids and the order of its classes (new classes "
                f"go to the end): set it back, or give `workspace` another place"
            )

    def project(self) -> str:
        """Return the digest of the config that made the workspace.

        It names the project in MLflow.
        """
        digest: str = self.read_json(PROJECT)["digest"]
        return digest

    def _pinned(self) -> dict[str, Any]:
        """Read the values that the project keeps.

        Format 1 stored the whole config and pinned all of it; only these values are taken from it.
        """
        made: Any = self.read_json(PROJECT)
        try:
            pinned = made.get("pinned") or made["config"]
            pool = {name: pinned["pool"].get(name, Pool.model_fields[name].default) for name in PINNED_POOL}
            return {"taxonomy": list(pinned["taxonomy"]), "pool": pool}
        except (AttributeError, KeyError, TypeError):
            raise WorkspaceMismatch(
                f"{self.store.url(PROJECT)} is not of this program; give `workspace` another place"
            ) from None


def open_workspace(config: Config) -> Workspace:
    """Return the workspace of a config; nothing is written."""
    return Workspace(open_store(config.workspace, config.storage))
