"""Which samples MetaRM can learn from, and why not from the others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

from pydantic import ValidationError

from assay.errors import AssayError, DataError
from assay.models.inputs import as_completion_text
from assay.models.scorer import EncodedInput
from assay.schemas.storage import Sample
from assay.schemas.text import Completion, Prompt
from assay.schemas.validation import invalid_input
from reward_trainer.fit.pairs import plain_json
from reward_trainer.online.groups import Group
from reward_trainer.online.options import Limits

Encode = Callable[[Prompt, Completion], EncodedInput]

SCHEMA = "1"
_SHINGLE = 5
_SPACE = re.compile(r"\s+")


def read_sample(fields: Mapping[str, str], limits: Limits) -> Sample:
    """The sample of a stream entry.

    Raises:
        DataError: it is of another schema, no sample, too long, or of an unknown policy.
    """
    schema = fields.get("schema")
    if schema != SCHEMA:
        raise DataError(f"other schema: {str(schema)[:40]!r}, and this release reads {SCHEMA!r}")
    try:
        sample = Sample.model_validate_json(fields.get("data", ""))
    except ValidationError as error:
        raise DataError(f"no sample: {invalid_input(error.errors()).detail}") from None
    longest = max(_characters(text) for text in (sample.prompt, *sample.completions))
    if longest > limits.max_characters:
        raise DataError(f"too long: {longest} characters, of {limits.max_characters} at most")
    if limits.policies is not None and sample.policy not in limits.policies:
        raise DataError("unknown policy: it is not among the `policies` of the settings")
    return sample


def distinct(group: Group, encode: Encode, limits: Limits) -> Group:
    """The group without completions that differ from an earlier one by nothing but noise.

    J rewards any difference of scores, and is steepest near ties: the difference of two texts that
    are all but the same is noise, and would be amplified.

    Raises:
        DataError: fewer than two are left, or the model cannot read one.
    """
    try:
        inputs = [encode(group.prompt, completion) for completion in group.completions]
    except AssayError as error:
        raise DataError(f"unreadable: {error.detail}") from error
    kept = _first_of_each(group.completions, [text.digest for text in inputs])
    if len(kept) < 2:
        raise DataError("equal completions: the model cannot tell them apart")
    kept = _without_near_duplicates(kept, limits.near_duplicate)
    if len(kept) < 2:
        raise DataError("near-duplicates: the completions are almost the same")
    return group.model_copy(update={"completions": tuple(kept)})


def similarity(first: str, second: str) -> float:
    """Share of common runs of five characters (Jaccard), blind to case and spaces."""
    return _overlap(_shingles(first), _shingles(second))


def _characters(text: Prompt | Completion) -> int:
    return len(text) if isinstance(text, str) else len(json.dumps(plain_json(text)))


def _first_of_each(completions: Sequence[Completion], digests: Sequence[bytes]) -> list[Completion]:
    by_digest: dict[bytes, Completion] = {}
    for digest, completion in zip(digests, completions, strict=True):
        by_digest.setdefault(digest, completion)
    return list(by_digest.values())


def _without_near_duplicates(completions: Sequence[Completion], most: float) -> list[Completion]:
    kept: list[tuple[Completion, frozenset[str]]] = []
    for completion in completions:
        shingles = _shingles(as_completion_text(completion))
        if all(_overlap(shingles, other) < most for _, other in kept):
            kept.append((completion, shingles))
    return [completion for completion, _ in kept]


def _shingles(text: str) -> frozenset[str]:
    plain = _SPACE.sub(" ", text.lower()).strip()
    return frozenset(plain[i : i + _SHINGLE] for i in range(max(1, len(plain) - _SHINGLE + 1)))


def _overlap(first: frozenset[str], second: frozenset[str]) -> float:
    return len(first & second) / len(first | second)
