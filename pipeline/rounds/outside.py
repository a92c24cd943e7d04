"""The labeled sets outside the pool, as a round learns from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.project import Config
from pipeline.errors import LabelError
from pipeline.labels.sets import SetListing
from pipeline.labels.tally import Labels
from pipeline.pool.snapshot import SnapshotWriter
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder


@dataclass(frozen=True)
class Outside:
    """The images of labeled sets.

    listings  the sets
    all_ids   of all their images
    labels    the class of each image to learn from, by id
    places    its shard and row in its set
    sets      the number of its set
    """

    listings: Sequence[SetListing]
    all_ids: Collection[str]
    labels: Mapping[str, str]
    places: Mapping[str, tuple[int, int]]
    sets: Mapping[str, int]

    @classmethod
    def of(cls, listings: Sequence[SetListing], answers: Labels) -> Outside:
        """Take the images that have a class.

        An answer to one overrules its set.
        """
        said = dict(zip(*answers.labeled(), strict=True))
        other = answers.heard() - said.keys()
        all_ids: set[str] = set()
        labels, places, sets = {}, {}, {}
        for number, listing in enumerate(listings):
            for name, label, shard, row in listing.rows():
                all_ids.add(name)
                now = said.get(name, label)
                if now is not None and name not in other:
                    labels[name], places[name], sets[name] = now, (shard, row), number
        return cls(listings, all_ids, labels, places, sets)

    def check(self, in_pool: Collection[str]) -> None:
        """Refuse ids that stand in the pool, too.

        Raises:
            LabelError: says how many there are, and one of them.
        """
        both = sorted(name for name in self.all_ids if name in in_pool)
        if both:
            raise LabelError(
                f"labels.sets: {len(both)} ids stand in the pool too, such as {both[0]!r}; images outside the pool "
                "need ids of their own, and labels of images in it belong into a label file"
            )

    def told(self) -> str:
        """Return the sets in a line."""
        without = len(self.all_ids) - len(self.labels)
        left_out = f", {without} without a class are left out" if without else ""
        return f"{len(self.labels)} labeled images of {len(self.listings)} sets outside the pool{left_out}"

    def freeze(self, folder: Folder, config: Config) -> dict[str, str]:
        """Write the listings of the sets into a round.

        Returns their digests by URI.
        """
        digests = {}
        for number, (one, listing) in enumerate(zip(config.labels.sets, self.listings, strict=True)):
            writer = SnapshotWriter(folder.below(keys.set_key(number)))
            for group in listing.groups:
                writer.add(group.listed, group.digest)
            digests[one.uri] = writer.close().digest()
        return digests
