"""What the setting `model` stands for: which version serves at first, and whether it may change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import InvalidInputError
from assay.models.resolve import resolve
from assay.registry.aliases import Aliases
from assay.registry.store import Store
from assay.schemas.refs import ModelRef, Pin, parse_pin

if TYPE_CHECKING:
    from reward_server.settings import ServerSettings


@dataclass(frozen=True)
class Origin:
    """The first version of a server.

    Attributes:
        ref: its name and number.
        location: the folder or hub id to load; None = it is in the store under `ref`.
        follows: whether promotions move the server to other versions of the name.
        aliases: as the store has them.
        store: where the other versions are.
    """

    ref: ModelRef
    location: str | None
    follows: bool
    aliases: Aliases
    store: Store


def find_origin(settings: ServerSettings) -> Origin:
    """Read the setting: `name` is what serves now, `name@7` and a folder stay as they are.

    A name's serving version is that of the alias; without one the newest that is released, in the
    store or the package. A hub id begins as version 1 of its own name.

    Raises:
        ModelNotFoundError: there is no such model.
        DependencyError: the store does not answer.
    """
    store = settings.open_store()
    pin = _as_pin(settings.model)
    if pin is None:
        ref = resolve(settings.model).ref
        return Origin(ref, settings.model, follows=False, aliases=Aliases(), store=store)
    if pin.version is not None:
        ref, location = ModelRef(pin.name, pin.version), None
        if pin.version not in store.versions(pin.name):
            ref, location = resolve(settings.model).ref, settings.model
        return Origin(ref, location, follows=False, aliases=Aliases(), store=store)
    aliases = store.aliases(pin.name)
    version = aliases.serving or store.newest(pin.name)
    if version is None or version not in store.versions(pin.name):
        ref = resolve(settings.model).ref
        return Origin(ref, settings.model, follows=True, aliases=aliases, store=store)
    return Origin(ModelRef(pin.name, version), None, follows=True, aliases=aliases, store=store)


def _as_pin(model: str) -> Pin | None:
    """The setting as a name; None for a folder, and for what cannot be read."""
    if Path(model).expanduser().is_dir():
        return None
    try:
        return parse_pin(model)
    except InvalidInputError:
        return None
