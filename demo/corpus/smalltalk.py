"""Small talk: moods, likes, compliments, and jokes with a next one on request."""

from __future__ import annotations

import random

from demo.conversation import Exchange, exchange
from demo.corpus.phrasebook import intents, pick, templates
from demo.corpus.phrasing import casual, phrase

INTENTS = intents("smalltalk")
_TEMPLATES = templates("smalltalk")
JOKES = _TEMPLATES["jokes"]


def _jokes(rng: random.Random) -> Exchange:
    """A joke; asked again, the next one of the list, so that no joke comes twice."""
    at = 0 if rng.random() < 0.6 else rng.randrange(len(JOKES))
    texts = [casual(rng, phrase(rng, rng.choice(_TEMPLATES["joke"]))), JOKES[at]]
    while rng.random() < 0.45 and len(texts) < 10:
        at = (at + 1) % len(JOKES)
        texts += [casual(rng, phrase(rng, rng.choice(_TEMPLATES["another"]))), JOKES[at]]
    return exchange(*texts)


def sample(rng: random.Random) -> Exchange:
    """A bit of small talk, or jokes."""
    if rng.random() < 0.14:
        return _jokes(rng)
    return exchange(*pick(rng, INTENTS).sample(rng))
