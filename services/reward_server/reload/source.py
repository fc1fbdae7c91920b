"""Where the versions of a name come from: the store, and what the package or the hub began with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.models.scorer import Scorer
    from assay.registry.aliases import Aliases
    from assay.registry.store import Store


@dataclass(frozen=True)
class VersionSource:
    """The versions of one name; all calls block.

    Attributes:
        aliases: as they were read when the first version was chosen.
        store: what is saved, and the aliases.
        load: a version by its number, ready to score; raises ModelLoadError or DependencyError.
        weight_bytes: size of a version's own weights files, before it is loaded; 0 = not known.
    """

    aliases: Aliases
    store: Store
    load: Callable[[int], Scorer]
    weight_bytes: Callable[[int], int] = lambda _: 0
