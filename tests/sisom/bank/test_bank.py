"""Banks, features and scores as values: they travel, unchanged, and refuse to be what they are not."""

import json
import pickle
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
import torch

from sisom import FeatureBank, errors, fit_bank, load_bank, score


@pytest.fixture(params=["sample", "anchor"])
def bank(request, make):
    fit, labels = make(50)
    return replace(fit_bank(fit, labels, slopes=1.0, subset=0.6, outer=request.param), threshold=1.25)


def assert_same(one, two):
    for field in fields(FeatureBank):
        a, b = getattr(one, field.name), getattr(two, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name


def test_round_trips(bank, tmp_path, make):
    bank.save(tmp_path / "bank.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["bank.safetensors"]
    pool, _ = make(20, seed=1)
    for other in (
        load_bank(tmp_path / "bank.safetensors"),
        FeatureBank.from_bytes(bank.to_bytes()),
        FeatureBank.from_arrays(bank.to_arrays()),
        pickle.loads(pickle.dumps(bank)),
    ):
        assert_same(bank, other)
        assert torch.equal(score(bank, pool).sisome, score(other, pool).sisome)


def test_read_only_arrays_are_used_in_place(bank, make):
    arrays = {name: np.array(value) for name, value in bank.to_arrays().items()}
    for value in arrays.values():
        value.setflags(write=False)
    other = FeatureBank.from_arrays(arrays)  # a warning would fail this test
    assert other.points.data_ptr() == arrays["points"].ctypes.data
    assert arrays["meta"].dtype == np.uint8
    pool, _ = make(10, seed=1)
    assert torch.equal(score(bank, pool).sisome, score(other, pool).sisome)


def test_frozen(bank):
    with pytest.raises(FrozenInstanceError):
        bank.r_avg = 0.0
    assert replace(bank, threshold=None).threshold is None


def test_points_are_class_sorted_and_traceable(bank, make):
    fit, labels = make(50)
    assert bool((bank.labels[1:] >= bank.labels[:-1]).all())
    assert torch.equal(labels[bank.source], bank.labels)
    assert torch.equal(bank.points, torch.tanh(fit.saliency[bank.source] * 0.5) * 0.5)


def broken_meta(**changes):
    def change(arrays):
        meta = json.loads(bytes(arrays["meta"]))
        meta.update(changes)
        arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)

    return change


def set_value(name, place, value):
    def change(arrays):
        arrays[name] = arrays[name].copy()
        arrays[name][place] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.pop("points"),
        lambda a: a.update(meta=np.frombuffer(b"nonsense", dtype=np.uint8)),
        lambda a: a.update(points=a["points"].astype(np.float64)),
        lambda a: a.update(points=a["points"][:, :3]),
        lambda a: a.update(labels=a["labels"][::-1].copy()),
        broken_meta(version=99),
        broken_meta(surprise=1),
        broken_meta(outer="middle"),
        broken_meta(rank=0),
        broken_meta(num_classes=2),
        broken_meta(r_std=0.0),
        broken_meta(slopes=[["other", 1.0], ["b", 1.0]]),
        broken_meta(slopes=3),
        set_value("points", (0, 0), np.nan),
    ],
)
def test_arrays_that_are_no_bank(bank, change):
    arrays = bank.to_arrays()
    change(arrays)
    with pytest.raises(errors.BankFormatError):
        FeatureBank.from_arrays(arrays)


@pytest.mark.parametrize("data", [b"", b"not a bank at all", b"\x08\0\0\0\0\0\0\0[1, 2]  "])
def test_bytes_that_are_no_bank(data, tmp_path):
    with pytest.raises(errors.BankFormatError):
        FeatureBank.from_bytes(data)
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(errors.BankFormatError):
        load_bank(tmp_path / "x")


def test_safetensors_without_a_bank(tmp_path):
    from safetensors.torch import save, save_file

    with pytest.raises(errors.BankFormatError, match="metadata"):
        FeatureBank.from_bytes(save({"x": torch.zeros(1)}))
    save_file({"x": torch.zeros(1)}, tmp_path / "x")
    with pytest.raises(errors.BankFormatError, match="metadata"):
        load_bank(tmp_path / "x")


def test_a_missing_file_is_the_caller_s_to_handle(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_bank(tmp_path / "nothing")
