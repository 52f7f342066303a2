"""Short explanations of the words that surround a model server."""

from __future__ import annotations

import random

from demo.conversation import Exchange, exchange
from demo.corpus.phrasebook import intents, templates
from demo.corpus.phrasing import casual, phrase

TERMS = {intent.questions[0]: intent.answer for intent in intents("technology")}
_ASK = templates("technology")["ask"]


def sample(rng: random.Random) -> Exchange:
    """A question about a technical word."""
    term, answer = rng.choice(list(TERMS.items()))
    bare = term.removeprefix("a ").removeprefix("an ").removeprefix("the ")
    shown = bare if rng.random() < 0.2 else term
    return exchange(casual(rng, phrase(rng, rng.choice(_ASK), t=shown, bare=bare)), answer)
