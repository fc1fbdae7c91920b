"""The cells of a scale and how each is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path

from rich.console import Console

from assay.errors import DataError
from ppo_worker.settings import DEMO
from reproduction.cells import Cells, Optimised
from reproduction.ppo.gold import Gold
from reproduction.ppo.proxy import make_proxy
from reproduction.ppo.runs import read_by_gold, train_policy
from reproduction.ppo.scales import Scale, Spec, specs
from serving import free_port, started

# Goes up when the same configuration would give other numbers.
_VERSION = 1


def config_digest(scale: Scale, spec: Spec) -> str:
    """Equal for cells with the same result."""
    config = {
        "version": _VERSION,
        "cell": spec.name,
        "scale": scale.model_dump(mode="json", exclude={"seeds"}),
        "demo": DEMO,
    }
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


class Grid:
    """Runs the cells of a scale.

    Args:
        scale: sizes.
        cells: where results are kept.
        work: folder for proxies and runs, which a stopped one goes on with.
        threads: of torch in the policy's process.
        console: gets a line per cell.
    """

    def __init__(
        self, scale: Scale, cells: Cells, work: Path, threads: int, console: Console
    ) -> None:
        self._scale, self._cells, self._work = scale, cells, work
        self._threads, self._console = threads, console

    def run(self, only: Sequence[str] = ()) -> None:
        """Run the cells that are missing or were run with another configuration.

        Args:
            only: shell patterns of their names; none = all.

        Raises:
            DataError: no cell has such a name, or a run failed.
        """
        every = list(specs(self._scale))
        wanted = [s for s in every if not only or any(fnmatch(s.name, p) for p in only)]
        if not wanted:
            raise DataError(f"no cell is called {' or '.join(only)}; {every[0].name} is one")
        missing = [spec for spec in wanted if not self._is_kept(spec)]
        if missing:
            gold = Gold()
            for seed, own in groupby(missing, key=lambda spec: spec.seed):
                home = self._work / f"seed{seed}"
                make_proxy(self._scale, seed, gold, home)
                with self._served(home) as url:
                    for spec in own:
                        self._run(spec, url, gold)

    def _is_kept(self, spec: Spec) -> bool:
        kept = self._cells.read(spec.name)
        return kept is not None and kept.config == config_digest(self._scale, spec)

    def _run(self, spec: Spec, url: str, gold: Gold) -> None:
        config = config_digest(self._scale, spec)
        run = self._work / "runs" / f"{spec.name}-{config}"

        def work() -> Optimised:
            train_policy(self._scale, spec, url, run, self._threads)
            return read_by_gold(run, gold)

        cell = self._cells.run(spec.name, config, "", work)
        self._console.print(f"{spec.name}: {cell.minutes:.2f} min")

    @contextmanager
    def _served(self, home: Path) -> Iterator[str]:
        """The proxy behind `assay up`; the gold model is not on that machine's server."""
        argv = ["assay", "up", "--home", str(home), "--model", self._scale.training["model"]]
        with started(argv, free_port(), home) as server:
            server.wait_ready()
            yield server.url
