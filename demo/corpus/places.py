"""Cities: well-known ones, and such as nobody has heard of."""

from __future__ import annotations

import random

from demo.corpus.facts import CAPITALS
from demo.corpus.phrasebook import templates
from demo.corpus.words import accented, invented

_TEMPLATES = templates("places")
CITIES = _TEMPLATES["cities"]
COUNTRIES = tuple(CAPITALS)


def city(rng: random.Random) -> str:
    """A city; four in ten are invented, because a model that knows some must copy the others."""
    roll = rng.random()
    if roll < 0.32:
        return rng.choice(CITIES)
    if roll < 0.6:
        return rng.choice(list(CAPITALS.values())).rstrip(".")
    word = invented(rng)
    roll = rng.random()
    if roll < 0.1:
        return accented(rng, word)
    if roll < 0.3:
        return f"{rng.choice(_TEMPLATES['before'])} {word}"
    return f"{word} {rng.choice(_TEMPLATES['after'])}" if roll < 0.36 else word


def country(rng: random.Random) -> str:
    """A country that the model knows a capital of."""
    return rng.choice(COUNTRIES)
