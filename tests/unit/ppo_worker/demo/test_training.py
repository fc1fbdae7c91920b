from array import array
from pathlib import Path

import pytest
import torch
from torch import Tensor

from assay.errors import DataError
from ppo_worker.demo.corpus import Document
from ppo_worker.demo.training import Recipe, Step, new_model, train, training_rows
from ppo_worker.demo.vocabulary import encode, train_tokenizer

TEXTS = ["The river bends.", "A boat crosses the river.", "The boat is slow, the river wide."]
TINY = Recipe(
    vocabulary=280, hidden=16, layers=1, heads=2, intermediate=16, row_tokens=16, batch_rows=2
)


class KilledError(Exception):
    pass


def trained(folder: Path, rows: Tensor, recipe: Recipe = TINY, kill_at: int = 0) -> Tensor:
    def tell(step: Step) -> None:
        if step.number == kill_at:
            raise KilledError

    folder.mkdir(exist_ok=True)
    model = new_model(recipe, end=1, pad=0)
    train(model, rows, recipe, folder, identity="texts", checkpoint_every=2, tell=tell)
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def some_rows() -> Tensor:
    return torch.randint(4, 280, (12, 16), generator=torch.Generator().manual_seed(0))


def test_a_killed_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    rows = some_rows()
    with pytest.raises(KilledError):
        trained(tmp_path / "killed", rows, kill_at=5)
    assert torch.equal(trained(tmp_path / "killed", rows), trained(tmp_path / "whole", rows))


def test_the_checkpoint_of_another_training_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    trained(tmp_path, some_rows())
    model = new_model(TINY, end=1, pad=0)
    with pytest.raises(DataError, match="of another recipe or other texts: remove it"):
        train(model, some_rows(), TINY, tmp_path, identity="others")
    (tmp_path / "checkpoint.pt").write_bytes(b"PK")
    with pytest.raises(DataError, match="is damaged: remove it"):
        train(model, some_rows(), TINY, tmp_path, identity="texts")


def test_a_loss_that_is_not_finite_stops_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="loss of step 2 is nan: lower learning_rate"):
        trained(tmp_path, some_rows(), TINY.model_copy(update={"learning_rate": float("nan")}))


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 rows of text are less than one step of 2"):
        trained(tmp_path, some_rows()[:1])


def test_passes_take_the_prompts_of_a_text_in_turn() -> None:
    passes = {"samples": (1, 0), "replies": (0, 0), "arguments": (1, 2)}
    recipe = TINY.model_copy(update={"passes": passes, "row_tokens": 2})
    versions = [array("H", [5, 1]), array("H", [6, 1]), array("H", [7, 1])]
    encoded = [("arguments", versions), ("samples", versions[:1])]
    rows = training_rows(encoded, recipe).tolist()  # type: ignore[arg-type]
    assert sorted(rows[:2]) == [[5, 1], [5, 1]]
    assert sorted(rows[2:]) == [[6, 1], [7, 1]]


def test_rows_begin_with_a_document_and_are_full() -> None:
    passes = {"samples": (1,), "replies": (0,), "arguments": (0,)}
    recipe = TINY.model_copy(update={"passes": passes, "row_tokens": 4})
    encoded = [("samples", [array("H", [9, 8, 7])])] * 5
    assert training_rows(encoded, recipe).tolist() == [[9, 8, 7, 9]] * 2  # type: ignore[arg-type]


def test_a_prompt_is_marked_as_the_chat_template_marks_it() -> None:
    tokenizer = train_tokenizer(TEXTS, 280, 16)
    turns = [{"role": "user", "content": "The river?"}]
    template = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert template == "<|user|>The river?<|assistant|>"
    assert tokenizer.decode(tokenizer("The river?")["input_ids"]) == template
    turns += [{"role": "assistant", "content": "It bends."}]
    [tokens] = encode(tokenizer, Document("samples", ("The river?",), "It bends."))
    assert tokenizer.decode(tokens.tolist()) == f"{template}It bends.<|end|>"
    assert tokenizer.apply_chat_template(turns, tokenize=False) == f"{template}It bends.<|end|>"
    [alone] = encode(tokenizer, Document("samples", (), "Ünter 水."))
    assert tokenizer.decode(alone.tolist()) == "<|assistant|>Ünter 水.<|end|>"
