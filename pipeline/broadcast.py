"""What every scoring actor needs, the same for all: weights and bank, once on each node.

Both go into Ray's object store, where actors read them without a copy. A bank that would fill too much of the
store is fetched into a file on each node instead and mapped into memory: the pages are shared all the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

import sisom
from pipeline.stages import Network
from pipeline.storage import LocalStore
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class BankFile:
    """A bank in the workspace, by its digest."""

    workspace: Workspace
    key: str
    digest: str

    def load(self) -> sisom.FeatureBank:
        """The bank, mapped from a file on this node; fetched once a node."""
        store = self.workspace.store
        if isinstance(store, LocalStore):
            return sisom.load_bank(store.path(self.key))
        folder = Path(tempfile.gettempdir()) / f"sisom-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"bank-{self.digest}.safetensors"
        with (folder / f"bank-{self.digest}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                data = store.get(self.key)
                if hashlib.sha256(data).hexdigest() != self.digest:
                    raise OSError(f"{store.url(self.key)} has changed while it was used")
                partial = path.with_suffix(".partial")
                partial.write_bytes(data)
                partial.replace(path)
        return sisom.load_bank(path)


@dataclass(frozen=True)
class Broadcast:
    """References that actors resolve; owned by the driver, so that they outlive any worker."""

    network: Any  # ObjectRef of a Network
    bank: Any  # ObjectRef of the bank's arrays, or a BankFile

    @classmethod
    def of(cls, network: Network, bank: sisom.FeatureBank, file: BankFile, *, most_bytes: float) -> Broadcast:
        """Share a network, and a bank by the object store or, beyond `most_bytes`, by files."""
        arrays = bank.to_arrays()
        small = sum(array.nbytes for array in arrays.values()) <= most_bytes
        return cls(ray.put(network), ray.put(arrays) if small else file)

    def receive(self) -> tuple[Network, sisom.FeatureBank]:
        """In a worker: the network and the bank."""
        if isinstance(self.bank, BankFile):
            return ray.get(self.network), self.bank.load()
        network, arrays = ray.get([self.network, self.bank])
        return network, sisom.FeatureBank.from_arrays(arrays)
