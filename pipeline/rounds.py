"""One round, from top to bottom.

    plan -> train -> evaluate -> slopes -> bank -> score -> select -> ask -> report -> commit

Each step leaves an artefact, written atomically, and is skipped where its artefact is there. What a step needs
beside artefacts comes from `plan.json`, the frozen inputs, so a resumed round equals an uninterrupted one. Clock
times lie in `timings/`, apart from everything that decides.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

import pyarrow as pa
import torch

import sisom
from pipeline import (
    engine,
    evaluate,
    labeled,
    oracle,
    pool_picks,
    pool_view,
    scoring,
    selection,
    train,
    triage,
    tune,
)
from pipeline.account import clear_parts, clear_together
from pipeline.config import Config, QueryPlan
from pipeline.engine import Cluster
from pipeline.errors import LabelError, LeaseHeld, printable
from pipeline.labels import PREFIX, Labels, batches, read_labels
from pipeline.lease import Lease
from pipeline.listing import freeze
from pipeline.memory import foresee
from pipeline.outcome import (
    answers_key,
    bank_file,
    member_key,
    metrics_of,
    stored_bank,
    stored_network,
    track,
    view_of,
)
from pipeline.planned import as_planned, grown, latest
from pipeline.plots import plots
from pipeline.progress import Voice
from pipeline.report import render
from pipeline.snapshot import Snapshot
from pipeline.stages import Network
from pipeline.strangeness import detector_of, fit, keep_features, moves_images, stored_detector
from pipeline.tracking import Tracker
from pipeline.types import Round
from pipeline.workspace import Workspace, round_key, to_json

DUPLICATES_KEY = "duplicates.parquet"


@dataclass(frozen=True)
class Project:
    """What every round of a project shares."""

    config: Config
    workspace: Workspace
    tracker: Tracker
    lease: Lease
    voice: Voice
    clock: Callable[[], float] = time.time  # seconds since 1970; a simulation has its own


def run_round(project: Project, cluster: Cluster, index: int) -> Round:
    """Do, or finish, one round; returns when it is committed.

    Raises:
        WaitingForLabels: the last query has not been answered.
        UserError: the pool or the labels are not what the config says.
        SystemFault: a stage failed; running again goes on where it stopped.
    """
    work = _Work(project, cluster, index)
    _plan(work)
    work = _Work(project, engine.start(work.config), index)  # on the device that was planned
    torch.set_num_threads(work.plan["threads"])  # the last bit of a sum depends on it
    _train(work)
    _evaluate(work)
    _search_slopes(work)
    _fit_bank(work)
    _score(work)
    _select(work)
    _ask(work)
    _report(work)
    return _commit(work)


class _Work:
    """A round in progress: its keys, its frozen inputs, and what several steps read, each read once.

    `config` is the project's until the round is planned, and from then on as the round has it.
    """

    def __init__(self, project: Project, cluster: Cluster, index: int) -> None:
        self.project = project
        self.workspace = project.workspace
        self.cluster = cluster
        self.index = index

    def key(self, name: str) -> str:
        return round_key(self.index, name)

    def done(self, name: str) -> bool:
        return self.workspace.exists(self.key(name))

    @contextmanager
    def timed(self, stage: str, images: Callable[[], int] | None = None) -> Iterator[None]:
        """Announce a stage and leave its seconds, and its images per second, beside the artefacts."""
        began = time.perf_counter()
        with engine.working(
            stage
        ):  # a worker killed for want of memory is told in a sentence, wherever it worked
            yield
        seconds = time.perf_counter() - began
        count = images() if images else 0
        self.workspace.write_json(self.key(f"timings/{stage}.json"), {"seconds": seconds, "images": count})
        rate = f", {count / seconds:.0f} images/s" if count else ""
        self.project.voice.say(f"  {stage:<9} {seconds:6.1f} s{rate}")

    @property
    def config(self) -> Config:
        """The config as this round has it."""
        return as_planned(self.project.config, self.plan)

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        """The frozen inputs."""
        found: Mapping[str, Any] = self.workspace.read_json(self.key("plan.json"))
        return found

    @cached_property
    def attempt(self) -> str:
        """A name that other frozen inputs would change: whatever goes on under it was begun with these."""
        return f"round-{self.index:03d}-{self.workspace.digest(self.key('plan.json'))[:8]}"

    @cached_property
    def snapshot(self) -> Snapshot:
        """The frozen listing of the pool."""
        return Snapshot.read(self.workspace, self.key(""))

    @cached_property
    def labels(self) -> Labels:
        """The answers that this round learns from, as they were when it was planned."""
        for key, digest in self.plan["label_digests"].items():
            if self.workspace.digest(key) != digest:
                place = self.workspace.store.url(key)
                raise LabelError(f"{place} has changed since round {self.index:03d} was planned; put it back")
        return read_labels(self.workspace, self.plan["labels"], self.config.taxonomy)

    @cached_property
    def labeled_set(self) -> labeled.LabeledSet:
        """The labeled rows, decoded into the object store."""
        table = self.workspace.read_table(self.key("labeled.parquet"))
        return labeled.read_labeled(table, self.snapshot, self.config, self.cluster)

    @cached_property
    def network(self) -> Network:
        """The trained classifier."""
        return stored_network(self.workspace, self.index, self.config)

    @cached_property
    def embedded(self) -> labeled.Embedded:
        """The features of the labeled rows."""
        return labeled.embed(self.labeled_set, self.network, self.config, self.cluster)

    @cached_property
    def judged(self) -> sisom.Features:
        """The labeled rows as the config's detector wants them: of other images, where it changes them."""
        detector = detector_of(self.config, self.network.build("cpu"))
        if not moves_images(detector):
            return self.embedded.features
        return labeled.embed(
            self.labeled_set, self.network, self.config, self.cluster, moved_by=detector
        ).features

    @cached_property
    def truth(self) -> oracle.Truth | None:
        """The truths, for the simulated oracle and for evaluation; None outside simulations."""
        return oracle.read_truth(self.config) if self.config.truth_uri else None

    @property
    def query_plan(self) -> QueryPlan:
        """What the query may hold: no more than the budget of labels had left."""
        return self.config.query.model_copy(update={"size": self.plan["query_size"]})


