"""One small Ray cluster for all tests of learning."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray

from pipeline.cluster.layout import Cluster, lay_out
from pipeline.config.project import Config


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=100 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        yield lay_out(Config.model_fields["resources"].default, [node["Resources"] for node in ray.nodes()])
    finally:
        ray.shutdown()
