"""Things that the user says and asks for later in the same conversation."""

from __future__ import annotations

import random

from demo.conversation import Exchange, exchange
from demo.corpus.phrasebook import intents, pick, templates
from demo.corpus.phrasing import casual, phrase
from demo.corpus.words import NOUNS, invented, name

UNTOLD = intents("untold")
_TEMPLATES = templates("memory")
_KINDS = {"name": 45, "home": 13, "colour": 13, "pet": 14, "secret": 15}


def recollection(rng: random.Random) -> tuple[Exchange, Exchange]:
    """Make what the user tells and the question about it: other turns may stand between."""
    topic = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
    kind, value = _content(rng, topic)
    tell, ask, said, answer = (
        phrase(rng, rng.choice(_TEMPLATES[f"{topic} {part}"]), k=kind, v=value)
        for part in ("tell", "ask", "said", "answer")
    )
    return (
        exchange(casual(rng, tell, safe=True), said),
        exchange(casual(rng, ask, safe=topic == "pet"), answer),
    )


def untold(rng: random.Random) -> Exchange:
    """Ask about something that the user has not said."""
    return exchange(*pick(rng, UNTOLD).sample(rng))


def _content(rng: random.Random, topic: str) -> tuple[str, str]:
    """Draw a kind of thing, where the topic has kinds, and what is told about it."""
    if topic == "name":
        return "", name(rng)
    if topic == "home":
        return "", invented(rng) if rng.random() < 0.2 else _one(rng, "cities")
    if topic == "colour":
        return "", _one(rng, "colours")
    if topic == "pet":
        return _one(rng, "pets"), name(rng)
    if rng.random() < 0.4:
        return "number", str(rng.randint(0, 99))
    return "word", rng.choice(NOUNS)


def _one(rng: random.Random, section: str) -> str:
    return phrase(rng, rng.choice(_TEMPLATES[section]))
