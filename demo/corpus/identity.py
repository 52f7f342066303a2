"""Who the model is, what it can and cannot do, and that it is a demo."""

from __future__ import annotations

import random

from demo.conversation import Exchange, exchange
from demo.corpus.phrasebook import intents, pick

INTENTS = intents("identity")


def sample(rng: random.Random) -> Exchange:
    """A question about the model itself."""
    return exchange(*pick(rng, INTENTS).sample(rng))
