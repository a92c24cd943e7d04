"""The ablation study: effects of choices on AUROC, query and time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pyarrow as pa

from pipeline.encoding import canonical
from pipeline.report.blocks import Block, Table
from pipeline.studies.ablation.config import AblationStudy, Search, Variant
from pipeline.studies.ablation.variants import fit
from pipeline.studies.image_sets.roles import find_sets, roles_of
from pipeline.studies.lab.cells import Bench, Cell, Lab, compute
from pipeline.studies.lab.checkpoints import networks
from pipeline.studies.lab.features import FeatureFolders, facts_of, features, read_features
from pipeline.studies.lab.scoreboard import Line, all_values, blocks, measures, summary
from pipeline.studies.outcome import CellRecord, Outcome, percent, seconds_table, spread


def run(config: AblationStudy, lab: Lab) -> Outcome:
    """Run the study: compute the missing cells and collect all results."""
    variants = config.variants()
    sets = find_sets(roles_of(config), config.data, config.storage)
    nets = networks(config, sets, lab)
    embedded = {
        precision: features(config, sets, nets, lab=lab, precision=precision)
        for precision in sorted({variant.precision for variant in variants.values()}, reverse=True)
    }
    lab.voice.say(f"{len(variants)} variants on {len(nets)} networks")
    keys = list(product(range(len(nets)), variants))
    cells = [_cell(config, name, embedded[variants[name].precision][i]) for i, name in keys]
    results = compute(cells, lab)
    unknown = [role for role in sets.wanted if "/" in role]
    lines = [
        Line(name, nets[i].name, {role: result["sets"][role] for role in unknown})
        for (i, name), result in zip(keys, results, strict=True)
    ]
    first = next(iter(embedded.values()))
    return Outcome(
        facts=facts_of(sets, first, lab.bench.open()) | {"base": _shown(config.base)},
        tables={
            "values": all_values(lines, "variant"),
            "summary": summary(lines, "variant"),
            "variants": _told(config, keys, results, nets=[net.name for net in nets]),
        },
        seconds=seconds_table(results),
        blocks=[*blocks(lines, "variant"), _effects(config, keys, results)],
        records=[
            CellRecord(
                cell.name,
                cell.spec["variant"],
                {
                    f"{role}/{name}": value
                    for role, each in result["sets"].items()
                    for name, value in each.items()
                }
                | {"r_avg": result["r_avg"]},
            )
            for cell, result in zip(cells, results, strict=True)
        ],
    )


@dataclass(frozen=True)
class VariantHints:
    """The variant of a cell, and the search for its slopes."""

    variant: Variant
    search: Search


def _cell(config: AblationStudy, name: str, place: FeatureFolders) -> Cell[VariantHints]:
    variant = config.variants()[name]
    return Cell(
        name=f"variants/{place.checkpoint.name}/{name}",
        spec={
            "variant": variant.model_dump(mode="json"),
            "search": config.search.model_dump(mode="json") if variant.slopes == "searched" else None,
            "features": dict(place.folders),
            "query": config.query,
            "threads": config.compute.threads,
        },
        work=_vary,
        hints=VariantHints(variant, config.search),
    )


def _vary(cell: Cell[VariantHints], bench: Bench, shared: Any) -> Mapping[str, Any]:  # noqa: ARG001
    workspace, folders = bench.open(), cell.spec["features"]
    fitted_on, labels = read_features(workspace, folders["fit"])
    began = time.perf_counter()
    fitted = fit(cell.hints.variant, fitted_on, labels, search=cell.hints.search)
    fit_s = time.perf_counter() - began
    scores, score_s, rows = {}, 0.0, 0
    for role in [role for role in folders if role != "fit"]:
        found, truth = read_features(workspace, folders[role])
        began = time.perf_counter()
        scores[role] = fitted.score(found)
        score_s += time.perf_counter() - began
        rows += len(found)
        if role == "known":
            wrong = found.logits.argmax(dim=1) != truth
    size = min(cell.spec["query"], len(scores["known"]))
    query = scores["known"].double().argsort(descending=True, stable=True)[:size]
    return {
        "sets": {role: measures(scores["known"], each) for role, each in scores.items() if role != "known"},
        "r_avg": float(fitted.bank.r_avg),
        "slopes": dict(fitted.bank.slopes),
        "bank": len(fitted.bank),
        "wrong": float(wrong[query].double().mean()),
        "query": query.tolist(),
        "seconds": {"fit": fit_s, "score": score_s, "score_per_1000": 1000 * score_s / rows},
    }


Keys = Sequence[tuple[int, str]]
Results = Sequence[Mapping[str, Any]]


def _overlap(keys: Keys, results: Results) -> list[float]:
    """Return the share of each query that the base's query holds too.

    The two queries are on the same network.
    """
    base = {i: set(result["query"]) for (i, _), result in reversed(list(zip(keys, results, strict=True)))}
    return [
        len(base[i] & set(result["query"])) / len(result["query"])
        for (i, _), result in zip(keys, results, strict=True)
    ]


def _told(config: AblationStudy, keys: Keys, results: Results, *, nets: Sequence[str]) -> pa.Table:
    """Return the variants on each network, as a table.

    A row holds a variant's parts, its slopes, r_avg, its bank and its query.
    """
    variants = config.variants()
    rows = [
        {
            "variant": name,
            "network": nets[i],
            "parts": canonical(variants[name].model_dump(mode="json")).decode(),
            "slopes": canonical(result["slopes"]).decode(),
            "bank": result["bank"],
            "r_avg": result["r_avg"],
            "query_shared_with_base": shared,
            "query_wrong": result["wrong"],
        }
        for (i, name), result, shared in zip(keys, results, _overlap(keys, results), strict=True)
    ]
    return pa.Table.from_pylist(rows)


def _effects(config: AblationStudy, keys: Keys, results: Results) -> Block:
    rows = []
    shared = _overlap(keys, results)
    for name in config.variants():
        mine = [(r, s) for (_, each), r, s in zip(keys, results, shared, strict=True) if each == name]
        parts = {n: spread([r["seconds"][n] for r, _ in mine])[0] for n in ("fit", "score_per_1000")}
        rows.append(
            (
                name,
                f"{spread([r['r_avg'] for r, _ in mine])[0]:.3f}",
                percent(spread([s for _, s in mine])[0]),
                percent(spread([r["wrong"] for r, _ in mine])[0]),
                f"{mine[0][0]['bank']:,}",
                f"{parts['fit']:.2f}",
                f"{parts['score_per_1000']:.3f}",
            )
        )
    heads = ("variant", "r_avg", "query as base, %", "query wrong, %", "bank", "fit, s", "1,000 images, s")
    return Block(
        "What else it changes",
        f"Of the known test images, the {config.query:,} with the highest scores are the query: how many of them the "
        "base's query holds too, and how many the network gets wrong (more is more to learn from). Seconds on the "
        "cells' threads, features given.",
        (),
        (Table(heads, tuple(rows)),),
    )


def _shown(variant: Variant) -> str:
    parts = variant.model_dump(mode="json", exclude_none=True)
    return ", ".join(f"{name} {value}" for name, value in parts.items())
