"""Checks for the user's mistakes, before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import torch

import sisom
from pipeline.config.project import Config
from pipeline.errors import ConfigError, LabelError, PoolError, UserError, nearest
from pipeline.labels import oracle
from pipeline.labels.files import LabelFiles
from pipeline.labels.forms.values import Words, plain
from pipeline.labels.sets import read_set, read_sets
from pipeline.model.detector import detector_for
from pipeline.pool import demo as demo_data
from pipeline.pool.parquet import groups
from pipeline.pool.shards import check_pool
from pipeline.pool.source import PoolSource
from pipeline.store.opening import open_store
from pipeline.types import Listed
from pipeline.voice import Voice
from pipeline.workspace import keys
from pipeline.workspace.artefacts import open_workspace
from pipeline.workspace.frozen import latest
from sisom.bank.subset import SUBSETS


def preflight(config: Config, voice: Voice) -> LabelFiles:
    """Find the user's mistakes; make the demo's data where they are missing.

    Returns:
        The label files of a project that has begun, every row of them checked.

    Raises:
        ConfigError: a layer that the model does not have, an unknown subset method.
        PoolError, StorageError: a pool or test set that is not there, is empty, or lacks a column.
        LabelError: labels or truths that do not fit the taxonomy.
    """
    workspace = open_workspace(config)
    check_model(config)
    if not workspace.exists(keys.PROJECT):
        check_places(config)
    if config.demo is not None:
        _check_demo(config)
        if demo_data.ensure(config):
            voice.say(f"made the demo's pool of handwritten digits at {config.pool.place}")
    check_pool(PoolSource.of(config))
    check_test(config)
    if config.truth_uri is not None:
        oracle.read_truth(config)
    read_sets(config, latest(workspace, config).taxonomy)
    if not workspace.exists(keys.INITIAL_LABELS):
        oracle.initial(config)
        return LabelFiles(workspace, renamed=config.labels.renamed)
    files = LabelFiles.read(workspace, config.labels.renamed)
    files.labels(latest(workspace, config).taxonomy)
    return files


def check_model(config: Config) -> None:
    """Refuse names that only the model itself can know to be wrong."""
    model = sisom.build_model(config.model.name, len(config.taxonomy), seed=0)
    try:
        sisom.check_layers(model, config.model.layers)
    except sisom.errors.LayerError as error:
        raise ConfigError.at("model.layers", f"model.layers: {error}") from None
    check_detector(config, model)
    if config.bank.subset_method not in SUBSETS:
        hint = nearest(config.bank.subset_method, SUBSETS)
        raise ConfigError(f"bank.subset_method: unknown method {config.bank.subset_method!r}; {hint}")


def check_detector(config: Config, model: torch.nn.Module) -> None:
    """Refuse options that only the detector itself can know to be wrong."""
    if not config.scoring.from_bank:
        try:
            scoring = config.scoring
            detector_for(scoring.score, scoring.options, config.model, head=sisom.Head.of(model))
        except (sisom.errors.InputError, sisom.errors.UnknownName, TypeError) as error:
            raise ConfigError(f"scoring.options: {error}") from None


def _check_demo(config: Config) -> None:
    if config.taxonomy != demo_data.KNOWN:
        raise ConfigError(
            f"taxonomy: the digits demo needs {list(demo_data.KNOWN)}, got {list(config.taxonomy)}"
        )


def check_places(config: Config) -> None:
    """Refuse a workspace that lies in the pool, or holds it.

    Its files would be taken for images.

    Raises:
        ConfigError: it does.
    """
    workspace, *pools = (
        f"{open_store(uri, config.storage).uri.rstrip('/')}/" for uri in (config.workspace, *config.pool.uris)
    )
    for pool, uri in zip(pools, config.pool.uris, strict=True):
        if workspace.startswith(pool):
            raise ConfigError(
                f"workspace: {config.workspace} lies in the pool at {uri}; give it a place beside"
            )
        if pool.startswith(workspace):
            raise ConfigError(
                f"workspace: {config.workspace} holds the pool at {uri}; give it a place beside"
            )


def check_test(config: Config) -> int:
    """Refuse a test set whose labels are missing or unknown.

    Returns:
        How many images it has.

    Raises:
        PoolError: a file that is not Parquet, or lacks a column.
        LabelError: a label that is not in the taxonomy.
    """
    if config.test_uri is None:
        return 0
    known = Words(config.taxonomy, config.labels.renamed)
    name = config.test.label_column
    source = PoolSource.of(config).beside(config.test_uri)
    listed = _listed(source, "test.uri")
    files = {item.uri for item in listed}
    if not files:  # images with a table of classes beside them, or in folders
        found = read_set(f"test.uri: {config.test_uri}", source, name)
        if config.open_world.promote_at is None:
            found.named(known)
        return sum(label is not None for _, label, _, _ in found.rows())
    for uri in sorted(files):
        with _readable(uri), open_store(uri, config.storage).open("") as file:
            parquet = pq.ParquetFile(file)
            if name not in parquet.schema_arrow.names:
                hint = nearest(name, parquet.schema_arrow.names)
                raise PoolError(f"test.label_column: {uri} has no column {name!r}; {hint}")
            for row, label in enumerate(parquet.read(columns=[name])[name].to_pylist()):
                text = plain(label) or "None"
                if known.find(text) is None and config.open_world.promote_at is None:
                    hint = nearest(text, known)
                    raise LabelError(
                        f"test.uri: {uri}, row {row}: label {label!r} is not in the taxonomy; {hint}"
                    )
    return sum(item.rows for item in listed)


@contextmanager
def _readable(uri: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise PoolError(f"test.uri: {uri} cannot be read: {' '.join(str(error).split())[:200]}") from None


def _listed(source: PoolSource, path: str) -> list[Listed]:
    try:
        listed = list(groups(source))
        if not listed:
            check_pool(source)  # its message says more, where there is nothing at all
    except UserError as error:
        raise type(error)(f"{path}: {error}".replace("pool.uri: ", "")) from None
    return listed
