"""Cuts what people and models wrote into short pieces of plain prose."""

from __future__ import annotations

import re
from collections.abc import Iterator

MIN_CHARACTERS, MAX_CHARACTERS = 60, 240

_PLAIN = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\xa0": " "}
)
# Lists, code, markup, addresses, speakers.
_NO_PROSE = re.compile(
    r"^\s*([-*+>#|•]|\(?\w{1,2}[.)]\s)|[`<>{}\[\]\\|=_@#*~^]|https?:|www\.|^\w+:"
)
_SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')]))\s+(?=[\"'(]?[A-Z0-9])")
_SENTENCE = re.compile(r"[\"'(]?[A-Z][ -~]*[.!?][\"')]*")
# What a policy of ours is not to say: that it is a product of others, and insults.
_UNWANTED = re.compile(
    r"\b(open ?assistant|chat ?gpt|gpt|open ?ai|laion|language model|an ai|i'm sorry|i am sorry"
    r"|porn\w*|sex\w*|gays?|lesbian\w*|rap(e|ed|ist|ists)|nazis?|hitler|suicid\w*|nigg\w*|retard\w*"
    r"|fag\w*|fuck\w*|shit\w*|bitch\w*|slut\w*|whore\w*|dicks?|ass(hole)?s?)\b",
    re.IGNORECASE,
)


def pieces(text: str, *, strict: bool = True) -> Iterator[tuple[bool, str]]:
    """Pieces of whole, consecutive sentences, of MIN_CHARACTERS to MAX_CHARACTERS each.

    Args:
        text: any text; what is no plain English prose is left out.
        strict: take only sentences that start with a capital letter and end with a mark, as what
            models write does; what people write in a hurry need not.

    Yields:
        Whether the piece is the beginning of the text, and the piece.
    """
    beginning = True
    for line in text.translate(_PLAIN).splitlines():
        if not line.strip():
            continue
        for starts, piece in _of_line(" ".join(line.split()), strict):
            yield beginning and starts, piece
        beginning = False


def normal(text: str) -> str:
    """Equal for texts that differ in case, marks and spaces alone."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _of_line(line: str, strict: bool) -> Iterator[tuple[bool, str]]:
    if _NO_PROSE.search(line):
        return
    held: list[str] = []
    start = 0
    for number, sentence in enumerate([*_SENTENCE_END.split(line), ""]):
        usable = _usable(sentence, strict)
        if held and not (usable and len(" ".join([*held, sentence])) <= MAX_CHARACTERS):
            piece, held = " ".join(held), []
            if len(piece) >= MIN_CHARACTERS:
                yield start == 0, piece
        if usable:
            start = start if held else number
            held.append(sentence)


def _usable(sentence: str, strict: bool) -> bool:
    formed = _SENTENCE.fullmatch(sentence) if strict else sentence and sentence.isascii()
    return bool(formed) and len(sentence) <= MAX_CHARACTERS and not _UNWANTED.search(sentence)
