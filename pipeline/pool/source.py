"""A pool and the access to it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config.project import Config
from pipeline.config.sections import Pool, Storage
from pipeline.store.opening import Store, open_store


@dataclass(frozen=True)
class PoolSource:
    """The place of images, and the access to it; travels to workers.

    pool       its place, column names and how it is cut into shards
    storage    where credentials are found
    max_bytes  the largest encoded image that is read
    """

    pool: Pool
    storage: Storage
    max_bytes: int

    @classmethod
    def of(cls, config: Config) -> PoolSource:
        """Return the source of a config's pool."""
        return cls(config.pool, config.storage, config.scoring.max_bytes)

    @property
    def store(self) -> Store:
        """The objects below the pool's URI."""
        return open_store(self.pool.uri, self.storage)

    def beside(self, uri: str) -> PoolSource:
        """Return the source of other images with the same columns.

        A test set is one, for example.
        """
        pool = Pool(uri=uri, id_column=self.pool.id_column, image_column=self.pool.image_column)
        return PoolSource(pool, self.storage, self.max_bytes)
