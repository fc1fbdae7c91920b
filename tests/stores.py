"""How tests make stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from assay.registry.store import Store

MakeStore: TypeAlias = Callable[[], Store]
