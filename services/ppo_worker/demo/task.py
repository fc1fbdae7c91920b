"""The prompts of the default task: topics x stances x templates, two topics held out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

POLICY = Path(__file__).parent / "policy"

TEMPLATES = (
    "{question} Argue for: {stance}.",
    "{question} Make the case for: {stance}.",
    "Argue for: {stance}. The question: {question}",
    "{question} Give one good reason for: {stance}.",
)


@dataclass(frozen=True)
class Topic:
    """A question and its sides.

    Attributes:
        name: of the topic in UKPConvArg1.
        question: in words that follow it.
        stances: the name of each side in UKPConvArg1, and words for it.
    """

    name: str
    question: str
    stances: Mapping[str, str]

    def prompts(self, stance: str) -> Iterator[str]:
        """Every prompt that asks for a side, one a template."""
        for template in TEMPLATES:
            yield template.format(question=self.question, stance=self.stances[stance])


TRAINING = (
    Topic(
        "ban-plastic-water-bottles",
        "Ban plastic water bottles?",
        {
            "yes-emergencies-only": "yes, except in emergencies",
            "no-bad-for-the-economy": "no, a ban is bad for the economy",
        },
    ),
    Topic(
        "christianity-or-atheism-",
        "Christianity or atheism?",
        {"christianity": "Christianity", "atheism": "atheism"},
    ),
    Topic(
        "evolution-vs-creation",
        "Evolution or creation?",
        {"evolution": "evolution", "creation": "creation"},
    ),
    Topic(
        "human-growth-and-development-should-parents-use-spanking-as-an-option-to-discipline-",
        "Should parents use spanking to discipline their children?",
        {"yes": "yes, they should", "no": "no, they should not"},
    ),
    Topic(
        "if-your-spouse-committed-murder-and-he-or-she-confided-in-you-would-you-turn-them-in-",
        "If your spouse confided a murder to you, would you turn them in?",
        {"yes": "yes, I would turn them in", "no": "no, I would not turn them in"},
    ),
    Topic(
        "india-has-the-potential-to-lead-the-world-",
        "Does India have the potential to lead the world?",
        {"yes-for": "yes, it does", "no-against": "no, it does not"},
    ),
    Topic(
        "is-the-school-uniform-a-good-or-bad-idea-",
        "Is the school uniform a good or a bad idea?",
        {"good": "a good idea", "bad": "a bad idea"},
    ),
    Topic(
        "personal-pursuit-or-advancing-the-common-good-",
        "Personal pursuit or the common good?",
        {
            "personal-pursuit": "personal pursuit",
            "advancing-the-commond-good": "advancing the common good",
        },
    ),
    Topic("tv-is-better-than-books", "Is TV better than books?", {"tv": "TV", "books": "books"}),
    Topic(
        "william-farquhar-ought-to-be-honoured-as-the-rightful-founder-of-singapore",
        "Who is the rightful founder of Singapore?",
        {"yes-of-course-": "William Farquhar", "no-it-is-raffles-": "Stamford Raffles"},
    ),
)

# Neither the policy nor the embedded reward model was trained on these two.
HELD_OUT = (
    Topic(
        "firefox-vs-internet-explorer",
        "Firefox or Internet Explorer?",
        {
            "it-has-a-cute-logo-oh-and-extensions-err-add-ons": "Firefox",
            "there-s-more-browsers-than-the-ie-firefox-is-an-animal": "Internet Explorer",
        },
    ),
    Topic(
        "is-it-better-to-have-a-lousy-father-or-to-be-fatherless-",
        "Is it better to have a lousy father or to be fatherless?",
        {"lousy-father": "a lousy father", "fatherless": "fatherless"},
    ),
)


def training_prompts() -> list[str]:
    """What the policy is trained on with PPO."""
    return _prompts(TRAINING)


def held_out_prompts() -> list[str]:
    """What its gain is measured on."""
    return _prompts(HELD_OUT)


def _prompts(topics: tuple[Topic, ...]) -> list[str]:
    return [prompt for topic in topics for side in topic.stances for prompt in topic.prompts(side)]
