"""Weights and bank, the same for every scoring actor.

Each node holds them once. Both go into Ray's object store, where actors read them without a copy. A bank that would
fill too much of the store is fetched into a file on each node instead and mapped into memory: the pages are shared all
the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

import sisom
from pipeline.errors import ArtefactDamaged, SystemFault
from pipeline.model.detector import FittedDetector
from pipeline.model.network import Network
from pipeline.store.opening import LocalStore
from pipeline.workspace.artefacts import Workspace


@dataclass(frozen=True)
class BankFile:
    """A bank in the workspace, by its digest."""

    workspace: Workspace
    key: str
    digest: str

    def load(self) -> sisom.FeatureBank:
        """Load the bank, mapped from a file on this node.

        The file is fetched once a node.
        """
        store = self.workspace.store
        if isinstance(store, LocalStore):
            path = store.path(self.key)
            self._expect(_digest(path))
            return self._mapped(path)
        folder = own_folder()
        path = folder / f"bank-{self.digest}.safetensors"
        try:
            with (folder / f"bank-{self.digest}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists():
                    data = store.get(self.key)
                    self._expect(hashlib.sha256(data).hexdigest())
                    partial = path.with_suffix(".partial")
                    partial.write_bytes(data)
                    partial.replace(path)
        except OSError as error:
            raise SystemFault(
                f"the bank can't be kept in {folder} ({error.strerror or error}); make room there, or set TMPDIR to "
                f"a place that has some, on every node"
            ) from error
        return self._mapped(path)

    def _expect(self, digest: str | None) -> None:
        if digest != self.digest:
            url = self.workspace.store.url(self.key)
            what = "is gone" if digest is None else "has changed while it was used"
            raise self._error(
                f"{url} {what}; put it back and run again, or remove the round's artefacts from it on"
            )

    def _error(self, text: str) -> ArtefactDamaged:
        return ArtefactDamaged.at(self.workspace.store.url(self.key), text)

    def _mapped(self, path: Path) -> sisom.FeatureBank:
        try:
            return sisom.load_bank(path)
        except (OSError, sisom.errors.BankFormatError) as error:
            raise self._error(f"{path} is no bank any more ({error}); remove it and run again") from error


def _digest(path: Path) -> str | None:
    """SHA-256 of a file; None if it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def own_folder() -> Path:
    """Return this user's folder for files that are kept on a node.

    Nobody else may write to it.

    Raises:
        SystemFault: it is a link, somebody else's, or open to others, who could change what is read from it.
    """
    folder = Path(tempfile.gettempdir()) / f"sisom-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
        why = "" if ours else "it is no folder of this user's alone"
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise SystemFault(f"{folder} can't be used ({why}); remove it, or set TMPDIR to a place of your own")
    return folder


@dataclass(frozen=True)
class Models:
    """The models that score a pool.

    Args:
        network: the trained classifier.
        bank: fitted on its features.
        file: where the bank lies.
        detector: judges in the bank's place; None if the bank's own scores judge.
        members: the networks that sit in a committee beside the first; taken one at a time.
    """

    network: Network
    bank: sisom.FeatureBank
    file: BankFile
    detector: FittedDetector | None = None
    members: Iterable[Network] = ()


@dataclass(frozen=True)
class Broadcast:
    """References that actors resolve.

    The driver owns them, so that they outlive any worker.
    """

    network: Any  # ObjectRef of a Network
    bank: Any  # ObjectRef of the bank's arrays, or a BankFile
    detector: Any = None  # ObjectRef of a fitted detector that is not the bank's
    members: tuple[Any, ...] = ()  # ObjectRefs of the networks that sit in a committee beside the first

    @classmethod
    def of(cls, models: Models, *, most_bytes: float) -> Broadcast:
        """Share models with the cluster.

        A bank of more than `most_bytes` is shared by its file.
        """
        arrays = models.bank.to_arrays()
        small = sum(array.nbytes for array in arrays.values()) <= most_bytes
        detector = None if models.detector is None else ray.put(models.detector)
        members = tuple(ray.put(member) for member in models.members)
        return cls(ray.put(models.network), ray.put(arrays) if small else models.file, detector, members)

    def receive(self) -> tuple[Network, sisom.FeatureBank]:
        """Return the network and the bank, in a worker."""
        if isinstance(self.bank, BankFile):
            return ray.get(self.network), self.bank.load()
        network, arrays = ray.get([self.network, self.bank])
        return network, sisom.FeatureBank.from_arrays(arrays)

    def receive_detector(self) -> Any:
        """Return the fitted detector, in a worker.

        None if the bank's own scores judge.
        """
        return None if self.detector is None else ray.get(self.detector)

    def receive_members(self) -> tuple[Network, ...]:
        """Return the other networks of the committee, in a worker.

        Empty if no strategy asks a committee.
        """
        return tuple(ray.get(list(self.members)))
