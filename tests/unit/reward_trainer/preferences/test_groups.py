from __future__ import annotations

import datasets
import pytest

from assay.errors import DataError
from reward_trainer.preferences.digests import data_digest, pair_digests, text_digest
from reward_trainer.preferences.roots import groups_of, root_of

ASKED = "\n\nHuman: Which one?\n\nAssistant:"
LATER = "\n\nHuman: which one\n\nAssistant: this\n\nHuman: Why?\n\nAssistant:"


def table(**columns: list[object]) -> datasets.Dataset:
    return datasets.Dataset.from_dict(columns)


def test_a_later_turn_and_another_input_have_the_root_of_the_first_turn() -> None:
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Which one?"}]
    parts = [{"role": "user", "content": [{"type": "text", "text": "Which one?"}]}]
    with_input = "Which one?\n\nThis or that"
    assert {root_of(p) for p in (ASKED, LATER, with_input, chat, parts)} == {"which one"}


def test_a_continued_chat_has_the_root_of_its_first_line() -> None:
    prompt = "\n\nHuman: Continue this chat.\nHello , you !\nhi\n\nAssistant:"
    assert root_of(prompt, "chat") == "hello you"


def test_rows_group_by_prompt_root_or_column() -> None:
    rows = table(prompt=[ASKED, "Which one?", LATER], topic=[1, 1, 2])
    by_prompt = groups_of(rows, "prompt")
    assert by_prompt[0] == by_prompt[1] != by_prompt[2]
    assert groups_of(rows, "root") == ["which one"] * 3
    assert groups_of(rows, "topic") == ["1", "1", "2"]


def test_messages_of_a_table_group_like_their_text() -> None:
    first, later = (
        [{"role": "user", "content": "Which one?"}],
        [{"role": "user", "content": "a", "name": "b"}],
    )
    assert (
        groups_of(table(prompt=[first, later]), "prompt")[0]
        == groups_of(table(prompt=[ASKED]), "prompt")[0]
    )


def test_a_column_that_cannot_group_is_named() -> None:
    rows = table(prompt=["a", "b"], topic=["x", None])
    with pytest.raises(DataError, match="no column 'subject' to group by: there are prompt, root"):
        groups_of(rows, "subject")
    with pytest.raises(DataError, match="row 2: nothing in column 'topic'"):
        groups_of(rows, "topic")


def test_the_text_digest_is_blind_to_the_label_and_both_to_the_order() -> None:
    rows = table(prompt=["p", "q"], chosen=["a", "c"], rejected=["b", "d"])
    swapped = table(prompt=["q", "p"], chosen=["c", "b"], rejected=["d", "a"])
    assert data_digest(rows) == data_digest(rows.select([1, 0])) != data_digest(swapped)
    assert text_digest(rows) == text_digest(swapped)
    assert pair_digests(rows)[0] == pair_digests(swapped)[1] != pair_digests(rows)[1]
