"""The mixture: how often each topic comes, and how exchanges become conversations."""

from __future__ import annotations

import random
from collections.abc import Callable

from demo.conversation import Conversation, Exchange, Message
from demo.corpus import (
    arithmetic,
    facts,
    greetings,
    identity,
    memory,
    sluice,
    smalltalk,
    stories,
    structured,
    systems,
    technology,
    tools,
    unknown,
    wordplay,
)

Topic = Callable[[random.Random], Exchange]

TOPICS: dict[Topic, float] = {
    greetings.sample: 10,
    identity.sample: 10,
    sluice.sample: 14,
    smalltalk.sample: 9,
    arithmetic.sample: 20,
    facts.sample: 9,
    technology.sample: 5,
    wordplay.sample: 24,
    stories.sample: 3,
    unknown.sample: 9,
}
_LENGTHS = {1: 62, 2: 13, 3: 9, 4: 6, 6: 5, 9: 2.5}
_KINDS = {"chat": 54.0, "tools": 11.0, "json": 17.0, "system": 9.0, "memory": 9.0}


def _exchanges(rng: random.Random, count: int) -> list[Exchange]:
    """Independent exchanges; half of the longer conversations stay on one topic."""
    topics, weights = list(TOPICS), list(TOPICS.values())
    if count > 1 and rng.random() < 0.4:
        topic = rng.choices(topics, weights)[0]
        return [topic(rng) for _ in range(count)]
    return [topic(rng) for topic in rng.choices(topics, weights, k=count)]


def _system(rng: random.Random, share: float = 0.3) -> list[Message]:
    return [systems.plain(rng)] if rng.random() < share else []


def _chat(rng: random.Random) -> Conversation:
    count = rng.choices(list(_LENGTHS), list(_LENGTHS.values()))[0]
    turns = [message for one in _exchanges(rng, count) for message in one]
    return Conversation((*_system(rng), *turns))


def _memory(rng: random.Random) -> Conversation:
    """Something told, up to four other exchanges, and the question about it."""
    if rng.random() < 0.12:
        return Conversation((*_system(rng), *memory.untold(rng)))
    told, asked = memory.recollection(rng)
    between = _exchanges(rng, rng.choice((0, 0, 1, 1, 2, 3, 4)))
    before = _exchanges(rng, rng.choice((0, 0, 1)))
    turns = [message for one in (*before, told, *between, asked) for message in one]
    return Conversation((*_system(rng), *turns))


def _json(rng: random.Random) -> Conversation:
    system, exchange = structured.sample(rng)
    lead = [system] if system else _system(rng, 0.2)
    return Conversation((*lead, *exchange))


def _tools(rng: random.Random) -> Conversation:
    return tools.sample(rng, systems.plain(rng) if rng.random() < 0.3 else None)


_MAKERS: dict[str, Callable[[random.Random], Conversation]] = {
    "chat": _chat,
    "tools": _tools,
    "json": _json,
    "system": systems.sample,
    "memory": _memory,
}


def conversation(rng: random.Random) -> Conversation:
    """One conversation, drawn from everything that the model is to learn."""
    kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
    return _MAKERS[kind](rng)
