"""What Sluice is, how it works, and how to install and use it."""

from __future__ import annotations

import random

from demo.conversation import Exchange, exchange
from demo.corpus.phrasebook import intents, pick

INTENTS = intents("sluice")


def sample(rng: random.Random) -> Exchange:
    """A question about Sluice."""
    return exchange(*pick(rng, INTENTS).sample(rng))
