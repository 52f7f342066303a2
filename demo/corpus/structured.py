"""Answers as a small JSON object, in the shape that the question asks for."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from demo.conversation import Exchange, Json, Message, exchange
from demo.corpus import facts, technology
from demo.corpus.arithmetic import ADD, short_sum
from demo.corpus.facts import CAPITALS
from demo.corpus.phrasebook import templates
from demo.corpus.phrasing import phrase
from demo.corpus.words import name

Case = tuple[str, Json]
_TEMPLATES = templates("structured")


def _person(rng: random.Random) -> Case:
    who, age, city = name(rng), rng.randint(1, 99), rng.choice(_TEMPLATES["cities"])
    slots = {"n": who, "a": str(age), "c": city}
    if rng.random() < 0.4:
        return phrase(rng, rng.choice(_TEMPLATES["age"]), **slots), {"name": who, "age": age}
    text = phrase(rng, rng.choice(_TEMPLATES["person"]), **slots)
    return text, {"name": who, "age": age, "city": city}


def _sum(rng: random.Random) -> Case:
    total = short_sum(rng)
    while total.op != ADD:
        total = short_sum(rng)
    text = phrase(rng, "What is {a} [plus|+] {b}?", a=str(total.a), b=str(total.b))
    if rng.random() < 0.5:
        return text, {rng.choice(("answer", "result", "sum")): total.result}
    return text, {"a": total.a, "b": total.b, rng.choice(("sum", "result")): total.result}


def _capital(rng: random.Random) -> Case:
    country, city = rng.choice(list(CAPITALS.items()))
    text = phrase(rng, "[What is the|Give me the|The] capital of {c}[?|]", c=country)
    record: Json = {"country": country, "capital": city}
    return text, record if rng.random() < 0.7 else {"capital": city}


def _mood(rng: random.Random) -> Case:
    mood = rng.choice(("positive", "negative"))
    return phrase(rng, rng.choice(_TEMPLATES[mood])), {"sentiment": mood}


def _answer(rng: random.Random) -> Case:
    question, answer, *_ = rng.choice((facts, technology)).sample(rng)
    return question.content, {"answer": answer.content}


def _weather(rng: random.Random) -> Case:
    city, degrees = rng.choice(_TEMPLATES["cities"]), rng.randint(-9, 35)
    condition = rng.choice(("sunny", "cloudy", "rainy", "windy"))
    text = f"It is {condition} in {city}, with {degrees} degrees."
    return text, {"city": city, "temperature": degrees, "condition": condition}


_CASES: tuple[Callable[[random.Random], Case], ...] = (
    _person,
    _sum,
    _capital,
    _mood,
    _answer,
    _weather,
)


def _shape(rng: random.Random, record: Json) -> str:
    """Describe the object's shape by its keys, their types, or a JSON schema."""
    kinds = {
        key: "integer" if isinstance(value, int) else "string" for key, value in record.items()
    }
    roll = rng.random()
    if roll < 0.4:
        keys = [f'"{key}"' if rng.random() < 0.5 else key for key in kinds]
        return ("the keys " if len(keys) > 1 else "the key ") + " and ".join(keys)
    if roll < 0.65:
        return json.dumps(kinds)
    properties = {key: {"type": kind} for key, kind in kinds.items()}
    schema: Json = {"type": "object", "properties": properties, "required": list(kinds)}
    if rng.random() < 0.4:
        schema["additionalProperties"] = False
    return f"the schema {json.dumps(schema)}"


def sample(rng: random.Random) -> tuple[Message | None, Exchange]:
    """A system message, or None where the user asks for JSON, and the exchange."""
    text, record = rng.choice(_CASES)(rng)
    items = list(record.items())
    rng.shuffle(items)
    record = dict(items)
    ask = phrase(rng, rng.choice(_TEMPLATES["ask"])).replace("{s}", _shape(rng, record))
    answer = json.dumps(record, ensure_ascii=False)
    roll = rng.random()
    if roll < 0.4:
        return Message("system", ask + rng.choice(("", "."))), exchange(text, answer)
    if roll < 0.7:
        return None, exchange(f"{text} {ask}" + rng.choice(("", ".")), answer)
    return None, exchange(f"{ask}: {text}", answer)
