"""A bank that is mapped from a file: the same arrays from disk and from S3, fetched once, and never a wrong one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

import sisom
from pipeline.errors import ArtefactDamaged, ArtefactMissing, SystemFault
from pipeline.score.broadcast import BankFile
from pipeline.score.broadcast import own_folder as own
from pipeline.store.opening import LocalStore, Store
from pipeline.workspace.artefacts import Workspace


@pytest.fixture(scope="module")
def bank() -> sisom.FeatureBank:
    chance = torch.Generator().manual_seed(0)
    features = sisom.Features(
        torch.rand(30, 6, generator=chance),
        (("a", 2), ("b", 4)),
        torch.rand(30, 5, generator=chance),
        torch.randn(30, 3, generator=chance),
    )
    return sisom.fit_bank(features, torch.arange(30) % 3, slopes=10.0, num_classes=3)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a node keeps its copies."""
    folder = tmp_path / "node"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def stored(store: Store, bank: sisom.FeatureBank) -> BankFile:
    data = bank.to_bytes()
    store.put("b.safetensors", data)
    return BankFile(Workspace(store), "b.safetensors", hashlib.sha256(data).hexdigest())


def same(one: sisom.FeatureBank, two: sisom.FeatureBank) -> bool:
    first, second = one.to_arrays(), two.to_arrays()
    return first.keys() == second.keys() and all(first[n].tobytes() == second[n].tobytes() for n in first)


def test_it_is_the_bank_that_was_stored(store: Store, bank: sisom.FeatureBank) -> None:
    file = stored(store, bank)
    assert same(file.load(), bank)
    assert same(file.load(), bank)


@pytest.mark.s3
def test_it_is_fetched_once_and_by_its_digest(
    s3_bucket: str, bank: sisom.FeatureBank, own_folder: Path
) -> None:
    from pipeline.config.sections import Storage
    from pipeline.store.opening import open_store

    store = open_store(s3_bucket, Storage())
    file = stored(store, bank)
    assert same(file.load(), bank)
    store.delete("b.safetensors")
    assert same(file.load(), bank)  # from this node's own copy
    (folder,) = own_folder.iterdir()
    assert folder.stat().st_mode & 0o077 == 0  # nobody else writes there
    assert sorted(path.suffix for path in folder.iterdir()) == [".lock", ".safetensors"]
    with pytest.raises(ArtefactMissing):
        BankFile(file.workspace, file.key, "0" * 64).load()


@pytest.mark.s3
def test_another_bank_at_its_place_is_not_taken(
    s3_bucket: str, bank: sisom.FeatureBank, own_folder: Path
) -> None:
    from pipeline.config.sections import Storage
    from pipeline.store.opening import open_store

    store = open_store(s3_bucket, Storage())
    file = stored(store, bank)
    store.put("b.safetensors", b"another")
    with pytest.raises(ArtefactDamaged, match="has changed while it was used"):
        file.load()
    assert not list(own_folder.rglob("*.safetensors"))


def test_on_disk_nothing_is_copied(tmp_path: Path, bank: sisom.FeatureBank, own_folder: Path) -> None:
    file = stored(LocalStore(str(tmp_path / "w")), bank)
    assert same(file.load(), bank)
    assert not list(own_folder.iterdir())


def test_a_bank_on_disk_that_changed_or_vanished_is_refused_in_our_words(
    tmp_path: Path, bank: sisom.FeatureBank
) -> None:
    file = stored(LocalStore(str(tmp_path / "w")), bank)
    path = tmp_path / "w/b.safetensors"
    mapped = file.load()
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ArtefactDamaged, match=r"b\.safetensors has changed while it was used; put it back"):
        file.load()
    path.unlink()
    with pytest.raises(ArtefactDamaged, match=r"b\.safetensors is gone; put it back"):
        file.load()
    assert len(mapped) == len(bank)


@pytest.mark.parametrize("how", ["open to others", "a link", "a file", "of somebody else"])
def test_a_folder_that_others_could_write_to_is_not_used(
    how: str, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own_folder / f"sisom-{os.getuid()}"
    if how == "open to others":
        folder.mkdir()
        folder.chmod(0o770)
    elif how == "a link":
        (own_folder / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(own_folder / "elsewhere")
    elif how == "a file":
        folder.touch()
    elif os.getuid() == 0:
        folder.mkdir(mode=0o700)
        os.chown(folder, 12345, 12345)
    else:
        pytest.skip("only root can make what belongs to somebody else")
    with pytest.raises(SystemFault, match=r"can't be used \(.*\); remove it, or set TMPDIR"):
        own()
    folder.unlink() if how in ("a link", "a file") else folder.rmdir()
    assert own() == folder
    assert folder.stat().st_mode & 0o777 == 0o700


def test_where_a_bank_is_says_no_secret(store: Store, bank: sisom.FeatureBank, s3_account: Any) -> None:
    import pickle

    assert b"canary" not in pickle.dumps(stored(store, bank))
