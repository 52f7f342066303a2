"""Tools of other kinds: the time, a search, looking something up, keeping a record."""

from __future__ import annotations

import json
import random
from typing import Any

from demo.conversation import Json
from demo.corpus.errands import Errand, Offer, describe, spelled, text_schema
from demo.corpus.phrasebook import templates
from demo.corpus.phrasing import casual, phrase
from demo.corpus.places import city
from demo.corpus.records import Record, record
from demo.corpus.slots import amount, day, full_name
from demo.corpus.words import invented

_TEMPLATES = templates("tools")


def time_offer(rng: random.Random) -> Offer:
    """A tool that tells the time in a city."""
    argument = rng.choice(("city", "city", "location", "timezone"))

    def ask(asked: random.Random) -> Errand:
        place = city(asked)
        time = f"{asked.randint(0, 23):02}:{asked.randint(0, 59):02}"
        question = phrase(asked, asked.choice(_TEMPLATES["time ask"]), c=place)
        reply = asked.choice((time, json.dumps({"time": time}), f"It is {time}."))
        said = f"It is {time} in {place}."
        return Errand(casual(asked, question, safe=True), {argument: place}, reply, said)

    name = rng.choice(("get_time", "get_current_time", "current_time", "time"))
    properties = {argument: text_schema(rng, _TEMPLATES["about city"])}
    about = rng.choice(_TEMPLATES["about time"])
    return Offer(describe(rng, spelled(rng, name), about, properties, [argument]), "time", ask)


def search_offer(rng: random.Random) -> Offer:
    """A tool that searches."""
    argument = rng.choice(("query", "query", "q", "search_query"))

    def ask(asked: random.Random) -> Errand:
        known = asked.random() < 0.5
        query = asked.choice(_TEMPLATES["subjects"]) if known else invented(asked)
        question = phrase(asked, asked.choice(_TEMPLATES["search ask"]), q=query)
        reply = f"Found {asked.randint(2, 99)} pages about {query}."
        said = f"I found some pages about {query}."
        return Errand(casual(asked, question, safe=True), {argument: query}, reply, said)

    name = rng.choice(("search", "search_web", "web_search", "search_documents"))
    properties = {argument: text_schema(rng, _TEMPLATES["about query"])}
    about = rng.choice(_TEMPLATES["about search"])
    return Offer(describe(rng, spelled(rng, name), about, properties, [argument]), "search", ask)


def lookup_offer(rng: random.Random) -> Offer:
    """A tool that knows one thing about things of a kind. Neither is known beforehand."""
    thing, key = rng.choice(_TEMPLATES["lookup things"]), rng.choice(_TEMPLATES["lookup keys"])
    numbered = rng.random() < 0.4
    argument = f"{thing}_id" if numbered else rng.choice((thing, f"{thing}_name", "name"))

    def ask(asked: random.Random) -> Errand:
        value: Any = asked.randint(1, 99_999) if numbered else _called(asked)
        slots = {"k": key, "t": thing, "v": str(value)}
        question = phrase(asked, asked.choice(_TEMPLATES["lookup ask"]), **slots)
        found = asked.choice((invented(asked), str(asked.randint(0, 9999)), day(asked)))
        shapes = (found, json.dumps({key: found}), json.dumps({argument: value, key: found}))
        said = f"The {key} of the {thing} {value} is {found}."
        return Errand(question, {argument: value}, asked.choice(shapes), said)

    name = rng.choice((f"get_{thing}_{key}", f"get_{key}", f"lookup_{thing}", f"find_{thing}"))
    about = phrase(rng, rng.choice(_TEMPLATES["lookup about"]), k=key, t=thing)
    schema: Json = {"type": "integer" if numbered else "string"}
    if rng.random() < 0.4:
        schema["description"] = f"The {thing}"
    return Offer(
        describe(rng, spelled(rng, name), about, {argument: schema}, [argument]), thing, ask
    )


def _called(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.4:
        return full_name(rng)
    return invented(rng) if roll < 0.8 else f"{invented(rng)[0].upper()}{rng.randint(10, 999)}"


def record_offer(rng: random.Random) -> Offer:
    """A tool that takes a record. It is asked with one text only: its keys are that text's."""
    made = record(rng)
    kind = made.kind.replace(" ", "_").replace("-", "_")
    names = (
        f"save_{kind}", f"extract_{kind}", f"create_{kind}", f"record_{kind}", f"add_{kind}",
        kind.capitalize(), kind.capitalize(), "".join(one.capitalize() for one in kind.split("_")),
    )  # fmt: skip
    about = phrase(rng, rng.choice(_TEMPLATES["record about"]), k=made.kind)
    properties = {key: _described(rng, key, schema) for key, schema in made.schemas.items()}
    required = list(made.values)
    tool = describe(rng, rng.choice(names), about, properties, required)
    return Offer(tool, "record", lambda asked: _recorded(asked, made))


def _recorded(rng: random.Random, made: Record) -> Errand:
    reply = rng.choice(("ok", json.dumps({"status": "ok"}), json.dumps({"ok": True}), "saved"))
    texts = (made.text, made.text, f"Save this: {made.text}", f"{made.text} Please save that.")
    return Errand(rng.choice(texts), made.values, reply, "Done, it is saved.")


def _described(rng: random.Random, key: str, schema: Json) -> Json:
    if rng.random() < 0.7:
        return schema
    return {**schema, "description": f"The {key.replace('_', ' ')}"}


def convert_offer(rng: random.Random) -> Offer:
    """A tool that takes an amount of money and two currencies."""
    keys = rng.choice((("amount", "from", "to"), ("amount", "from_currency", "to_currency")))
    currencies = ("USD", "EUR", "GBP", "JPY", "CHF", "CAD")

    def ask(asked: random.Random) -> Errand:
        value, result = amount(asked), amount(asked)
        have, want = asked.sample(currencies, 2)
        shapes = (
            f"Convert {value} {have} to {want}", f"How much is {value} {have} in {want}?",
            f"What is {value} {have} in {want}?", f"Change {value} {have} into {want}.",
        )  # fmt: skip
        reply = asked.choice((str(result), json.dumps({"result": result}), f"{result} {want}"))
        said = f"{value} {have} is {result} {want}."
        return Errand(
            asked.choice(shapes), dict(zip(keys, (value, have, want), strict=True)), reply, said
        )

    kinds = ("number", "string", "string")
    properties: Json = {key: {"type": kind} for key, kind in zip(keys, kinds, strict=True)}
    about = rng.choice(("Convert an amount of money.", "Convert between currencies"))
    return Offer(describe(rng, "convert_currency", about, properties, keys), "convert", ask)
