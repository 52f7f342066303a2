"""Tools on offer: when to call them, how, and what to make of their answers."""

from __future__ import annotations

import random
from collections.abc import Callable

from demo.conversation import Conversation, Exchange, Message, ToolCall, exchange
from demo.corpus import (
    arithmetic,
    facts,
    greetings,
    identity,
    sluice,
    smalltalk,
    technology,
    unknown,
)
from demo.corpus.calculator_tool import calculator_offer
from demo.corpus.errands import Errand, Offer
from demo.corpus.other_tools import (
    convert_offer,
    lookup_offer,
    record_offer,
    search_offer,
    time_offer,
)
from demo.corpus.phrasebook import templates
from demo.corpus.phrasing import casual, phrase
from demo.corpus.weather_tool import weather_offer

_TEMPLATES = templates("tools")
_OFFERS: dict[Callable[[random.Random], Offer], int] = {
    weather_offer: 30,
    calculator_offer: 25,
    record_offer: 14,
    lookup_offer: 14,
    time_offer: 7,
    search_offer: 6,
    convert_offer: 4,
}
_PLAIN = (
    *(greetings.sample,) * 3,
    *(identity.sample,) * 2,
    *(sluice.sample,) * 2,
    *(smalltalk.sample,) * 3,
    facts.sample,
    technology.sample,
)
_COUNTING = ("calculator", "add", "subtract", "multiply", "divide")
Planned = tuple[Offer, Errand]


def _offered(rng: random.Random) -> list[Offer]:
    """One to three tools of different names and uses."""
    roll = rng.random()
    if roll < 0.32:
        makers: list[Callable[[random.Random], Offer]] = [weather_offer, calculator_offer]
        rng.shuffle(makers)
    else:
        count = 1 if roll < 0.7 else rng.choice((2, 2, 3))
        makers = rng.choices(tuple(_OFFERS), tuple(_OFFERS.values()), k=count)
    offers: list[Offer] = []
    for maker in makers:
        offer = maker(rng)
        if all(offer.name != other.name and offer.suits != other.suits for other in offers):
            offers.append(offer)
    return offers


def _calls(rng: random.Random, question: str, planned: list[Planned]) -> Exchange:
    """A question that takes these calls: at once, or now and then one after the other."""
    calls = [ToolCall(offer.name, errand.arguments) for offer, errand in planned]
    replies = [Message("tool", errand.reply) for _, errand in planned]
    said = Message("assistant", " ".join(errand.said for _, errand in planned))
    asked = Message("user", question)
    if len(calls) > 1 and rng.random() < 0.2:
        turns = [
            message
            for call, reply in zip(calls, replies, strict=True)
            for message in (Message("assistant", "", (call,)), reply)
        ]
        return (asked, *turns, said)
    return (asked, Message("assistant", "", tuple(calls)), *replies, said)


def _errands(rng: random.Random, offers: list[Offer]) -> Exchange:
    """One call mostly, or several: of one question, or of two questions in one message."""
    offer = rng.choice(offers)
    roll = rng.random()
    if offer.many and roll < 0.2:
        question, errands = offer.many(rng)
        return _calls(rng, question, [(offer, errand) for errand in errands])
    if roll < 0.3 and offer.suits != "record":
        other = rng.choice([one for one in offers if one.suits != "record"])
        planned = [(one, one.ask(rng)) for one in (offer, other)]
        first, second = (_sentence(errand.question) for _, errand in planned)
        if planned[0][1].arguments != planned[1][1].arguments:
            joined = phrase(rng, rng.choice(_TEMPLATES["follow joins"]), a=first, b=second)
            return _calls(rng, joined, planned)
    if offer.follow and roll > 0.96:
        return _asked_back(rng, offer, offer.follow(rng))
    errand = offer.ask(rng)
    turns = _calls(rng, errand.question, [(offer, errand)])
    if offer.follow and rng.random() < 0.25:
        following = offer.follow(rng)
        turns += _calls(rng, following.question, [(offer, following)])
    return turns


def _asked_back(rng: random.Random, offer: Offer, errand: Errand) -> Exchange:
    """A question that names no city, and the call once it is named."""
    question = casual(rng, rng.choice(_TEMPLATES["weather bare"]))
    return (
        *exchange(question, "In which city?"),
        *_calls(rng, errand.question, [(offer, errand)]),
    )


def _sentence(text: str) -> str:
    return text if text[-1] in ".?!" else f"{text}."


def _plain(rng: random.Random, offers: list[Offer]) -> Exchange:
    """What needs none of the tools."""
    if all(offer.suits != "weather" for offer in offers) and rng.random() < 0.12:
        return unknown.needs_tool(rng)
    counts = any(offer.suits in _COUNTING for offer in offers)
    if not counts and rng.random() < 0.25:
        return arithmetic.sample(rng)
    return rng.choice(_PLAIN)(rng)


def sample(rng: random.Random, system: Message | None) -> Conversation:
    """A conversation with tools; the turns that need none are answered in plain words."""
    offers = _offered(rng)
    messages: list[Message] = [system] if system else []
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        if rng.random() < 0.25:
            messages.extend(_plain(rng, offers))
        else:
            messages.extend(_errands(rng, offers))
    return Conversation(tuple(messages), tuple(offer.tool for offer in offers))
