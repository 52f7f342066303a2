"""Questions that are too much for a small model, and an honest answer."""

from __future__ import annotations

import random

from demo.conversation import Exchange, exchange
from demo.corpus.phrasebook import intents, pick, templates
from demo.corpus.phrasing import casual, phrase
from demo.corpus.places import CITIES
from demo.corpus.words import invented, name

INTENTS = intents("unknown")
_TOOLS = templates("tools")
_LIVE = INTENTS[1].answer
_SUBJECTS = templates("unknown")["subjects"]


def sample(rng: random.Random) -> Exchange:
    """A question that the model declines, kindly."""
    if rng.random() < 0.16:
        return needs_tool(rng)
    slots = {
        "s": rng.choice(_SUBJECTS),
        "n": name(rng),
        "m": invented(rng),
        "l": invented(rng).lower(),
    }
    return exchange(*pick(rng, INTENTS).sample(rng, **slots))


def needs_tool(rng: random.Random) -> Exchange:
    """Ask what the model could answer with a tool, where it has none."""
    city = rng.choice(CITIES) if rng.random() < 0.7 else invented(rng)
    section = rng.choice(("weather ask", "weather ask", "time ask"))
    return exchange(casual(rng, phrase(rng, rng.choice(_TOOLS[section]), c=city)), _LIVE)
