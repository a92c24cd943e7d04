"""A pool and the access to it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.config.project import Config
from pipeline.config.sections import Pool, Storage
from pipeline.store.base import Entry
from pipeline.store.opening import Store, open_store


@dataclass(frozen=True)
class Roots:
    """The stores of a pool, each with its ids' beginning.

    That is nothing where there is one URI, and otherwise the URI as the config has it: no two ids of keys are the same
    then.
    """

    stores: tuple[tuple[str, Store], ...]

    def locate(self, uri: str) -> tuple[Store, str]:
        """Return the store of a listed URI, and its key there."""
        _, store = self._root(uri)
        return store, key_below(store, uri)

    def name(self, uri: str) -> str:
        """Return what names an object in ids.

        Empty if the pool is that one object.
        """
        before, store = self._root(uri)
        key = key_below(store, uri)
        return f"{before}/{key}" if before and key else before or key

    def _root(self, uri: str) -> tuple[str, Store]:
        for before, store in self.stores:
            root = store.url("")
            if uri == root or uri.startswith(f"{root}/"):
                return before, store
        return self.stores[0]

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """List (URI, entry) of all objects, in order of URIs."""

        def listed(store: Store) -> Iterator[tuple[str, Entry]]:
            return ((store.url(entry.key), entry) for entry in store.list())

        if len(self.stores) == 1:
            return listed(self.stores[0][1])
        return heapq.merge(*(listed(store) for _, store in self.stores), key=lambda found: found[0].encode())


def key_below(store: Store, uri: str) -> str:
    """Return the key of a listed URI in its store.

    The store is the one that listed it. Empty if the store is that one object.
    """
    root = store.url("")
    return uri[len(root) :].removeprefix("/") if uri.startswith(root) else uri


@dataclass(frozen=True)
class PoolSource:
    """The place of images, and the access to it; travels to workers.

    pool       its places, column names and how it is cut into shards
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
    def roots(self) -> Roots:
        """The stores of all URIs."""
        uris = self.pool.uris
        stores = (open_store(uri, self.storage) for uri in uris)
        before = [uri.rstrip("/") for uri in uris] if len(uris) > 1 else [""]
        return Roots(tuple(zip(before, stores, strict=True)))

    @property
    def store(self) -> Store:
        """The objects below the first URI."""
        return open_store(self.pool.uris[0], self.storage)

    def beside(self, uri: str) -> PoolSource:
        """Return the source of other images with the same columns.

        A test set is one, for example.
        """
        pool = Pool(uri=uri, id_column=self.pool.id_column, image_column=self.pool.image_column)
        return PoolSource(pool, self.storage, self.max_bytes)
