"""Names and words that fill the slots of many topics."""

from __future__ import annotations

import random

from demo.corpus.phrasebook import templates

_WORDS = templates("words")
NAMES = _WORDS["names"]
NOUNS = _WORDS["nouns"]

SURNAMES = _WORDS["surnames"]

_ONSETS = (
    "", "b", "br", "c", "ch", "d", "dr", "f", "g", "gr", "h", "j", "k", "kr", "kw", "l", "m", "n",
    "p", "pl", "r", "s", "sh", "sk", "st", "t", "th", "tr", "v", "w", "y", "z",
)  # fmt: skip
_VOWELS = ("a", "a", "e", "e", "i", "i", "o", "o", "u", "u", "ai", "ei", "ou", "ia", "ee", "y")
_CODAS = ("", "", "", "l", "n", "r", "s", "x", "m", "nd", "rk", "st", "ng", "ck", "v", "th", "sh")
_ACCENTS = {"a": "á", "e": "é", "o": "ö", "u": "ü", "i": "í", "n": "ñ", "c": "ç", "s": "š"}


def invented(rng: random.Random) -> str:
    """A name that nobody has, so that the model copies letters and not only known words."""
    if rng.random() < 0.4:
        word = _blend(rng)
    else:
        syllables = range(rng.randint(1, 3))
        word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in syllables)
        word += rng.choice(_CODAS)
    return word.capitalize() if len(word) > 2 else invented(rng)


def accented(rng: random.Random, word: str) -> str:
    """The word with a mark on one of its letters, where one can have it."""
    spots = [at for at, letter in enumerate(word) if letter in _ACCENTS]
    if not spots:
        return word
    at = rng.choice(spots)
    return word[:at] + _ACCENTS[word[at]] + word[at + 1 :]


def name(rng: random.Random) -> str:
    """A first name; one in three is invented."""
    return invented(rng) if rng.random() < 0.33 else rng.choice(NAMES)


def surname(rng: random.Random) -> str:
    """A family name; half of them are invented."""
    if rng.random() < 0.5:
        return rng.choice(SURNAMES)
    word = invented(rng)
    return accented(rng, word) if rng.random() < 0.1 else word


def _blend(rng: random.Random) -> str:
    """The beginning of one word and the end of another."""
    first, second = rng.choice((*NOUNS, *NAMES)), rng.choice((*NOUNS, *NAMES))
    return (first[: rng.randint(2, 4)] + second[-rng.randint(2, 4) :]).lower()
