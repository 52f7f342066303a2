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
from demo.corpus.records import Record, record
from demo.corpus.slots import TEXT, WHOLE

Case = tuple[str, str, Json]
"""What it is about, a text, and the object that answers it."""

_TEMPLATES = templates("structured")
_RECORD_TEMPLATES = templates("records")


def _sum(rng: random.Random) -> Case:
    total = short_sum(rng)
    while total.op != ADD:
        total = short_sum(rng)
    text = phrase(rng, "What is {a} [plus|+] {b}?", a=str(total.a), b=str(total.b))
    if rng.random() < 0.5:
        return "sum", text, {rng.choice(("answer", "result", "sum")): total.result}
    return "sum", text, {"a": total.a, "b": total.b, rng.choice(("sum", "result")): total.result}


def _capital(rng: random.Random) -> Case:
    country, city = rng.choice(list(CAPITALS.items()))
    text = phrase(rng, "[What is the|Give me the|The] capital of {c}[?|]", c=country)
    found: Json = {"country": country, "capital": city}
    return "capital", text, found if rng.random() < 0.7 else {"capital": city}


def _country(rng: random.Random) -> Case:
    # London is the capital of two countries here.
    country, city = rng.choice([pair for pair in CAPITALS.items() if pair[0] != "England"])
    text = phrase(rng, rng.choice(_TEMPLATES["country"]), c=city)
    return "city and country", text, {"city": city, "country": country}


def _mood(rng: random.Random) -> Case:
    mood = rng.choice(("positive", "negative"))
    key = rng.choice(("sentiment", "sentiment", "label", "mood"))
    return "sentiment", phrase(rng, rng.choice(_TEMPLATES[mood])), {key: mood}


def _answer(rng: random.Random) -> Case:
    question, answer, *_ = rng.choice((facts, technology)).sample(rng)
    return "answer", question.content, {"answer": answer.content}


_CASES: dict[Callable[[random.Random], Case], int] = {
    _sum: 6,
    _capital: 5,
    _country: 6,
    _mood: 7,
    _answer: 3,
}
_RECORDS = 75
# What would be answered in words if there were no word of an object.
_QUESTIONS = ("sum", "capital", "city and country", "sentiment", "answer")
_FIRST_PERSON = ("I ", "I'm", "My ", "We ")


def _shape(rng: random.Random, made: Record) -> str:
    """Describe the object's shape by its keys, their types, or a JSON schema."""
    kinds = {key: schema.get("type", "string") for key, schema in made.schemas.items()}
    roll = rng.random()
    if roll < 0.4:
        keys = [f'"{key}"' if rng.random() < 0.5 else key for key in kinds]
        return ("the keys " if len(keys) > 1 else "the key ") + " and ".join(keys)
    if roll < 0.65:
        return json.dumps(kinds)
    schema: Json = {
        "type": "object",
        "properties": dict(made.schemas),
        "required": list(made.schemas),
    }
    if rng.random() < 0.4:
        schema["additionalProperties"] = False
    return f"the schema {json.dumps(schema)}"


def _drawn(rng: random.Random) -> Record:
    if rng.random() * 100 < _RECORDS:
        return record(rng)
    kind, text, values = rng.choices(list(_CASES), list(_CASES.values()))[0](rng)
    schemas = {key: WHOLE if isinstance(value, int) else TEXT for key, value in values.items()}
    return Record(kind, text, values, schemas).shuffled(rng)


def sample(rng: random.Random) -> tuple[Message | None, Exchange]:
    """A system message, or None where there need be none, and the exchange."""
    made = _drawn(rng)
    answer = json.dumps(made.values, ensure_ascii=False)
    if rng.random() < 0.6:
        return _untold(rng, made, answer)
    text = made.text
    ask = phrase(rng, rng.choice(_TEMPLATES["ask"])).replace("{s}", _shape(rng, made))
    roll = rng.random()
    if roll < 0.4:
        return Message("system", ask + rng.choice(("", "."))), exchange(text, answer)
    if roll < 0.7:
        return None, exchange(f"{text} {ask}" + rng.choice(("", ".")), answer)
    return None, exchange(f"{ask}: {text}", answer)


def _untold(rng: random.Random, made: Record, answer: str) -> tuple[Message | None, Exchange]:
    """The keys are not told: a server enforces them, and the model sees what it has written."""
    roll = rng.random()
    plain = made.kind not in _QUESTIONS and not made.text.startswith(_FIRST_PERSON)
    if roll < 0.18 and plain:
        return None, exchange(made.text, answer)
    if roll < 0.62:
        system = rng.choice(_RECORD_TEMPLATES["bare system"]).replace("{k}", made.kind)
        return Message("system", system), exchange(made.text, answer)
    shape = rng.choice(_RECORD_TEMPLATES["bare user"])
    return None, exchange(shape.replace("{k}", made.kind).replace("{t}", made.text), answer)
