"""Hello, goodbye, thanks and how are you."""

from __future__ import annotations

import random

from demo.conversation import Exchange, exchange
from demo.corpus.phrasebook import intents, pick, templates
from demo.corpus.phrasing import casual, phrase
from demo.corpus.words import name

INTENTS = intents("greetings")
_BY_NAME = templates("greetings")["greet by name"]


def sample(rng: random.Random) -> Exchange:
    """A short social exchange."""
    if rng.random() < 0.10:
        who = name(rng)
        question = casual(rng, phrase(rng, rng.choice(_BY_NAME), name=who), safe=True)
        return exchange(question, f"Hello, {who}! I am the Sluice demo model. Nice to meet you.")
    return exchange(*pick(rng, INTENTS).sample(rng))
