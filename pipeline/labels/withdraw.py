"""`sisom labels withdraw`: images that must go.

A tombstone, which is a batch of its own, takes an image out of all later rounds; nothing is rewritten. What shows the
image or holds its features is deleted, and the deletion is on record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.project import Config
from pipeline.encoding import canonical, to_json, to_parquet
from pipeline.errors import LabelError, nearest
from pipeline.labels.files import LabelFiles
from pipeline.labels.forms.tables import label_table
from pipeline.labels.questions import Questions
from pipeline.labels.tally import Labels
from pipeline.types import WITHDRAWN, Label
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace, open_workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import latest


def withdraw(config: Config, ids: Sequence[str], *, dry_run: bool = False) -> dict[str, Any]:
    """Withdraw images from all later rounds.

    These neither learn from them, nor ask about them, nor show them. Withdrawing an image again completes what an
    interruption has left.

    Args:
        config: of the project.
        ids: of the images, each known to the workspace.
        dry_run: only look, change nothing.

    Returns:
        The ids; those `known` as withdrawn already; the `batch`; the files that were `deleted`; `learned`, the rounds
        whose model and bank have seen one of the images; `shown`, those whose report has shown one; `under_way`, the
        round in progress if it is one of these.

    Raises:
        LabelError: an id that the workspace does not know; nothing is withdrawn then.
        StoreUnavailable: storage does not answer.
    """
    workspace = open_workspace(config)
    workspace.check(config)
    files = LabelFiles.read(workspace, config.labels.renamed)
    answers = files.labels(latest(workspace, config).taxonomy)
    names = _known(workspace, config, ids, answers)
    seen = _Seen.of(workspace, frozenset(names))
    fresh = [name for name in names if name not in answers.withdrawn()]
    digest = hashlib.sha256(canonical(names)).hexdigest()[:16]
    batch = keys.tombstone_key(workspace.committed(), hashlib.sha256(canonical(fresh)).hexdigest()[:16])
    if not dry_run:
        if fresh:
            table = label_table(Label(name, None, WITHDRAWN, "") for name in fresh)
            workspace.store.put_if_absent(batch, to_parquet(table))
        if seen.files:  # on record before they go, so that an interruption leaves no gap in it
            record = {"ids": names, "deleted": seen.files, "learned": seen.learned, "shown": seen.shown}
            workspace.store.put_if_absent(keys.withdrawal_key(workspace.committed(), digest), to_json(record))
        for key in seen.files:
            workspace.store.delete(key)
    committed = workspace.committed()
    return {
        "withdrawn": names,
        "known": len(names) - len(fresh),
        "batch": workspace.store.url(batch) if fresh else None,
        "deleted": [workspace.store.url(key) for key in seen.files],
        "learned": [index for index in seen.learned if index < committed],
        "shown": [index for index in seen.shown if index < committed],
        "under_way": committed if committed in (*seen.learned, *seen.shown) else None,
        "written": not dry_run,
    }


def _known(workspace: Workspace, config: Config, ids: Sequence[str], answers: Labels) -> list[str]:
    """Return the ids of a workspace that were meant, sorted."""
    heard = answers.heard()
    learned = {name for index in _planned(workspace) for name in _labeled(workspace, index)}
    asked: frozenset[str] = frozenset()
    pool: dict[str, tuple[str, str | None]] = {}
    if workspace.committed():
        questions = Questions.read(workspace, config)
        ids = [name if name in heard else questions.meant(name) for name in ids]
        asked = frozenset(questions.uris)
        pool = questions.in_pool(set(ids) - heard - learned - asked)
    known = heard | learned | asked
    for name in ids:
        if name not in known and name not in pool:
            raise LabelError(
                f"{name!r} is no image that this project knows; {nearest(name[:200], sorted(known)[:10_000])}"
            )
    return sorted({pool[name][0] if name in pool and name not in known else name for name in ids})


def _planned(workspace: Workspace) -> Iterator[int]:
    """List the rounds that are planned, committed or not."""
    committed = workspace.committed()
    yield from range(committed)
    if Folder.of_round(workspace, committed).exists(keys.PLAN):
        yield committed


def _labeled(workspace: Workspace, index: int) -> list[str]:
    folder = Folder.of_round(workspace, index)
    if not folder.exists(keys.LABELED):
        return []
    names: list[str] = folder.read_table(keys.LABELED, ["id"])["id"].to_pylist()
    return names


@dataclass(frozen=True)
class _Seen:
    """Traces of images in a workspace.

    learned  rounds whose model and bank have seen one of them
    shown    rounds whose report has shown one
    files    keys of the committed rounds' files that hold thumbnails or features
    """

    learned: list[int]
    shown: list[int]
    files: list[str]

    @classmethod
    def of(cls, workspace: Workspace, names: frozenset[str]) -> _Seen:
        """Look for images in all rounds."""
        learned, shown, files = [], [], []
        reports: list[bytes] = []
        committed = workspace.committed()
        for index in _planned(workspace):
            folder = Folder.of_round(workspace, index)
            if not names.isdisjoint(_labeled(workspace, index)):
                learned.append(index)
                if index < committed and folder.exists(keys.LABELED_FEATURES):
                    files.append(folder.key(keys.LABELED_FEATURES))
            asked = folder.read_table(keys.QUERY, ["id"]) if folder.exists(keys.QUERY) else None
            if asked is not None and not names.isdisjoint(asked["id"].to_pylist()):
                shown.append(index)
                if index < committed and folder.exists(keys.REPORT):
                    files.append(folder.key(keys.REPORT))
                    reports.append(folder.get(keys.REPORT))
        return cls(learned, shown, files + _copies(workspace, reports))


def _copies(workspace: Workspace, reports: Sequence[bytes]) -> list[str]:
    """Find the copies of reports that MLflow has in the workspace."""
    if not reports:
        return []
    found = [key for key in workspace.keys(f"{keys.MLFLOW_ARTEFACTS}/") if key.endswith(f"/{keys.REPORT}")]
    return [key for key in found if workspace.store.get(key) in reports]
