"""Every key of a workspace, made here and nowhere else.

    project.json                          the project that owns the workspace
    lease.json                            the run that works here now
    labels/000-initial.parquet            the labels that the project begins with
    labels/NNN-round-MMM.parquet          the simulated oracle's answers to the query of round MMM, NNN = MMM + 1
    labels/NNN-answers.parquet            people's answers, as messages name it; any other name will do
    labels/NNN-import-*.parquet           what `sisom labels import` took in
    labels/NNN-withdrawn-*.parquet        tombstones of images that were withdrawn
    withdrawn/NNN-*.json                  what was deleted with them, and which rounds have seen them
    mlflow/                               MLflow's database and artefacts, where `tracking.uri` names no other place
    train/, tune/                         what Ray Train and the search for slopes may resume from
    rounds/NNN/                           a round, in the order in which its steps write:
        pool/NNNNN.parquet                the listing of the pool, in parts
        shards.parquet                    one row for each shard of the listing
        duplicates.parquet                rows whose id appears earlier in the pool
        unreadable.parquet                tables and tars that can't be read in full, if the config allows any
        sets/NNN/                         the listings of labeled sets outside the pool
        labeled.parquet                   the labeled rows, their places, and which are held out
        plan.json                         the frozen inputs
        model/member-NNN.safetensors      the other networks of a committee
        model/model.safetensors           the round's network
        model/model.json                  what it is, and how training went
        evaluation.json                   its accuracy on the test set
        slopes.json                       the steepness of each layer's sigmoid
        labeled-features.safetensors      what a detector is fitted to, if one judges in the bank's place
        bank.safetensors                  the bank with its threshold
        parts/NNNNNNNN.parquet            a finished shard's rows, until `account.json` is written
        together/NNNNNNNN.parquet         a shard's rows for a whole-pool strategy, until there is a query
        scores/NNNNN.parquet              the scored rows
        quarantine/NNNNN.parquet          the rows that could not be scored
        account.json                      how many rows were listed, scored, quarantined
        triage.json                       the filter between novel and far
        query.parquet                     what the round asks about
        timings/STEP.json                 clock times, apart from all that decides results
        metrics.json                      the results of the round in numbers
        plots/NAME.png, report.html       the same for people
        commit.json                       when the round was committed, and under which fence
        round.json                        the manifest, last: with it the round exists
        tracking.json                     where MLflow has the round

`sisom score` leaves `pool/` to `duplicates.parquet`, `plan.json` and `parts/` to `quarantine/` in a folder of its own,
and beside them `listing.json` once its pool is listed, and `summary.json` once all of it is scored.
"""

from __future__ import annotations

import re
from typing import Final

# ----------------------------------------------------------------------------------- below the workspace
PROJECT: Final = "project.json"
LEASE: Final = "lease.json"
LABELS: Final = "labels/"
WITHDRAWALS: Final = "withdrawn/"
INITIAL_LABELS: Final = f"{LABELS}000-initial.parquet"
MLFLOW_DATABASE: Final = "mlflow/mlflow.db"
MLFLOW_ARTEFACTS: Final = "mlflow/artifacts"
TRAIN: Final = "train"
TUNE: Final = "tune"

_TOMBSTONE: Final = "-withdrawn-"
_NUMBERED: Final = re.compile(rf"{LABELS}(\d{{3}})-")


def round_key(index: int, name: str) -> str:
    """Key of an artefact of a round."""
    return f"rounds/{index:03d}/{name}"


def oracle_answers_key(index: int) -> str:
    """Key of the simulated oracle's answers to a round's query."""
    return f"{LABELS}{index + 1:03d}-round-{index:03d}.parquet"


def people_answers_key(index: int) -> str:
    """Key for people's answers to a round's query, as messages name it."""
    return f"{LABELS}{index + 1:03d}-answers.parquet"


def import_key(number: int, turn: int, digest: str) -> str:
    """Key of an imported batch: sorted by number, then by turn."""
    return f"{LABELS}{number:03d}-import-{turn:04d}-{digest}.parquet"


def tombstone_key(number: int, digest: str) -> str:
    """Key of a batch of images withdrawn after so many rounds."""
    return f"{LABELS}{number:03d}{_TOMBSTONE}{digest}.parquet"


def is_tombstone(key: str) -> bool:
    """Return whether a batch holds images that were withdrawn."""
    return _TOMBSTONE in key


def withdrawal_key(number: int, digest: str) -> str:
    """Key of the record of a withdrawal."""
    return f"{WITHDRAWALS}{number:03d}-{digest}.json"


def imports_prefix(number: int) -> str:
    """Prefix of the imported batches of one number."""
    return f"{LABELS}{number:03d}-import-"


def batch_number(key: str) -> int | None:
    """Return the number in a batch's key; None for other names."""
    match = _NUMBERED.match(key)
    return int(match[1]) if match else None


# ---------------------------------------------------------- below a round, or where `sisom score` writes
POOL: Final = "pool/"
SHARDS: Final = "shards.parquet"
DUPLICATES: Final = "duplicates.parquet"
UNREADABLE: Final = "unreadable.parquet"
LABELED: Final = "labeled.parquet"
PLAN: Final = "plan.json"
MODEL_FOLDER: Final = "model/"
MODEL_WEIGHTS: Final = "model/model.safetensors"
MODEL_RECORD: Final = "model/model.json"
EVALUATION: Final = "evaluation.json"
SLOPES: Final = "slopes.json"
LABELED_FEATURES: Final = "labeled-features.safetensors"
BANK: Final = "bank.safetensors"
PARTS: Final = "parts/"
TOGETHER: Final = "together/"
SCORES: Final = "scores/"
QUARANTINE: Final = "quarantine/"
ACCOUNT: Final = "account.json"
FAR_FILTER: Final = "triage.json"
QUERY: Final = "query.parquet"
TIMINGS: Final = "timings/"
METRICS: Final = "metrics.json"
PLOTS: Final = "plots/"
REPORT: Final = "report.html"
COMMIT: Final = "commit.json"
ROUND: Final = "round.json"
TRACKING: Final = "tracking.json"
LISTING: Final = "listing.json"
SUMMARY: Final = "summary.json"


def set_key(number: int) -> str:
    """Key of the folder that lists a labeled set."""
    return f"sets/{number:03d}/"


def listing_part_key(part: int) -> str:
    """Key of a part of the listing."""
    return f"{POOL}{part:05d}.parquet"


def weights_key(member: int = 0) -> str:
    """Key of a committee member's weights; 0 is the round's network."""
    return f"model/member-{member:03d}.safetensors" if member else MODEL_WEIGHTS


def scored_part_key(shard: int) -> str:
    """Key of a finished shard's rows."""
    return f"{PARTS}{shard:08d}.parquet"


def together_key(shard: int) -> str:
    """Key of a finished shard's rows for a query over all rows."""
    return f"{TOGETHER}{shard:08d}.parquet"


def score_file_key(number: int) -> str:
    """Key of a score file."""
    return f"{SCORES}{number:05d}.parquet"


def quarantine_file_key(number: int) -> str:
    """Key of a quarantine file."""
    return f"{QUARANTINE}{number:05d}.parquet"


def timing_key(step: str) -> str:
    """Key of a step's clock time."""
    return f"{TIMINGS}{step}.json"


def plot_key(name: str) -> str:
    """Key of a plot."""
    return f"{PLOTS}{name}"
