"""Text for the demo, made by construction: short answers on a topic, and corruptions of them."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TypedDict

# Topic: what it is made of, where it is found, what it is used for, what helps, what harms.
_TOPICS: dict[str, tuple[str, str, str, str, str]] = {
    "bread": ("flour and water", "a bakery", "sandwiches", "a hot oven", "damp air"),
    "a bicycle": ("steel tubes and wheels", "a shed", "short trips", "a little oil", "rust"),
    "a garden": ("soil and seeds", "a sunny yard", "growing food", "regular water", "late frost"),
    "a letter": ("paper and ink", "a mailbox", "sharing news", "a clear hand", "heavy rain"),
    "a clock": ("gears and springs", "a hallway", "keeping time", "careful winding", "thick dust"),
    "honey": ("nectar from flowers", "a beehive", "sweet tea", "a warm summer", "a cold spring"),
    "a guitar": (
        "thin wood and strings",
        "a music room",
        "playing songs",
        "daily practice",
        "dry air",
    ),
    "a bridge": ("stone and iron", "a wide river", "crossing safely", "frequent checks", "floods"),
    "wool": ("the coat of sheep", "a mountain farm", "warm clothes", "gentle washing", "moths"),
    "a candle": ("wax and a wick", "a kitchen drawer", "soft light", "still air", "a draught"),
    "glass": ("melted sand", "a workshop", "windows and jars", "slow cooling", "sudden heat"),
    "a boat": ("planks and rope", "a quiet harbour", "fishing trips", "fresh paint", "rough waves"),
    "tea": ("dried leaves", "a high hillside", "a calm break", "fresh water", "long steeping"),
    "a book": ("pages and glue", "a library", "learning alone", "good light", "direct sun"),
    "a well": ("stacked stones", "an old village", "clean water", "a tight cover", "a dry year"),
    "cheese": ("milk and salt", "a cool cellar", "simple meals", "patient turning", "warm storage"),
    "a kite": ("cloth and sticks", "a windy beach", "playing outside", "a long tail", "tall trees"),
    "a road": ("gravel and tar", "every town", "moving goods", "good drains", "winter ice"),
    "soap": ("oil and ash", "a small factory", "washing hands", "slow drying", "hard water"),
    "a lamp": (
        "metal and a bulb",
        "a writing desk",
        "late reading",
        "a clean shade",
        "loose wires",
    ),
    "rope": ("twisted fibres", "a sailing ship", "tying loads", "dry storage", "sharp edges"),
    "an orchard": ("rows of trees", "a gentle slope", "apples and pears", "winter pruning", "hail"),
    "a chair": ("wood and glue", "a dining room", "resting a while", "even legs", "wet floors"),
    "salt": ("dried sea water", "a flat coast", "keeping food", "steady wind", "summer storms"),
    "a map": ("careful measuring", "a travel bag", "finding the way", "clear symbols", "old data"),
    "a tent": ("cloth and poles", "a camp site", "sleeping outdoors", "firm pegs", "strong gusts"),
    "paint": (
        "oil and pigment",
        "a hardware store",
        "covering walls",
        "thin layers",
        "dirty brushes",
    ),
    "a drum": ("skin and a frame", "a parade", "keeping rhythm", "even tension", "wet weather"),
    "compost": (
        "leaves and peelings",
        "a garden corner",
        "rich soil",
        "regular turning",
        "plastic",
    ),
    "a violin": (
        "spruce and maple",
        "a concert hall",
        "slow melodies",
        "a fresh bow",
        "quick drops",
    ),
}
_QUESTIONS = (
    "What should I know about {}?",
    "Can you tell me about {}?",
    "Explain {} to a child.",
    "Write a few sentences on {}.",
    "My teacher asked about {}. What do I say?",
    "Why do people care about {}?",
    "Give me a short note on {}.",
    "How would you describe {}?",
    "I have never heard of {}. What is it?",
    "Please help me understand {}.",
    "What is good to know about {} before I start?",
    "Tell a visitor about {}.",
    "Summarise {} for my notes.",
    "What makes {} useful?",
)
_SENTENCES = (
    ("It is made of {0}.", "Most of it is {0}.", "You need {0} to make it."),
    ("You can find it in {1}.", "People often keep it near {1}.", "Look for it at {1}."),
    ("It is used for {2}.", "Its main use is {2}.", "People like it for {2}."),
    ("It does best with {3}.", "What helps most is {3}.", "Take care to give it {3}."),
    ("Protect it from {4}.", "It suffers from {4}.", "The main danger is {4}."),
)


class DemoPair(TypedDict):
    """A preference pair as a line of JSON."""

    prompt: str
    chosen: str
    rejected: str


def pairs(count: int, seed: int = 0) -> Iterator[DemoPair]:
    """Pairs of an answer and its corruption, which are of like length."""
    random = Random(seed)
    for number in range(count):
        topic, prompt = _asked(number)
        good = _answer(topic, random)
        yield {"prompt": prompt, "chosen": good, "rejected": corrupted(good, topic, 1.0, random)}


def samples(number: int, k: int = 4) -> tuple[str, list[str]]:
    """What a policy might answer: a prompt, and k answers that are corrupted more and more."""
    random = Random(f"sample:{number}")
    topic, prompt = _asked(random.randrange(len(_TOPICS) * len(_QUESTIONS)))
    return prompt, [
        corrupted(_answer(topic, random), topic, degree / k, random) for degree in range(k)
    ]


def corrupted(answer: str, topic: str, degree: float, random: Random) -> str:
    """An answer made worse: words out of order, a sentence over and over, or another topic.

    Args:
        answer: made for the topic.
        topic: it is about.
        degree: 0 = as it is, 1 = all of it.
        random: decides how.
    """
    sentences = answer.removesuffix(".").split(". ")
    spoiled = round(degree * len(sentences))
    way = random.choice((_shuffled, _repeated, _elsewhere))
    worse = way(sentences, topic, random)
    return ". ".join([*sentences[: len(sentences) - spoiled], *worse[len(worse) - spoiled :]]) + "."


def _asked(number: int) -> tuple[str, str]:
    topics = list(_TOPICS)
    question, topic = divmod(number, len(topics))
    return topics[topic], _QUESTIONS[question % len(_QUESTIONS)].format(topics[topic])


def _answer(topic: str, random: Random) -> str:
    facts = random.sample(_SENTENCES, k=2)
    return " ".join(random.choice(forms).format(*_TOPICS[topic]) for forms in facts)


def _shuffled(sentences: list[str], _topic: str, random: Random) -> list[str]:
    return [" ".join(random.sample(words, len(words))) for words in map(str.split, sentences)]


def _repeated(sentences: list[str], _topic: str, random: Random) -> list[str]:
    return [random.choice(sentences)] * len(sentences)


def _elsewhere(sentences: list[str], topic: str, random: Random) -> list[str]:
    other = random.choice([name for name in _TOPICS if name != topic])
    return _answer(other, random).removesuffix(".").split(". ")[: len(sentences)]
