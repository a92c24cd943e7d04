"""A folder of a workspace, such as that of a round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.keys import round_key


@dataclass(frozen=True)
class Folder:
    """Typed reads and writes of artefacts by their names in one folder.

    Args:
        workspace: which holds the folder.
        prefix: of its keys, such as `rounds/003/`; empty for the workspace itself.
    """

    workspace: Workspace
    prefix: str = ""

    @classmethod
    def of_round(cls, workspace: Workspace, index: int) -> Folder:
        """Return the folder of a round."""
        return cls(workspace, round_key(index, ""))

    def below(self, name: str) -> Folder:
        """Return a folder in this one; its name ends in a slash."""
        return Folder(self.workspace, self.prefix + name)

    def key(self, name: str) -> str:
        """Key of an artefact in the workspace."""
        return self.prefix + name

    def url(self, name: str) -> str:
        """Place of an artefact, for people."""
        return self.workspace.store.url(self.key(name))

    def exists(self, name: str) -> bool:
        """Return whether the artefact is finished."""
        return self.workspace.exists(self.key(name))

    def get(self, name: str) -> bytes:
        """Bytes of an artefact."""
        return self.workspace.store.get(self.key(name))

    def put(self, name: str, data: bytes) -> None:
        """Write an artefact, whole or not at all."""
        self.workspace.store.put(self.key(name), data)

    def open(self, name: str) -> pa.NativeFile:
        """Open an artefact for random access."""
        return self.workspace.store.open(self.key(name))

    def delete(self, name: str) -> None:
        """Remove an artefact, if it is there."""
        self.workspace.store.delete(self.key(name))

    def digest(self, name: str) -> str:
        """SHA-256 of an artefact."""
        return self.workspace.digest(self.key(name))

    def read_json(self, name: str) -> Any:
        """Read a JSON artefact; see `Workspace.read_json`."""
        return self.workspace.read_json(self.key(name))

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON artefact; see `Workspace.write_json`."""
        self.workspace.write_json(self.key(name), value)

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read a Parquet artefact; see `Workspace.read_table`."""
        return self.workspace.read_table(self.key(name), columns)

    def write_table(self, name: str, table: pa.Table, *, row_group_size: int | None = None) -> None:
        """Write a Parquet artefact; see `Workspace.write_table`."""
        self.workspace.write_table(self.key(name), table, row_group_size=row_group_size)

    def row_groups(self, name: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Read a Parquet artefact, one row group in memory at a time."""
        return self.workspace.row_groups(self.key(name), columns)

    def tables(self, name: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Read Parquet artefacts below a name, one in memory at a time."""
        return self.workspace.tables(self.key(name), columns)

    def names(self, name: str = "") -> list[str]:
        """List the names of the artefacts below a name, sorted."""
        return [key.removeprefix(self.prefix) for key in self.workspace.keys(self.key(name))]

    def undamaged(self, name: str) -> AbstractContextManager[None]:
        """Guard the reading of an artefact; see `Workspace.undamaged`."""
        return self.workspace.undamaged(self.key(name))
