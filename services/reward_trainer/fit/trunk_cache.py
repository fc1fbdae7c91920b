"""What the frozen lower layers make of each text, kept for all members, epochs and runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor

from assay.errors import DataError
from assay.models.calibration import length_batches
from assay.models.pooling import Pooler
from assay.models.scorer import EncodedInput
from assay.models.trunk import SharedTrunk

_IN_MEMORY = 8 * 2**30
Key = tuple[str, bytes]


class TrunkCache:
    """Trunk output of texts in fp16, in memory, and in files beyond a limit.

    One cache serves any number of runs: texts are told apart by trunk and tokens.

    Args:
        folder: where the files go.
        memory_bytes: how much is kept in memory.
    """

    def __init__(self, folder: Path, memory_bytes: int = _IN_MEMORY) -> None:
        self._folder = folder
        self._left = memory_bytes
        self._hidden: dict[Key, Tensor] = {}
        self._files: list[Path] = []

    def __contains__(self, key: Key) -> bool:
        return key in self._hidden

    def __getitem__(self, key: Key) -> Tensor:
        """Trunk output of a text, shape [tokens, width], fp16."""
        return self._hidden[key]

    def fill(
        self,
        trunk_id: str,
        texts: Sequence[EncodedInput],
        pooler: Pooler,
        trunk: SharedTrunk,
        progress: Progress,
    ) -> None:
        """Run the trunk over the texts that are not here yet.

        Raises:
            DataError: the files do not fit on the disk.
        """
        missing = [text for text in texts if (trunk_id, text.digest) not in self._hidden]
        if not missing:
            return
        width = pooler.model.config.get_text_config().hidden_size
        space = self._space(sum(len(text) for text in missing), width)
        task = progress.add_task("trunk", total=len(missing))
        used = 0
        for rows in length_batches(missing):
            batch = [missing[row] for row in rows]
            hidden = trunk.run(pooler.model, **pooler.collate(batch))
            for text, output in zip(batch, hidden, strict=True):
                kept = space[used : used + len(text)]
                self._hidden[trunk_id, text.digest] = kept.copy_(output[: len(text)])
                used += len(text)
            progress.advance(task, len(rows))
        progress.remove_task(task)

    def close(self) -> None:
        """Forget everything and remove the files."""
        self._hidden.clear()
        for path in self._files:
            path.unlink(missing_ok=True)

    def _space(self, tokens: int, width: int) -> Tensor:
        size = tokens * width * 2
        if size <= self._left:
            self._left -= size
            return torch.empty(tokens, width, dtype=torch.float16)
        path = self._folder / f"trunk-{os.getpid()}-{len(self._files)}.bin"
        _allocate(path, size)
        self._files.append(path)
        flat = torch.from_file(str(path), shared=True, size=tokens * width, dtype=torch.float16)
        return flat.view(tokens, width)


def _allocate(path: Path, size: int) -> None:
    """Claim the bytes first: a mapped file that runs out of disk kills the process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise DataError(
            f"no room for {size / 2**30:.1f} GiB of trunk output in {path.parent}: "
            f"{error.strerror}; set trunk_layers = 0, or free some"
        ) from error
