"""Spelling, counting, listing, opposites, repeating, and upper case."""

from __future__ import annotations

import random
from collections.abc import Callable

from demo.conversation import Exchange, exchange
from demo.corpus.phrasebook import intents, pairs, pick, templates
from demo.corpus.phrasing import casual, phrase
from demo.corpus.words import NOUNS, invented, name

OPPOSITES = tuple(pairs("opposites").items())
LISTS = intents("wordplay")
_TEMPLATES = templates("wordplay")
_TOPS = (3, 4, 5, 5, 6, 7, 8, 9, 10, 10, 10, 12, 15, 20, 20, 20, 25, 30, 30, 40, 50, 100)
_STEPS = (("twos", 2, 10), ("twos", 2, 20), ("fives", 5, 50), ("tens", 10, 100), ("threes", 3, 30))


def _word(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.75:
        return rng.choice(NOUNS)
    return name(rng) if roll < 0.9 else invented(rng).lower()


def _ask(rng: random.Random, section: str, **slots: str) -> str:
    """Ask in one of the section's ways, and leave the letters as they are."""
    return casual(rng, phrase(rng, rng.choice(_TEMPLATES[section]), **slots), safe=True)


def _spell(rng: random.Random) -> Exchange:
    word = _word(rng)
    return exchange(_ask(rng, "spell", w=word), "-".join(word.upper()) + ".")


def _letters(rng: random.Random) -> Exchange:
    word = _word(rng)
    letters = "-".join(word.upper())
    return exchange(_ask(rng, "letters", w=word), f"{letters}: that is {len(word)} letters.")


def _end_letter(rng: random.Random) -> Exchange:
    word = _word(rng)
    end, letter = rng.choice((("first", word[0]), ("first", word[0]), ("last", word[-1])))
    answer = f"The {end} letter of {word} is {letter.upper()}."
    return exchange(_ask(rng, f"{end} letter", w=word), answer)


def _count(rng: random.Random) -> Exchange:
    top = rng.choice(_TOPS)
    start = 1 if rng.random() < 0.8 else rng.randint(2, max(2, top - 2))
    section = "count" if start == 1 else "count from"
    return exchange(_ask(rng, section, a=str(start), n=str(top)), _series(range(start, top + 1)))


def _count_down(rng: random.Random) -> Exchange:
    top = rng.choice((3, 5, 5, 10, 10, 20, rng.randint(3, 20)))
    return exchange(_ask(rng, "count down", n=str(top)), _series(range(top, 0, -1)))


def _count_by(rng: random.Random) -> Exchange:
    word, step, top = rng.choice(_STEPS)
    question = _ask(rng, "count by", w=word, n=str(top))
    return exchange(question, _series(range(step, top + 1, step)))


def _series(numbers: range) -> str:
    return ", ".join(str(number) for number in numbers) + "."


def _opposite(rng: random.Random) -> Exchange:
    word, other = rng.choice(OPPOSITES)
    if rng.random() < 0.5:
        word, other = other, word
    question = phrase(rng, rng.choice(_TEMPLATES["opposite"]), w=word)
    return exchange(casual(rng, question), f"The opposite of {word} is {other}.")


def _repeat(rng: random.Random) -> Exchange:
    words = [_word(rng) for _ in range(rng.choice((1, 1, 2, 3, 4)))]
    text = " ".join(words)
    question = _ask(rng, "repeat", t=text, s="s" if len(words) > 1 else "")
    return exchange(question, f"{text[0].upper()}{text[1:]}.")


def _upper(rng: random.Random) -> Exchange:
    word = _word(rng)
    return exchange(_ask(rng, "upper", w=word), f"{word.upper()}.")


_KINDS: dict[Callable[[random.Random], Exchange], int] = {
    _spell: 30,
    _letters: 3,
    _end_letter: 5,
    _count: 20,
    _count_down: 5,
    _count_by: 4,
    _opposite: 12,
    _repeat: 14,
    _upper: 3,
}


def sample(rng: random.Random) -> Exchange:
    """A small exercise with words or a count."""
    if rng.random() < 0.27:
        return exchange(*pick(rng, LISTS).sample(rng))
    return rng.choices(list(_KINDS), list(_KINDS.values()))[0](rng)
