"""Where killed runs take place: a folder or a bucket with one pool for all, and what their bytes are compared with."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.sections import Storage
from pipeline.store.opening import Store, open_store

ROOT = Path(__file__).parents[2]
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "canary-d41d8cd98f",
    "AWS_DEFAULT_REGION": "us-east-1",
}
# The quickstart, with less of everything that only takes longer.
SETS = (
    *("train.epochs=4", "train.checkpoint_every=1", "slopes.trials=4", "query.size=30"),
    "resources.actors=2",  # each imports torch
    "resources.memory=6GiB",  # whatever else this machine is doing
)

# Clock times, and what is drawn from them. `metrics.json` is compared without its seconds.
_CLOCKED = ("timings/", "plots/")
_CLOCKED_FILES = ("commit.json", "tracking.json", "report.html")


@dataclass(frozen=True)
class Ground:
    """A place for runs: `local` or `s3`. `folder` is on disk in any case, and short: Ray's sockets lie there."""

    kind: str
    folder: Path
    base: str
    rounds: int
    extra: Mapping[str, str]

    def store(self, name: str) -> Store:
        """The workspace of a run."""
        return open_store(f"{self.base}/{name}", Storage())

    def home(self, name: str) -> Path:
        """Where a run's Ray, its temporary files and its logs are."""
        return self.folder / f"{self.kind[0]}{name}"

    def command(self, name: str, verb: str = "run") -> list[str]:
        """The command line of a run."""
        sets = [
            *SETS,
            f"rounds={self.rounds}",
            f"workspace={self.base}/{name}",
            f"pool.uri={self.base}/data/pool",
        ]
        words = [word for text in sets for word in ("--set", text)]
        return [sys.executable, "-m", "pipeline", verb, str(ROOT / "configs/quickstart.yaml"), *words]

    def environment(self, name: str) -> dict[str, str]:
        """An environment in which nothing of this machine's accounts and clusters counts."""
        home = self.home(name)
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RAY_", "MLFLOW_"))}
        ours = {
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "RAY_TMPDIR": str(home),
            "PYTHONPATH": str(ROOT),
            # How long everybody waits for a head that is gone: a minute by default, for nothing here.
            "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
            "RAY_worker_niceness": "0",  # by default workers give way to whatever else runs here
            "RAY_prestart_worker_first_driver": "0",  # most are killed before they were of use
        }
        return kept | ours | dict(self.extra)

    def artefacts(self, name: str) -> dict[str, str]:
        """What must be equal: digests by key of everything that is no clock time, and what MLflow knows."""
        store = self.store(name)
        found = {}
        for entry in store.list():
            top, _, rest = entry.key.partition("/")
            inside = rest.partition("/")[2]
            if top not in ("rounds", "labels") or inside.startswith(_CLOCKED) or inside in _CLOCKED_FILES:
                continue
            data = store.get(entry.key)
            if inside == "metrics.json":
                timed = json.loads(data)
                data = json.dumps(
                    {k: v for k, v in timed.items() if k not in ("seconds", "images_per_s")}
                ).encode()
            found[entry.key] = hashlib.sha256(data).hexdigest()
        found["MLflow"] = json.dumps(tracked(store.get("mlflow/mlflow.db")))
        return found


def tracked(database: bytes, experiment: str | None = None) -> dict[str, Any]:
    """What an MLflow database holds, of one experiment or of all: runs by round, model versions, aliases.

    `twice` are metrics that were told more than once; runs that were taken back count as gone.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mlflow.db")
        path.write_bytes(database)
        connection = sqlite3.connect(path)
        try:
            ours = "r.lifecycle_stage = 'active' AND (? IS NULL OR e.name = ?)"
            runs = connection.execute(
                "SELECT t.value, r.status, r.run_uuid FROM runs r JOIN experiments e USING (experiment_id) "
                "LEFT JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'sisom.round' "
                f"WHERE {ours} ORDER BY 1",
                (experiment, experiment),
            ).fetchall()
            among = {run for _, _, run in runs}
            versions = connection.execute(
                "SELECT v.version, t.value, v.run_id, v.name FROM model_versions v LEFT JOIN model_version_tags t "
                "ON t.name = v.name AND t.version = v.version AND t.key = 'sisom.round' "
                "WHERE v.current_stage != 'Deleted_Internal' ORDER BY 1"
            ).fetchall()
            versions = [version for version in versions if version[2] in among]
            names = {version[3] for version in versions}
            aliases = connection.execute(
                "SELECT alias, version, name FROM registered_model_aliases"
            ).fetchall()
            twice = connection.execute(
                "SELECT run_uuid, key, step FROM metrics WHERE key NOT LIKE 'live/%' "
                "GROUP BY 1, 2, 3 HAVING count(*) > 1"
            ).fetchall()
        finally:
            connection.close()
    return {
        "runs": [run[:2] for run in runs],
        "versions": [version[:2] for version in versions],
        "aliases": [alias[:2] for alias in aliases if alias[2] in names],
        "twice": [metric for metric in twice if metric[0] in among],
    }


@contextmanager
def grounds(kinds: list[str], folder: Path, rounds: int) -> Iterator[list[Ground]]:
    """The places of some kinds; for S3 a server on loopback, or the one that SISOM_S3_ENDPOINT names."""
    found = []
    if "local" in kinds:
        found.append(Ground("local", folder, str(folder / "w"), rounds, {}))
    if "s3" not in kinds:
        yield found
        return
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = None
    endpoint = os.environ.get("SISOM_S3_ENDPOINT")
    if endpoint is None:
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
    reach = {**ACCOUNT, "AWS_ENDPOINT_URL": endpoint}
    os.environ.update(reach)  # for our own look at what they write
    bucket: Any = open_store(f"s3://faults-{folder.name.lower().replace('_', '-')}", Storage())
    bucket.client.create_bucket(Bucket=bucket.bucket)
    try:
        yield [*found, Ground("s3", folder, bucket.uri, rounds, reach)]
    finally:
        if server is not None:
            server.stop()
