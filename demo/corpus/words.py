"""Names and words that fill the slots of many topics."""

from __future__ import annotations

import random

from demo.corpus.phrasebook import templates

_WORDS = templates("words")
NAMES = _WORDS["names"]
NOUNS = _WORDS["nouns"]

_ONSETS = ("b", "br", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ei", "ou")
_CODAS = ("", "", "l", "n", "r", "s", "x", "m")


def invented(rng: random.Random) -> str:
    """A name that nobody has, so that the model copies letters and not only known words."""
    syllables = range(rng.randint(1, 3))
    word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in syllables)
    return (word + rng.choice(_CODAS)).capitalize()


def name(rng: random.Random) -> str:
    """A first name; one in three is invented."""
    return invented(rng) if rng.random() < 0.33 else rng.choice(NAMES)
