"""Short stories and poems, long enough to watch a stream."""

from __future__ import annotations

import random

from demo.conversation import Exchange, exchange
from demo.corpus.phrasebook import intents, pairs, templates
from demo.corpus.phrasing import casual, phrase

POEMS = {intent.questions[0]: intent.answer for intent in intents("poems")}
HAIKUS = {intent.questions[0]: intent.answer for intent in intents("haikus")}
_PLACES = pairs("heroes")
_TEMPLATES = templates("stories")
_PLOTS = _TEMPLATES["plots"]
_ORDER = {hero: index % len(_PLOTS) for index, hero in enumerate(_PLACES)}


def _story(hero: str) -> str:
    """The story of a hero: always the same one, so that greedy decoding has one way to go."""
    return _with_article(_PLOTS[_ORDER[hero]].format(h=hero, p=_PLACES[hero]), hero)


def _with_article(text: str, hero: str) -> str:
    return text.replace(f" a {hero}", f" an {hero}") if hero[0] in "aeiou" else text


def _stories(rng: random.Random) -> Exchange:
    if rng.random() < 0.35:
        hero, ask = rng.choice(("beaver", "beaver", "robot")), rng.choice(_TEMPLATES["ask any"])
    else:
        hero = rng.choice(list(_PLACES))
        ask = _with_article(phrase(rng, rng.choice(_TEMPLATES["ask"]), h=hero), hero)
    texts = [casual(rng, phrase(rng, ask)), _story(hero)]
    if rng.random() < 0.15:
        heroes = list(_PLACES)
        following = heroes[(heroes.index(hero) + 1) % len(heroes)]
        texts += [casual(rng, phrase(rng, rng.choice(_TEMPLATES["another"]))), _story(following)]
    return exchange(*texts)


def _verse(rng: random.Random, verses: dict[str, str], kind: str) -> Exchange:
    if rng.random() < 0.35:
        topic, ask = next(iter(verses)), rng.choice(_TEMPLATES[f"{kind} any"])
    else:
        topic = rng.choice(list(verses))
        shown = topic.removeprefix("the ") if rng.random() < 0.2 else topic
        ask = phrase(rng, rng.choice(_TEMPLATES[kind]), t=shown)
    return exchange(casual(rng, phrase(rng, ask)), verses[topic])


def raw_text(rng: random.Random) -> str:
    """A plain text outside of any chat, for the completions endpoint."""
    if rng.random() < 0.8:
        return _story(rng.choice(list(_PLACES)))
    return rng.choice([*POEMS.values(), *HAIKUS.values()])


def sample(rng: random.Random) -> Exchange:
    """A story, a poem or a haiku."""
    roll = rng.random()
    if roll < 0.45:
        return _stories(rng)
    if roll < 0.78:
        return _verse(rng, POEMS, "poem")
    return _verse(rng, HAIKUS, "haiku")
