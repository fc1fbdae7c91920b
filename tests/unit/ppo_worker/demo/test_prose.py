import pytest

from ppo_worker.demo.prose import MAX_CHARACTERS, MIN_CHARACTERS, normal, pieces

ONE = "The river is wide here, and the boats that cross it are few and slow."
TWO = "In winter the ice holds for weeks, so that people walk to the other side."
THREE = "Nobody knows who built the first bridge, and nobody knows why it was taken down again."


def test_whole_sentences_are_joined_up_to_the_limit() -> None:
    assert len(f"{ONE} {TWO}") <= MAX_CHARACTERS < len(f"{ONE} {TWO} {THREE}") + 20
    found = list(pieces(f"{ONE} {TWO} {THREE} {ONE}"))
    assert found == [(True, f"{ONE} {TWO} {THREE}"), (False, ONE)]


def test_only_the_beginning_of_the_text_answers_the_prompt() -> None:
    assert list(pieces(f"{ONE}\n\n{TWO}")) == [(True, ONE), (False, TWO)]
    assert list(pieces(f"Yes.\n{TWO}")) == [(False, TWO)]


def test_typographic_marks_become_ascii() -> None:
    assert [
        text
        for _, text in pieces(
            "“It’s late,” " + "he said — and it was late, for all of us who waited."
        )
    ] == ['"It\'s late," he said - and it was late, for all of us who waited.']


@pytest.mark.parametrize(
    "line",
    [
        f"1. {ONE}",
        f"- {ONE}",
        f"User: {ONE}",
        f"{ONE} See https://example.org/river for more.",
        "print(`river`) shows how wide the river is, and how slow the boats on it are.",
        "As an AI language model I have never seen a river, and I cannot tell how wide it is.",
        "Der Fluß ist hier breit, und die Boote, die ihn überqueren, sind selten und langsam.",
        "the river is wide here, and the boats that cross it are few and slow",
        "Short.",
        "A" + " very" * 60 + " long sentence.",
        "",
    ],
)
def test_what_is_no_plain_prose_is_left_out(line: str) -> None:
    assert list(pieces(line)) == []


def test_people_may_write_without_capital_and_end() -> None:
    hurried = "the river is wide here, and the boats that cross it are few and slow"
    assert list(pieces(hurried, strict=False)) == [(True, hurried)]
    assert len(hurried) >= MIN_CHARACTERS


def test_texts_that_differ_in_marks_are_equal() -> None:
    assert normal("The  river, wide!") == normal("the river wide") != normal("a river wide")
