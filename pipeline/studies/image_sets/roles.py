"""Image sets of a study on networks, by role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.config.sections import Storage
from pipeline.errors import ConfigError
from pipeline.studies.image_sets.sets import open_set
from pipeline.studies.on_networks import OnNetworks
from pipeline.studies.sections import Data, ImageSet

NetworkStudy = OnNetworks


@dataclass(frozen=True)
class Sets:
    """All image sets of a study, found before anything is computed."""

    taxonomy: tuple[str, ...]
    wanted: Mapping[str, ImageSet]  # by role: fit, known, near/NAME, far/NAME, ...
    digests: Mapping[str, str]
    sizes: Mapping[str, int]
    data: Data


def find_sets(roles: Mapping[str, ImageSet], data: Data, storage: Storage) -> Sets:
    """Open every set once, to report missing ones before any training.

    The taxonomy is that of the set `fit`. The set `known` must keep to it, and sets whose role begins with near, far or
    unknown must have no class of it.

    Raises:
        ConfigError: a set with a wrong class; see `open_set` for more.
    """
    found = {role: open_set(wanted, data, storage) for role, wanted in roles.items()}
    taxonomy = found["fit"].order
    for role, images in found.items():
        strange = [name for name in images.order if name not in taxonomy]
        if strange and role in ("known", "fit"):
            raise ConfigError(
                f"{role}: {images.name} has class {strange[0]!r}, which {found['fit'].name} has not"
            )
        taken = [name for name in images.order if name in taxonomy]
        if taken and role.startswith(("near/", "far/", "unknown")):
            raise ConfigError(
                f"{role}: class {taken[0]!r} of {images.name} is a known one; leave it out with `without`"
            )
    digests = {role: images.digest for role, images in found.items()}
    return Sets(taxonomy, roles, digests, {role: len(images) for role, images in found.items()}, data)


def roles_of(config: NetworkStudy) -> dict[str, ImageSet]:
    """Return the image sets of a study by role."""
    roles = {"fit": config.fit, "known": config.known}
    for group, sets in config.groups().items():
        roles |= {f"{group}/{each.name}": each for each in sets}
    return roles
