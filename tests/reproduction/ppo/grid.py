"""The cells of a scale and how each is run."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from rich.console import Console

from ppo_worker.run import FREE
from reproduction.cells import Cells, digest
from reproduction.ppo.gold import Gold
from reproduction.ppo.proxy import make_proxy
from reproduction.ppo.results import Optimised
from reproduction.ppo.runs import read_by_gold, train_policy
from reproduction.ppo.scales import Scale, Spec, specs
from reproduction.runner import Runner
from serving import free_port, started

# Goes up when the same configuration would give other numbers.
_VERSION = 1
# Settings that are part of no number, or of the cell's name.
_FREE = FREE - {"steps", "evaluate_steps"} | {"reward", "policy_name"}


def config_digest(scale: Scale, spec: Spec) -> str:
    """Equal for cells with the same result."""
    config = {
        "version": _VERSION,
        "cell": spec.name,
        "scale": scale.model_dump(mode="json", exclude={"seeds", "ppo"}),
        "ppo": scale.settings.model_dump(mode="json", exclude=_FREE),
    }
    return digest(json.dumps(config, sort_keys=True))


class Grid(Runner[Spec, Optimised]):
    """Runs the cells of a scale; those of a seed ask the same server.

    Args:
        scale: sizes.
        cells: where results are kept.
        work: folder for proxies and runs, which a stopped one goes on with.
        console: gets a line per cell.
    """

    def __init__(self, scale: Scale, cells: Cells[Optimised], work: Path, console: Console) -> None:
        super().__init__(list(specs(scale)), cells, console)
        self._scale, self._work, self._server = scale, work, ExitStack()
        self._served: tuple[int, str] | None = None

    @cached_property
    def _gold(self) -> Gold:
        return Gold()

    def digests(self, spec: Spec) -> tuple[str, str]:
        return config_digest(self._scale, spec), ""

    def work_of(self, spec: Spec) -> Callable[[], Optimised]:
        run = self._work / "runs" / f"{spec.name}-{config_digest(self._scale, spec)}"
        url = self._url(spec.seed)

        def work() -> Optimised:
            train_policy(self._scale, spec, url, run)
            return read_by_gold(run, self._gold)

        return work

    def close(self) -> None:
        self._server.close()

    def _url(self, seed: int) -> str:
        """The seed's proxy behind `assay up`; the server of another seed is stopped."""
        if self._served is None or self._served[0] != seed:
            self.close()
            home = self._work / f"seed{seed}"
            make_proxy(self._scale, seed, self._gold, home)
            argv = ["assay", "up", "--home", str(home), "--model", self._scale.training["model"]]
            server = self._server.enter_context(started(argv, free_port(), home))
            server.wait_ready()
            self._served = seed, server.url
        return self._served[1]
