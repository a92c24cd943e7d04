"""`sisom config check`: all faults that show before work starts."""

from __future__ import annotations

import itertools
import os
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from ray._private.ray_constants import (
    DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES,
    DEFAULT_OBJECT_STORE_MEMORY_PROPORTION,
)

from pipeline.cluster.layout import lay_out
from pipeline.config.project import Config
from pipeline.config.sections import Storage
from pipeline.errors import ConfigError, LabelError, PipelineError, PoolError, StorageError, nearest
from pipeline.labels import oracle
from pipeline.labels.sets import read_sets
from pipeline.pool.inventory.found import Lost
from pipeline.pool.shards import check_pool, survey, units
from pipeline.pool.source import PoolSource
from pipeline.rounds.preflight import check_model, check_places, check_test
from pipeline.score.memory import foresee
from pipeline.store.config_file import config_text, load_config
from pipeline.store.local import LocalStore
from pipeline.store.opening import open_store
from pipeline.studies.kinds import KINDS, StudyConfig, kind_of, load_study
from pipeline.track.tracker import open_tracker
from pipeline.workspace import keys
from pipeline.workspace.artefacts import open_workspace

LOOKED_AT = 20_000  # objects of the pool
COMPARED = 500_000  # rows whose ids are compared with labels
MOST_NAMED = 3


@dataclass
class Findings:
    """The good, and the faults that have to be mended first."""

    good: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def look(self, look: Callable[[], str]) -> bool:
        """Take in what a look says, or why it fails."""
        try:
            self.good.append(look())
        except PipelineError as error:
            self.faults.append(str(error))
            return False
        return True


def check(path: str, overrides: Sequence[str] = ()) -> Findings:
    """Look at everything that a config names.

    Nothing is changed, but for a test file in the workspace's place that is removed again.

    Args:
        path: the config, of a project or a study.
        overrides: `key.path=value` assignments.

    Raises:
        ConfigError: no such file, or none of YAML, or a config with one fault of its own.
    """
    findings = Findings()
    try:
        if kind_of(config_text(path, overrides), path) is not None:
            return _study(load_study(path, overrides), findings)
        config = load_config(path, overrides)
    except ConfigError as error:
        if len(error.faults) < 2:
            raise
        return Findings(faults=list(error.faults))
    right = findings.look(lambda: _model(config))
    if findings.look(lambda: _places(config)):
        findings.look(lambda: _workspace(config))
    findings.look(lambda: _tracking(config))
    seen = _Pool(config)
    if config.demo is not None and not _is_there(config):
        findings.good.append("pool: the demo's, which the first run makes")
        return findings
    whole = findings.look(seen.look)
    if config.test_uri is not None:
        findings.look(lambda: _test(config, seen if whole else None))
    if config.labels.sets:
        findings.look(lambda: _sets(config))
    labeled = _Labels(config, seen if whole else None)
    findings.look(labeled.look)
    if right:
        findings.look(lambda: _memory(config, rows=len(seen.ids), labeled=labeled.count))
    return findings


def _study(study: StudyConfig, findings: Findings) -> Findings:
    findings.good.append(f"a study of {KINDS[study.study].title}")
    findings.look(lambda: _writable(study.workspace, study.storage))
    findings.look(lambda: _tracking(study))
    return findings


def _model(config: Config) -> str:
    check_model(config)
    return f"model: {config.model.name} with layers {', '.join(config.model.layers)}, scored by {config.scoring.score}"


def _places(config: Config) -> str:
    check_places(config)
    return "places: workspace and pool lie apart"


def _workspace(config: Config) -> str:
    """Write into the workspace's place, which is this project's or nobody's."""
    told = _writable(config.workspace, config.storage)
    workspace = open_workspace(config)
    workspace.check(config)
    return told + (", and holds rounds" if workspace.exists(keys.PROJECT) else "")


def _writable(uri: str, storage: Storage) -> str:
    """Write a file and remove it again."""
    store = open_store(uri, storage)
    if isinstance(store, LocalStore):
        place = next(folder for folder in (store.root, *store.root.parents) if folder.exists())
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            raise StorageError(f"workspace: {uri} may not be written: {error.strerror}") from None
    else:
        name = f"check-{uuid.uuid4().hex}"
        store.put(name, b"")
        store.delete(name)
    return f"workspace: {uri} may be written"


def _tracking(config: Config | StudyConfig) -> str:
    """Ask MLflow once; rounds would go on without it, and send later."""
    return f"tracking: {open_tracker(config, open_store(config.workspace, config.storage)).check()}"


def _is_there(config: Config) -> bool:
    return next(PoolSource.of(config).roots.entries(), None) is not None


