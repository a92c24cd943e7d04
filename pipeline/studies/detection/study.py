"""The OOD study: detectors x sets x checkpoints."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import torch

import sisom
from pipeline.model.detector import detector_for
from pipeline.model.network import normalise
from pipeline.report.blocks import Block, Table
from pipeline.store.opening import open_store
from pipeline.studies.detection.config import Detection, OodStudy
from pipeline.studies.image_sets.roles import find_sets, roles_of
from pipeline.studies.image_sets.sets import MAX_PIXELS, open_set
from pipeline.studies.lab.cells import Bench, Cell, Lab, compute
from pipeline.studies.lab.checkpoints import Checkpoint, networks
from pipeline.studies.lab.features import FeatureFolders, facts_of, features, read_features
from pipeline.studies.lab.networks import load
from pipeline.studies.lab.scoreboard import Line, all_values, blocks, measures, summary
from pipeline.studies.outcome import CellRecord, Outcome, seconds_table, spread
from pipeline.studies.sections import ImageSet
from sisom.bank.subset import choose_rows


def run(config: OodStudy, lab: Lab) -> Outcome:
    """Run the study: compute the missing cells and collect all results."""
    roles = roles_of(config)
    if config.validation is not None and any(choice.sweep for choice in config.detectors):
        roles |= {"validation": config.validation.known, "unknown": config.validation.unknown}
    sets = find_sets(roles, config.data, config.storage)
    embedded = features(config, sets, networks(config, sets, lab), lab=lab)
    lab.voice.say(f"{len(config.detectors)} detectors on {len(embedded)} networks")
    pairs = list(product(embedded, config.detectors))
    cells = [
        _cell(choice, place, DetectorHints(config, place.checkpoint, sets.wanted)) for place, choice in pairs
    ]
    results = compute(cells, lab)
    lines = [
        Line(
            choice.label, place.checkpoint.name, {role: result["sets"][role] for role in roles if "/" in role}
        )
        for (place, choice), result in zip(pairs, results, strict=True)
    ]
    return Outcome(
        facts=facts_of(sets, embedded, lab.bench.open()),
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


@dataclass(frozen=True)
class DetectorHints:
    """Network and images of a detector's cell; `sets` are by role."""

    config: OodStudy
    checkpoint: Checkpoint
    sets: Mapping[str, ImageSet]


def _cell(choice: Detection, place: FeatureFolders, hints: DetectorHints) -> Cell[DetectorHints]:
    return Cell(
        name=f"detectors/{place.checkpoint.name}/{choice.label}",
        spec={
            "detector": choice.name,
            "options": choice.options,
            "sweep": choice.swept(),
            "rows": choice.rows,
            "features": dict(place.folders),
            "threads": hints.config.compute.threads,
        },
        work=_detect,
        hints=hints,
    )


def _detect(cell: Cell[DetectorHints], bench: Bench, shared: Any) -> Mapping[str, Any]:  # noqa: ARG001
    scene = _Scene(cell, bench)
    options = {key: _frozen(value) for key, value in cell.spec["options"].items()}
    chosen = _chosen(scene, cell.spec["sweep"], options) if cell.spec["sweep"] else {}
    detector = scene.detector({**options, **chosen})
    began = time.perf_counter()
    state = detector.fit(*scene.fitted_on)
    fit_s = time.perf_counter() - began
    scores, score_s, rows = {}, 0.0, 0
    for role in [role for role in cell.spec["features"] if role == "known" or "/" in role]:
        found = scene.features(role, detector)
        began = time.perf_counter()
        scores[role] = detector.score(state, found)
        score_s += time.perf_counter() - began
        rows += len(found)
    return {
        "chosen": chosen,
        "sets": {role: measures(scores["known"], each) for role, each in scores.items() if role != "known"},
        "seconds": {"fit": fit_s, "score": score_s, "score_per_1000": 1000 * score_s / rows},
    }


def _chosen(scene: _Scene, sweep: Mapping[str, Sequence[Any]], options: Mapping[str, Any]) -> dict[str, Any]:
    """Choose among swept options by AUROC on the validation sets."""

    def judge(candidate: Mapping[str, Any]) -> float:
        detector = scene.detector({**options, **candidate})
        state = detector.fit(*scene.fitted_on)
        known, unknown = (
            detector.score(state, scene.features(role, detector)) for role in ("validation", "unknown")
        )
        return sisom.metrics.auroc(known, unknown)

    values = {key: [_frozen(value) for value in each] for key, each in sweep.items()}
    return sisom.choose_options(values, judge)[0]


class _Scene:
    """Network, features and images of a detector's cell.

    Network and images are loaded only if they are needed.
    """

    def __init__(self, cell: Cell[DetectorHints], bench: Bench) -> None:
        self._cell, self._bench, self._workspace = cell, bench, bench.open()
        self._config = cell.hints.config
        features, labels = read_features(self._workspace, cell.spec["features"]["fit"])
        if cell.spec["rows"] is not None:
            kept, _ = choose_rows(features.penultimate, labels, size=cell.spec["rows"])
            features, labels = features.select(kept), labels[kept]
        self.fitted_on = (features, labels)

    @cached_property
    def _net(self) -> torch.nn.Module:
        checkpoint = self._cell.hints.checkpoint
        weights = open_store(checkpoint.uri, self._bench.storage).get("")
        return load(self._config.model, self.fitted_on[0].logits.shape[1], weights, device=self._bench.device)

    def detector(self, options: Mapping[str, Any]) -> Any:
        """Build the cell's detector, with the network's last layer if needed."""
        name = self._cell.spec["detector"]
        needs = getattr(sisom.DETECTORS[name], "needs", ())
        head = sisom.Head.of(self._net.cpu()) if "head" in needs else None
        return detector_for(name, options, self._config.model, head=head)

    def features(self, role: str, detector: Any) -> sisom.Features:
        """Return the features of a set.

        They are the stored ones; for a detector that perturbs images, those of the perturbed images.
        """
        if "model" not in detector.needs:
            return read_features(self._workspace, self._cell.spec["features"][role])[0]
        config = self._config
        images = open_set(self._cell.hints.sets[role], config.data, config.storage)
        parts, size = [], self._bench.compute.batch_size
        for piece in images.pixels(config.model.transform(MAX_PIXELS)):
            for start in range(0, len(piece), size):
                part = torch.from_numpy(piece[start : start + size]).to(self._bench.device)
                moved = detector.perturb(self._net, normalise(part, config.model))
                parts.append(sisom.extract(self._net, moved, config.model.layers[-1:]).to("cpu"))
        return sisom.Features.concat(parts)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _details(lines: Sequence[Line], results: Sequence[Mapping[str, Any]]) -> Block:
    """Return a block with each detector's seconds and its sweep's choice."""
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
