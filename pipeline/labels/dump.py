"""`sisom labels dump`: all answers as one table, for another project."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.project import Config
from pipeline.errors import UserError
from pipeline.labels.export_questions import check_outside, store_of
from pipeline.labels.files import LabelFiles
from pipeline.labels.forms.rows import WRITERS
from pipeline.labels.tally import Labels, last_answers
from pipeline.types import LABELS
from pipeline.workspace.artefacts import open_workspace
from pipeline.workspace.frozen import latest


def dump(config: Config, out: str) -> dict[str, Any]:
    """Write the answers that stand to a new file.

    Of each annotator it is the last answer to an image, under the classes' names of today, so that the votes come to
    the same in another project. Images that were withdrawn are left out.

    Args:
        config: of the project.
        out: path or URI of the file, which must not exist; its name ends in .csv, .parquet or .jsonl.

    Returns:
        The numbers of answers and images, of the images left out, and the file.

    Raises:
        UserError: a wrong end, a place in the workspace, or a file that exists.
        LabelError: a label file that does not hold labels.
        StoreUnavailable: storage does not answer.
    """
    form = out.rpartition(".")[2]
    if form not in WRITERS:
        raise UserError(
            f"{out}: name it *.{', *.'.join(sorted(WRITERS))}; `sisom labels import` goes by the end"
        )
    workspace = open_workspace(config)
    workspace.check(config)
    store, name = store_of(out, config)
    check_outside(store.url(name), workspace)
    tables = LabelFiles.read(workspace, config.labels.renamed).tables(latest(workspace, config).taxonomy)
    rows = pa.concat_tables([LABELS.empty_table(), *tables])
    gone = Labels.of([rows]).withdrawn()
    places = sorted(at for votes in last_answers(rows).values() for at in votes.values())
    standing = rows.take(pa.array(places, pa.int64()))
    kept = standing.filter(pc.invert(pc.is_in(standing["id"], pa.array(sorted(gone), pa.string()))))
    kept = kept.sort_by([("id", "ascending"), ("annotator", "ascending")])
    if not store.put_if_absent(name, WRITERS[form](kept)):
        raise UserError(f"{store.url(name)} exists already; give another name")
    return {
        "answers": kept.num_rows,
        "images": len(set(kept["id"].to_pylist())),
        "withdrawn": len(gone),
        "file": store.url(name),
    }