class _Pool:
    """A look at the first objects of the pool."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.ids: set[str] = set()
        self.whole = True  # whether `ids` are all

    def look(self) -> str:
        """List the first objects, and look into some of them."""
        source = PoolSource.of(self.config)
        check_pool(source)
        forms: Counter[str] = Counter()
        skipped: Counter[str] = Counter()
        lost: list[Lost] = []
        listed = units(source)
        shards = objects = 0
        for unit in listed:
            if unit.known:
                forms[unit.form] += len(unit.objects)
            objects += len(unit.objects)
            if len(self.ids) < COMPARED:
                found = survey(unit, source)
                skipped.update(found.left)
                if unit.kind:
                    skipped[unit.kind] += 1
                lost += found.lost
                for group in found.groups:
                    shards += 1
                    self.ids.update(group.ids.to_pylist())
            else:
                self.whole = False
            if objects >= LOOKED_AT:
                self.whole = self.whole and next(listed, None) is None
                break
        allowed = self.config.pool.max_unreadable_files
        if allowed is not None and len(lost) > allowed:
            raise PoolError(f"pool: {lost[0].uri} can't be read in full ({lost[0].reason})")
        names = {"parquet": "Parquet files", "tar": "tars", "image": "image files"}
        told = ", ".join(f"{count} {names[form]}" for form, count in forms.items())
        least = "" if self.whole else "at least "
        left_out = "".join(
            f"; left out: {count} {kind}" for kind, count in itertools.islice(sorted(skipped.items()), 8)
        )
        return f"pool: {told}; {least}{len(self.ids)} images in {least}{shards} shards{left_out}"


def _test(config: Config, pool: _Pool | None) -> str:
    """Read the test set's labels, and compare its ids with the pool's."""
    rows = check_test(config)
    told = f"test: {rows} images at {config.test_uri}"
    if config.test_uri is None or pool is None:
        return told
    source = PoolSource.of(config).beside(config.test_uri)
    groups = (group for unit in units(source) if unit.known for group in survey(unit, source).groups)
    shared = sorted(pool.ids & {name for group in groups for name in group.ids.to_pylist()})
    if not shared:
        return told
    return f"{told}; {len(shared)} ids are the pool's too, such as {shared[0]!r}: leave the images out of one of them"


def _sets(config: Config) -> str:
    found = read_sets(config, config.taxonomy)
    rows = sum(len(group.ids) for listing in found for group in listing.groups)
    return f"labels.sets: {rows} images in {len(found)} sets"


def _memory(config: Config, *, rows: int, labeled: int) -> str:
    """Plan the memory of this machine; a cluster's is not known here."""
    if "RAY_ADDRESS" in os.environ:
        return "memory: the cluster's, which the run plans when it has joined it"
    free = psutil.virtual_memory().available
    store = min(int(free * DEFAULT_OBJECT_STORE_MEMORY_PROPORTION), DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES)
    here = {"CPU": os.cpu_count() or 1, "memory": free - store, "object_store_memory": store}
    cluster = lay_out(config.resources, [here])
    return foresee(config, cluster, rows=max(rows, 1), labeled=max(labeled, 1)).told()


class _Labels:
    """A look at the first labels, given or drawn."""

    def __init__(self, config: Config, pool: _Pool | None) -> None:
        self.config = config
        self.pool = pool
        self.count = 0

    def look(self) -> str:
        """Find them in the pool."""
        if self.config.truth_uri is not None:
            name, uri = "oracle.truth", self.config.truth_uri  # of truths elsewhere nobody is asked
        elif self.config.oracle.initial is not None:
            name, uri = "oracle.initial", self.config.oracle.initial
        else:
            return "labels: none to begin with"
        wanted = oracle.initial(self.config)["id"].to_pylist()
        self.count = len(wanted)
        pool = self.pool
        if pool is None or not pool.whole:
            return f"labels: {len(wanted)} in {uri}, not compared with the pool"
        missing = [each for each in wanted if each not in pool.ids]
        if missing:
            named = "; ".join(f"{each!r}, {_meant(each, pool.ids)}" for each in missing[:MOST_NAMED])
            raise LabelError(
                f"{name}: {len(missing)} of {len(wanted)} ids of {uri} are not in the pool, such as {named}"
            )
        return f"labels: {len(wanted)} in {uri}, all in the pool"


def _meant(name: str, ids: set[str]) -> str:
    """Guess the id that was meant, by its file name first."""
    last = Path(name).name.casefold()
    stem = Path(last).stem
    same = [each for each in ids if Path(each).name.casefold() == last]
    same = same or [each for each in ids if Path(each).stem.casefold() == stem]
    if same:
        return f"did you mean {min(same)!r}?"
    return nearest(name, sorted(ids)[:: max(1, len(ids) // 2000)])