def round_seed(seed: int, index: int) -> int:
    """The seed of a round: below 2^31, different for every round."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:4], "big") >> 1


# -------------------------------------------------------------------------------------------------- steps


def _plan(work: _Work) -> None:
    """Freeze the inputs: labels, classes, the listing of the pool, the labeled rows' places, seed and config."""
    if work.done("plan.json"):
        return
    with work.timed("plan"):
        config, workspace, voice = work.project.config, work.workspace, work.project.voice
        keys = _label_batches(work)
        before = latest(workspace, config).taxonomy
        proposed = read_labels(workspace, keys, before).proposed()
        taxonomy = grown(before, proposed, config.open_world.promote_at)
        for name in taxonomy[len(before) :]:
            voice.say(f"  classes   {printable(name)!r} joins: {proposed[name]} answers name it")
        answers = read_labels(workspace, keys, taxonomy)
        ids, names = answers.labeled()
        if len(set(names)) < 2:
            raise LabelError(
                f"{workspace.store.url(PREFIX)}: labels of fewer than two classes can't train anything"
            )
        earlier = round_key(work.index - 1, "") if work.index else None
        listing = freeze(workspace, work.key(""), config, work.cluster, ids, earlier)
        voice.say(f"  pool      {listing.told()}")
        places = labeled.places_of(ids, listing, config, strict=work.index == 0)
        numbers = {name: i for i, name in enumerate(taxonomy)}
        here = [(name, numbers[label]) for name, label in zip(ids, names, strict=True) if name in places]
        rows = labeled.labeled_table(here, places, config.train.held_out, config.seed)
        foreseen = foresee(config, work.cluster, rows=listing.snapshot.rows, labeled=rows.num_rows)
        voice.say(f"  {foreseen.told()}")  # what can't be scored need not be trained for
        pool_picks.foresee(config, work.cluster, rows=listing.snapshot.rows)
        workspace.write_table(work.key(DUPLICATES_KEY), listing.duplicates)
        workspace.write_table(work.key("labeled.parquet"), rows)
        plan = {
            "index": work.index,
            "seed": round_seed(config.seed, work.index),
            "config": config.identity(),
            "config_digest": config.digest(),
            "taxonomy": list(taxonomy),
            "labels": keys,
            "label_digests": {key: workspace.digest(key) for key in keys},
            "labels_without_image": len(ids) - len(here),
            "query_size": _affordable(config, len(answers.answered())),
            "pool": {
                "shards": len(listing.snapshot),
                "rows": listing.snapshot.rows,
                "other": listing.other,
                "duplicates": listing.duplicates.num_rows,
                "changes": listing.changes,
                "digest": listing.snapshot.digest(),
            },
            "threads": max(1, (work.cluster.node_cpus - 1) // config.train.num_workers),
            # Another device or number of threads may change the last bit of a score.
            "scoring": {"device": work.cluster.device, "threads": config.resources.threads},
        }
        workspace.write_json(work.key("plan.json"), plan)


def _affordable(config: Config, answered: int) -> int:
    """How many questions the budget of labels still pays for, up to the size of a query."""
    left = config.query.size if config.stop.labels is None else config.stop.labels - answered
    return max(0, min(config.query.size, left))


def _label_batches(work: _Work) -> list[str]:
    """The label files that exist now; the first one is made."""
    config, workspace = work.project.config, work.workspace
    first = f"{PREFIX}000-initial.parquet"
    if not workspace.exists(first):
        workspace.write_table(first, oracle.initial(config))
    return batches(workspace)


def _train(work: _Work) -> None:
    if work.done("model/model.json"):
        return
    rows = 0
    with work.timed("train", lambda: rows):
        config, workspace = work.config, work.workspace
        for member in range(1, config.query.networks):
            if not workspace.exists(member_key(work.index, member)):
                other = _trained(work, member)
                rows += other.images
                workspace.store.put(member_key(work.index, member), other.weights)
        trained = _trained(work)
        rows += trained.images
        model = {
            "model": config.model.model_dump(mode="json"),
            "taxonomy": list(config.taxonomy),
            "training": {name: v for name, v in trained.record.items() if name != "resumed_from"},
            "unreadable": work.labeled_set.broken.to_pylist(),
            "weights_sha256": hashlib.sha256(trained.weights).hexdigest(),
        }
        workspace.store.put(member_key(work.index, 0), trained.weights)
        workspace.write_json(work.key("model/model.json"), model)


def _trained(work: _Work, member: int = 0) -> train.Trained:
    """The round's network, or another member of the committee that its query asks: from a seed of its own."""
    config, workspace, seed = work.config, work.workspace, work.plan["seed"]
    before = member_key(work.index - 1, member)
    warm = config.train.start == "last" and work.index > 0
    trained = train.train(
        work.labeled_set,
        workspace.store.get(before) if warm else None,
        config,
        work.cluster,
        storage_path=workspace.store.url("train"),
        name=f"{work.attempt}-member-{member:03d}" if member else work.attempt,
        seed=round_seed(seed, member) if member else seed,
        threads=work.plan["threads"],
    )
    if trained.record["resumed_from"]:
        work.project.voice.say(f"    training went on after epoch {trained.record['resumed_from']}")
    return trained


def _evaluate(work: _Work) -> None:
    if work.done("evaluation.json"):
        return
    found: dict[str, Any] | None = None
    with work.timed("evaluate", lambda: found["images"] if found else 0):
        found = evaluate.test_accuracy(work.network, work.config, work.cluster)
        work.workspace.write_json(work.key("evaluation.json"), found or {})


def _search_slopes(work: _Work) -> None:
    if work.done("slopes.json"):
        return
    with work.timed("embed", lambda: len(work.embedded.ids)):
        work.embedded  # noqa: B018 - computed here, so that its time is its own
    with work.timed("slopes"):
        found = tune.search(
            work.embedded.features,
            work.embedded.targets,
            work.config,
            work.cluster,
            storage_path=work.workspace.store.url("tune"),
            name=work.attempt,
            seed=work.plan["seed"],
            voice=work.project.voice,
        )
        work.workspace.write_json(work.key("slopes.json"), found)


def _fit_bank(work: _Work) -> None:
    """Fit the bank on all labeled rows, then set the threshold on the held-out ones, each without itself."""
    if work.done("bank.safetensors"):
        return
    with work.timed("bank"):
        config, rows = work.config, work.embedded
        found = work.workspace.read_json(work.key("slopes.json"))
        bank = sisom.fit_bank(
            rows.features,
            rows.targets,
            slopes=found["slopes"],
            subset=config.bank.subset,
            subset_method=config.bank.subset_method,
            seed=work.plan["seed"],
            outer=config.bank.outer,
            fusion=config.bank.fusion,
            rank=config.bank.rank,
            # Too few labels for a leave-one-out value: 1.0 makes SISOMe the energy score, which needs none.
            r_avg=1.0 if found["r_avg"] is None else None,
            num_classes=len(config.taxonomy),
        )
        chosen = torch.from_numpy(labeled.threshold_rows(rows.held_out.numpy()))
        if config.scoring.from_bank:
            scores = sisom.score(bank, rows.features.select(chosen), exclude=chosen)
            judged = getattr(scores, config.scoring.score)
        else:
            keep_features(work.workspace, work.index, work.judged, rows.targets)
            judged = _judged_without(work, chosen)
        limit = sisom.threshold(judged, config.scoring.keep)
        work.workspace.store.put(work.key("bank.safetensors"), replace(bank, threshold=limit).to_bytes())


def _judged_without(work: _Work, chosen: torch.Tensor) -> torch.Tensor:
    """What the config's detector says of labeled rows that it was not fitted to; of all, a fold at a time."""
    rows = work.embedded
    model = work.network.build("cpu")
    found = []
    for fold in [chosen] if len(chosen) < len(rows.ids) else labeled.folds(rows.targets):
        others = torch.ones(len(rows.ids), dtype=torch.bool)
        others[fold] = False
        if len(set(rows.targets[others].tolist())) < 2:  # so few that nothing is left to fit to
            others[:] = True
        fitted = fit(work.config, model, work.judged.select(others), rows.targets[others])
        assert fitted is not None  # only asked where a detector judges
        found.append(fitted.score(work.judged.select(fold)))
    return torch.cat(found)


def _score(work: _Work) -> None:
    if work.done("account.json"):
        clear_parts(work.workspace, work.key(""))  # what a run that died here has left
        return
    account: scoring.Account | None = None
    with work.timed("score", lambda: account.images if account else 0):
        live = partial(work.project.tracker.progress, work.index)
        account = scoring.score_pool(_scoring_job(work), work.project.voice, live)
        counts = {name: getattr(account, name) for name in ("listed", "scored", "quarantined")}
        work.workspace.write_json(work.key("account.json"), counts)
    clear_parts(work.workspace, work.key(""))


def _scoring_job(work: _Work) -> scoring.Job:
    bank = stored_bank(work.workspace, work.index)
    file = bank_file(work.workspace, work.index)
    duplicates = work.workspace.read_table(work.key(DUPLICATES_KEY))
    return scoring.prepare(
        work.workspace,
        work.key(""),
        work.snapshot,
        duplicates,
        work.network,
        bank,
        file,
        work.config,
        work.cluster,
        detector=stored_detector(work.workspace, work.index, work.network, work.config),
        members=[
            stored_network(work.workspace, work.index, work.config, member)
            for member in range(1, work.config.query.networks)
        ],
        seed=work.plan["seed"],
    )


def _select(work: _Work) -> None:
    if work.done("query.parquet"):
        clear_together(work.workspace, work.key(""))  # what a run that died here has left
        return
    with work.timed("select"):
        workspace, plan, seed = work.workspace, work.query_plan, work.plan["seed"]
        found = triage.tune_filter(workspace, work.key(""), work.labels)
        workspace.write_json(work.key("triage.json"), found)
        far_from = found["far_from"]
        answered = selection.settled(workspace, work.index, work.labels)
        extra = work.config.extra_columns
        kept = selection.gather(workspace, work.key(""), answered, plan, far_from, seed=seed, extra=extra)
        if plan.together and (budget := selection.informative_budget(kept, plan, far_from)):
            kept = selection.with_informative(kept, _together(work, answered, budget))
        novel = selection.novel_places(kept, plan, far_from)
        groups = None
        if novel.num_rows:
            groups = triage.groups_of(
                novel, selection.novel_budget(plan, far_from), work.snapshot, work.network, work.config,
                work.cluster, seed=seed,
            )  # fmt: skip
        workspace.write_table(work.key("query.parquet"), selection.query(kept, plan, far_from, groups))
    clear_together(work.workspace, work.key(""))


def _together(work: _Work, answered: frozenset[str], budget: int) -> pa.Table:
    """The informative rows, picked by a strategy that looks at them together."""
    rows = work.embedded
    question = pool_picks.Question(
        workspace=work.workspace,
        prefix=work.key(""),
        answered=answered,
        plan=work.query_plan,
        head=sisom.Head.of(work.network.build("cpu")),
        slopes=work.workspace.read_json(work.key("slopes.json"))["slopes"],
        labeled=sisom.Labeled(rows.features, rows.targets, len(work.config.taxonomy)),
        seed=work.plan["seed"],
        threads=work.plan["scoring"]["threads"],
    )
    shards = work.snapshot.numbers.tolist()
    return pool_picks.pick(question, shards, budget, work.cluster, rows=work.snapshot.rows)


def _ask(work: _Work) -> None:
    """Let the simulated oracle answer at once; people answer in their own time."""
    key = answers_key(work.index)
    if work.config.oracle.kind == "simulated" and not work.workspace.exists(key):
        assert work.truth is not None
        ids = work.workspace.read_table(work.key("query.parquet"), ["id"])["id"].to_pylist()
        propose = work.config.open_world.promote_at is not None
        work.workspace.write_table(key, oracle.simulated(work.truth, ids, propose=propose))


def _report(work: _Work) -> None:
    if work.done("report.html"):
        return
    with work.timed("report"):
        view = pool_view.view_scores(
            work.workspace,
            work.key(""),
            work.config.scoring.column,
            work.truth,
            work.labels.answered(),
        )
        metrics = metrics_of(work.workspace, work.index, work.config, work.labels, view)
        work.workspace.write_json(work.key("metrics.json"), metrics)
        page = view_of(work.workspace, work.index, work.config, work.snapshot, view, metrics)
        for name, png in plots(page).items():
            work.workspace.store.put(work.key(f"plots/{name}"), png)
        work.workspace.store.put(work.key("report.html"), render(page).encode())


def _commit(work: _Work) -> Round:
    """Write the manifest: from here on the round exists. MLflow is told afterwards, or by the next run."""
    workspace = work.workspace
    names = ["plan.json", "labeled.parquet", "shards.parquet", "model/model.safetensors", "slopes.json"]
    names += ["bank.safetensors", "account.json", "triage.json", "query.parquet"]
    keys = [*map(work.key, names)]
    keys += [member_key(work.index, member) for member in range(1, work.config.query.networks)]
    manifest = Round(
        index=work.index,
        seed=work.plan["seed"],
        config_digest=work.plan["config_digest"],
        labels=tuple(work.plan["labels"]),
        snapshot=work.plan["pool"]["digest"],
        artefacts=tuple((key.removeprefix(work.key("")), workspace.digest(key)) for key in keys),
    )
    written = to_json({**asdict(manifest), "artefacts": dict(manifest.artefacts)})
    lease = work.project.lease
    lease.hold()
    workspace.write_json(
        work.key("commit.json"),
        {"fence": lease.fence, "at": datetime.fromtimestamp(work.project.clock(), UTC).isoformat()},
    )
    key = work.key("round.json")
    if not workspace.store.put_if_absent(key, written) and workspace.store.get(key) != written:
        raise LeaseHeld(
            f"{workspace.store.url(key)}: another run has committed this round, and not as this one"
        )
    track(workspace, work.project.config, work.project.tracker, work.project.voice, work.index)
    return manifest
