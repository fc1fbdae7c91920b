"""Which tokens are left of an input that is too long, and inputs that are complete as they are."""

from __future__ import annotations

import pytest

from assay.errors import InvalidInputError
from assay.models.inputs import InputEncoder, InputFormat
from assay.models.scorer import EncodedInput, Truncate
from tiny_models import BERT, PADDED, byte_tokenizer


def encoder(form: InputFormat, special: dict[str, str], most: int = 20) -> InputEncoder:
    return InputEncoder(byte_tokenizer(special), form, most)


def text(encoder: InputEncoder, encoded: EncodedInput) -> str:
    return str(encoder.tokenizer.decode(list(encoded.ids)))


@pytest.mark.parametrize(
    ("side", "limit", "kept"),
    [
        ("left", None, "[CLS]abcd[SEP]efgh[SEP]"),
        ("left", 9, "[CLS]cd[SEP]efgh[SEP]"),
        ("left", 6, "[CLS][SEP]fgh[SEP]"),
        ("right", 9, "[CLS]abcd[SEP]ef[SEP]"),
        ("right", 6, "[CLS]abc[SEP][SEP]"),
    ],
)
def test_a_pair_loses_tokens_on_the_side_that_is_named_and_no_special_ones(
    side: Truncate, limit: int | None, kept: str
) -> None:
    pair = encoder("pair", BERT)
    encoded = pair.encode("abcd", "efgh", truncate=side, max_tokens=limit)
    assert text(pair, encoded) == kept
    assert encoded.truncated == (limit is not None)


@pytest.mark.parametrize(("side", "kept"), [("left", "<bos>fgh"), ("right", "<bos>abc")])
def test_a_begin_token_stays_on_both_sides(side: Truncate, kept: str) -> None:
    concat = encoder("concat", PADDED)
    assert text(concat, concat.encode("abcd", "efgh", truncate=side, max_tokens=4)) == kept


@pytest.mark.parametrize(("side", "kept"), [("left", (7, 8, 9)), ("right", (5, 6, 7))])
def test_token_ids_are_scored_as_they_are(side: Truncate, kept: tuple[int, ...]) -> None:
    concat = encoder("concat", PADDED)
    whole = concat.encode_ids((5, 6, 7, 8, 9))
    assert (whole.ids, whole.truncated, whole.type_ids) == ((5, 6, 7, 8, 9), False, None)
    cut = concat.encode_ids((5, 6, 7, 8, 9), truncate=side, max_tokens=3)
    assert (cut.ids, cut.truncated) == (kept, True)
    assert encoder("pair", BERT).encode_ids((5, 6)).type_ids == (0, 0)


def test_a_literal_text_gets_no_special_token_and_keeps_its_own() -> None:
    concat = encoder("concat", PADDED)
    assert text(concat, concat.encode_ids("ab<|im_end|>")) == "ab<|im_end|>"


@pytest.mark.parametrize("ids", [(), (-1,), (5, 10_000), ""])
def test_ids_that_are_not_the_models_are_refused(ids: str | tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="token"):
        encoder("concat", PADDED).encode_ids(ids)


@pytest.mark.parametrize("limit", [1, 3])
def test_a_limit_without_room_is_refused(limit: int) -> None:
    pair = encoder("pair", BERT)
    with pytest.raises(InvalidInputError, match="tokens"):
        pair.encode("abcd", "efgh", max_tokens=limit)
    with pytest.raises(InvalidInputError, match="3 are taken"):
        pair.encode("abcd", "efgh", truncate="error", max_tokens=3)
