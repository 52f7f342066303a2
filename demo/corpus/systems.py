"""System prompts: most change nothing, some give a name, a manner or a limit."""

from __future__ import annotations

import random

from demo.conversation import Conversation, Message, Role, exchange
from demo.corpus import arithmetic, facts, greetings, identity, sluice, smalltalk
from demo.corpus.phrasebook import templates
from demo.corpus.phrasing import casual, phrase
from demo.corpus.words import name

_TEMPLATES = templates("systems")
_MANNERS = (
    ("pirate", "Arr! ", ""),
    ("king", "Hear my royal words! ", ""),
    ("robot", "Beep boop. ", ""),
    ("cat", "Meow! ", ""),
    ("nice day", "", " Have a nice day!"),
)
_TOPICS = (
    greetings.sample,
    identity.sample,
    sluice.sample,
    smalltalk.sample,
    facts.sample,
    arithmetic.sample,
)


def plain(rng: random.Random) -> Message:
    """A system message that changes nothing about the answers."""
    role: Role = "developer" if rng.random() < 0.1 else "system"
    return Message(role, phrase(rng, rng.choice(_TEMPLATES["plain"])).strip())


def _named(rng: random.Random) -> Conversation:
    called = name(rng)
    system = Message("system", phrase(rng, rng.choice(_TEMPLATES["named"]), n=called).strip())
    answers = {
        "asked name": f"My name is {called}.",
        "asked who": f"I am {called}, an assistant that runs on the small Sluice demo model.",
        "asked hello": f"Hello! I am {called}. How can I help you today?",
    }
    messages: list[Message] = [system]
    for section in rng.sample(list(answers), rng.randint(1, 2)):
        question = phrase(rng, rng.choice(_TEMPLATES[section]))
        messages.extend(exchange(casual(rng, question), answers[section]))
    if rng.random() < 0.3:
        messages.extend(rng.choice((sluice.sample, facts.sample, arithmetic.sample))(rng))
    return Conversation(tuple(messages))


def _mannered(rng: random.Random) -> Conversation:
    manner, head, tail = rng.choice(_MANNERS)
    system = Message("system", rng.choice(_TEMPLATES[manner]))
    turns: list[Message] = [system]
    for _ in range(rng.choice((1, 1, 2))):
        for message in rng.choice(_TOPICS)(rng):
            said = message.role == "assistant"
            text = f"{head}{message.content}{tail}" if said else message.content
            turns.append(Message(message.role, text))
    return Conversation(tuple(turns))


def _short(rng: random.Random) -> Conversation:
    """Answers of one word or one number."""
    limit = rng.choice(_TEMPLATES["one word"])
    if rng.random() < 0.5:
        country, city = rng.choice(list(facts.CAPITALS.items()))
        question, answer = phrase(rng, "What is the capital of {c}?", c=country), city.rstrip(".")
    else:
        limit = limit.replace("word", "number")
        total = arithmetic.short_sum(rng)
        question, answer = arithmetic.question(rng, total), str(total.result)
    if rng.random() < 0.6:
        return Conversation((Message("system", limit), *exchange(question, f"{answer}.")))
    return Conversation(exchange(f"{question} {limit}", f"{answer}."))


def sample(rng: random.Random) -> Conversation:
    """A conversation in which the system prompt matters."""
    return rng.choices((_named, _mannered, _short), (5, 3, 2))[0](rng)
