"""`python -m ppo_worker.demo.pretrain`: makes the default policy from the open texts."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, ConfigDict, Field

from ppo_worker.demo.corpus import CREDITS, Corpus, Document, read_corpus
from ppo_worker.demo.measuring import Figures, measure, sample
from ppo_worker.demo.task import POLICY, held_out_prompts, training_prompts
from ppo_worker.demo.training import Recipe, Step, new_model, train, training_rows
from ppo_worker.demo.vocabulary import encode, train_tokenizer

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

_MANIFEST = "manifest.json"
_NEW_TOKENS = 56
_REAL_TEXTS = 200  # of the answers kept back
_HELD_OUT_EACH, _TRAINING_EACH = 8, 2  # completions of a prompt


class Manifest(BaseModel):
    """What is known of a policy that this script made."""

    model_config = ConfigDict(frozen=True)

    recipe: Recipe
    parameters: int
    corpus: str = Field(description="SHA-256 of the texts.")
    documents: dict[str, int] = Field(description="Texts by source.")
    tokens: int = Field(description="Tokens of all steps.")
    credits: dict[str, str] = Field(description="Where each file comes from, and its licence.")
    figures: dict[str, Figures] = Field(description="By set of texts.")


def pretrain(
    data: Path, out: Path, work: Path, recipe: Recipe, tell: Callable[[Step], None]
) -> Manifest:
    """Train the policy, or go on with it, then measure and save it.

    Args:
        data: folder of the texts.
        out: where the policy goes, in transformers' own format.
        work: for the checkpoint.
        recipe: its seed decides all that is random.
        tell: called after each step.

    Raises:
        DataError: the texts or the checkpoint cannot be used.
    """
    corpus = read_corpus(data)
    tokenizer = train_tokenizer(_learned(corpus), recipe.vocabulary, recipe.row_tokens)
    encoded = [(document.source, encode(tokenizer, document)) for document in corpus.train]
    rows = training_rows(encoded, recipe)
    model = new_model(recipe, end=tokenizer.eos_token_id, pad=tokenizer.pad_token_id)
    identity = hashlib.sha256(f"{corpus.digest}{recipe.model_dump_json()}".encode()).hexdigest()
    train(model, rows, recipe, work, identity=identity, tell=tell)
    _ready(model)
    manifest = Manifest(
        recipe=recipe,
        parameters=model.num_parameters(),
        corpus=corpus.digest,
        documents=corpus.counts,
        tokens=rows.numel(),
        credits=CREDITS,
        figures=figures(model, tokenizer, corpus),
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / _MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def figures(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus: Corpus
) -> dict[str, Figures]:
    """What people and other models wrote on prompts that were kept back, beside the policy's."""
    learned = list(_learned(corpus))
    sets: dict[str, Sequence[Document]] = {
        "arguments of people, held-out topics": corpus.held_out_arguments,
        "answers to held-out prompts": corpus.held_out[:_REAL_TEXTS],
        "the policy, held-out topics": sample(
            model, tokenizer, held_out_prompts(), each=_HELD_OUT_EACH
        ),
        "the policy, training topics": sample(
            model, tokenizer, training_prompts(), each=_TRAINING_EACH
        ),
    }
    return {name: measure(model, tokenizer, found, learned) for name, found in sets.items()}


def _learned(corpus: Corpus) -> list[str]:
    return [text for document in corpus.train for text in (*document.prompts, document.text)]


def _ready(model: LlamaForCausalLM) -> None:
    """Weights as they ship, and how the policy generates when nothing else is asked for."""
    import torch

    model.to(torch.bfloat16)
    model.generation_config.update(
        do_sample=True, temperature=0.8, top_p=0.9, max_new_tokens=_NEW_TOKENS
    )


def command(
    data: Annotated[Path, typer.Option(envvar="ASSAY_DATA", help="Folder of the texts.")] = Path(
        "../shared/data"
    ),
    out: Annotated[Path, typer.Option(help="Folder for the policy.")] = POLICY,
    work: Annotated[Path, typer.Option(help="Folder for the checkpoint.")] = Path("build/policy"),
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
) -> None:
    """Make the default policy; the same command goes on where a killed one stopped."""
    import torch

    from assay.errors import AssayError

    torch.set_num_threads(threads)
    try:
        manifest = pretrain(data, out, work, Recipe(), _Printed())
    except AssayError as error:
        typer.echo(f"pretrain: {error.detail}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{out}: {manifest.parameters:,} parameters, {manifest.tokens:,} tokens seen")
    for name, row in manifest.figures.items():
        typer.echo(
            f"{name:40} texts {row.texts:4}  tokens {row.tokens:5.1f}  perplexity "
            f"{row.perplexity:7.2f}  4-gram repetition {row.repetition:.4f}  "
            f"8-grams of the training {row.copied:.4f}"
        )


class _Printed:
    """A line now and then."""

    _EVERY_S = 15.0

    def __init__(self) -> None:
        self._last = -self._EVERY_S

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if now - self._last > self._EVERY_S or step.number == step.of:
            self._last = now
            typer.echo(
                f"step {step.number}/{step.of}  loss {step.loss:.3f}  "
                f"{step.tokens_per_s:,.0f} tokens/s"
            )


if __name__ == "__main__":
    typer.run(command)
