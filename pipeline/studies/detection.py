"""The OOD study: detectors x sets x checkpoints."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from torch import Tensor

import sisom
from pipeline.engine import Cluster
from pipeline.progress import Voice
from pipeline.studies.cells import Bench, Cell, compute
from pipeline.studies.checkpoints import (
    Embedded,
    facts_of,
    features,
    find_sets,
    networks,
    read_features,
    roles_of,
)
from pipeline.studies.config import Detection, OodStudy
from pipeline.studies.outcome import Block, CellRecord, Outcome, Table, seconds_table, spread
from pipeline.studies.scoreboard import Line, all_values, blocks, measures, summary
from pipeline.workspace import Workspace


def run(config: OodStudy, bench: Bench, cluster: Cluster, voice: Voice) -> Outcome:
    """Compute what is missing, and tell what came out."""
    roles = roles_of(config)
    if config.validation is not None and any(choice.sweep for choice in config.detectors):
        roles |= {"validation": config.validation.known, "unknown": config.validation.unknown}
    sets = find_sets(roles, config.data, config.storage)
    embedded = features(config, sets, networks(config, sets, bench, cluster, voice), bench, cluster, voice)
    voice.say(f"{len(config.detectors)} detectors on {len(embedded)} networks")
    pairs = list(product(embedded, config.detectors))
    cells = [_cell(choice, place, config) for place, choice in pairs]
    results = compute(cells, bench, cluster, voice)
    lines = [
        Line(choice.label, place.checkpoint.name, result["sets"])
        for (place, choice), result in zip(pairs, results, strict=True)
    ]
    return Outcome(
        facts=facts_of(sets, embedded, bench.open()),
        tables={"values": all_values(lines, "detector"), "summary": summary(lines, "detector")},
        seconds=seconds_table(results),
        blocks=[*blocks(lines, "detector"), _details(lines, results)],
        records=[
            CellRecord(
                cell.name,
                {"detector": cell.spec["detector"], **cell.spec["options"], **result["chosen"]},
                {
                    f"{role}/{name}": value
                    for role, each in result["sets"].items()
                    for name, value in each.items()
                },
            )
            for cell, result in zip(cells, results, strict=True)
        ],
    )


def _cell(choice: Detection, place: Embedded, config: OodStudy) -> Cell:
    return Cell(
        name=f"detectors/{place.checkpoint.name}/{choice.label}",
        spec={
            "detector": choice.name,
            "options": choice.options,
            "sweep": {key: list(values) for key, values in choice.sweep.items()},
            "features": dict(place.folders),
            "threads": config.compute.threads,
        },
        work=_detect,
        hints={"checkpoint": place.checkpoint, "config": config},
    )


def _detect(cell: Cell, bench: Bench, shared: Any) -> Mapping[str, Any]:  # noqa: ARG001
    workspace, folders = bench.open(), cell.spec["features"]
    fitted_on, labels = read_features(workspace, folders["fit"])
    options = {key: _frozen(value) for key, value in cell.spec["options"].items()}
    chosen: dict[str, Any] = {}
    if cell.spec["sweep"]:
        chosen = _best(cell, workspace, fitted_on, labels, options)
    detector = sisom.DETECTORS[cell.spec["detector"]](**{**options, **chosen})
    began = time.perf_counter()
    state = detector.fit(fitted_on, labels)
    fit_s = time.perf_counter() - began
    scores, score_s, rows = {}, 0.0, 0
    for role in [role for role in folders if role == "known" or "/" in role]:
        found, _ = read_features(workspace, folders[role])
        began = time.perf_counter()
        scores[role] = detector.score(state, found)
        score_s += time.perf_counter() - began
        rows += len(found)
    return {
        "chosen": chosen,
        "sets": {role: measures(scores["known"], each) for role, each in scores.items() if role != "known"},
        "seconds": {"fit": fit_s, "score": score_s, "score_per_1000": 1000 * score_s / rows},
    }


def _best(
    cell: Cell, workspace: Workspace, fitted_on: sisom.Features, labels: Tensor, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The combination of swept options with the highest AUROC on the validation sets, ties to the first."""
    known, _ = read_features(workspace, cell.spec["features"]["validation"])
    unknown, _ = read_features(workspace, cell.spec["features"]["unknown"])
    sweep: Mapping[str, Sequence[Any]] = cell.spec["sweep"]
    found: list[tuple[float, dict[str, Any]]] = []
    for values in product(*sweep.values()):
        candidate = {key: _frozen(value) for key, value in zip(sweep, values, strict=True)}
        detector = sisom.DETECTORS[cell.spec["detector"]](**{**options, **candidate})
        state = detector.fit(fitted_on, labels)
        auroc = sisom.metrics.auroc(detector.score(state, known), detector.score(state, unknown))
        found.append((auroc, candidate))
    return max(found, key=lambda each: each[0])[1]


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _details(lines: Sequence[Line], results: Sequence[Mapping[str, Any]]) -> Block:
    """Seconds of each detector, and what a sweep has chosen."""
    rows = []
    for method in dict.fromkeys(line.method for line in lines):
        mine = [result for line, result in zip(lines, results, strict=True) if line.method == method]
        fit_s, score_s = (spread([each["seconds"][n] for each in mine])[0] for n in ("fit", "score_per_1000"))
        swept = sorted({", ".join(f"{k}={v}" for k, v in each["chosen"].items()) for each in mine} - {""})
        rows.append((method, f"{fit_s:.2f}", f"{score_s:.3f}", "; ".join(swept) or "-"))
    return Block(
        "Cost",
        "Seconds on the cells' threads, features given: fitting once, and scoring 1,000 images. Chosen: by validation.",
        (),
        (Table(("detector", "fit, s", "1,000 images, s", "chosen"), tuple(rows)),),
    )
