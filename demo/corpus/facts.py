"""Simple facts about the world."""

from __future__ import annotations

import random

from demo.conversation import Exchange, exchange
from demo.corpus.phrasebook import intents, pairs, pick, templates
from demo.corpus.phrasing import casual, phrase

CAPITALS = pairs("capitals")
INTENTS = intents("facts")
_TEMPLATES = templates("facts")


def _capitals(rng: random.Random) -> Exchange:
    texts: list[str] = []
    for turn in range(rng.choice((1, 1, 1, 2, 3))):
        country, city = rng.choice(list(CAPITALS.items()))
        template = rng.choice(_TEMPLATES["follow" if turn else "capital"])
        question = phrase(rng, template, c=country)
        texts += [casual(rng, question), f"The capital of {country} is {city.rstrip('.')}."]
    return exchange(*texts)


def _countries(rng: random.Random) -> Exchange:
    # London has two countries here: ask for the United Kingdom only.
    country, city = rng.choice([pair for pair in CAPITALS.items() if pair[0] != "England"])
    question = phrase(rng, rng.choice(_TEMPLATES["reverse"]), x=city)
    return exchange(casual(rng, question), f"{city} is the capital of {country}.")


def sample(rng: random.Random) -> Exchange:
    """A question about the world."""
    roll = rng.random()
    if roll < 0.34:
        return _capitals(rng)
    if roll < 0.40:
        return _countries(rng)
    return exchange(*pick(rng, INTENTS).sample(rng))
