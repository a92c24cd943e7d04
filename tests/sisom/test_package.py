"""The public face: exports, and what is not imported."""

import subprocess
import sys

import pytest
import torch

import sisom


def test_exports_are_sorted_and_real():
    assert len(set(sisom.__all__)) == len(sisom.__all__)
    assert all(hasattr(sisom, name) for name in sisom.__all__)
    for name in ("extract", "fit_bank", "score", "search_slopes", "load_bank", "DETECTORS", "SELECTORS"):
        assert name in sisom.__all__


def test_functions_are_not_shadowed_by_modules():
    import importlib
    import pkgutil

    for module in pkgutil.iter_modules(sisom.__path__):
        importlib.import_module(f"sisom.{module.name}")
    assert all(callable(getattr(sisom, name)) for name in ("score", "threshold", "extract", "greedy"))


def test_the_algorithm_does_not_know_its_engine():
    code = (
        "import sys, sisom; [getattr(sisom, name) for name in sisom.__all__];"
        "[kind[name] for kind in (sisom.DETECTORS, sisom.SELECTORS) for name in kind];"
        "print([m for m in ('ray', 'mlflow', 'boto3', 'pipeline', 'faiss') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_are_known_without_torch():
    code = "import sys, sisom; print('odin' in sisom.DETECTORS, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True False"


def test_shapes_in_signatures_are_enforced_here():
    from jaxtyping import TypeCheckError

    assert sisom.confidence(torch.zeros(3)).shape == (3,)
    for wrong in (torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64)):
        with pytest.raises(TypeCheckError):
            sisom.confidence(wrong)
