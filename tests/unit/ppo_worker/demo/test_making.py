from pathlib import Path

import pytest

from assay.errors import DataError
from ppo_worker.demo.making import pretrain
from ppo_worker.demo.training import Recipe


def test_a_folder_that_cannot_be_made_is_named_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file/work cannot be made: Not a directory"):
        pretrain(tmp_path / "none", tmp_path, tmp_path / "file" / "work", Recipe(), print)
