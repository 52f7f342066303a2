"""Records: sentences that state some values, and the object that holds these under its keys."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import Any

from demo.conversation import Json
from demo.corpus.phrasebook import templates
from demo.corpus.phrasing import casual, phrase
from demo.corpus.slots import FLAG, NUMBER, SLOTS, TEXT, WHOLE, Slot, Stated, full_name
from demo.corpus.words import invented

_TEMPLATES = templates("records")
_PLACE = re.compile(r"\{(a )?(\w+)\}")
_KINDS = {
    "person": 24, "contact": 7, "event": 22, "place": 7, "order": 14, "travel": 7, "weather": 5,
    "book": 7, "numbers": 8, "task": 7, "free": 16, "pair of persons": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """A text, what kind of thing it is about, and its values with their JSON Schemas by key."""

    kind: str
    text: str
    values: Json
    schemas: dict[str, Json] = field(default_factory=dict)

    def shuffled(self, rng: random.Random) -> Record:
        """The same with its keys in another order."""
        keys = list(self.values)
        rng.shuffle(keys)
        return Record(
            self.kind,
            self.text,
            {key: self.values[key] for key in keys},
            {key: self.schemas[key] for key in keys},
        )


def record(rng: random.Random) -> Record:
    """Any record. Some of its keys may be left out, and some may have no value."""
    kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
    if kind == "free":
        return _free(rng)
    if kind == "pair of persons":
        return _persons(rng)
    template = phrase(rng, rng.choice(_TEMPLATES[kind]))
    text, found = _filled(rng, template)
    values: Json = {}
    schemas: dict[str, Json] = {}
    for slot, stated in found:
        key = _key(rng, slot, values)
        values[key], schemas[key] = stated.value, slot.schema
    if (kind == "weather" or rng.random() < 0.12) and not text.rstrip(".").endswith(".m"):
        text = casual(rng, text, safe=True)
    made = Record(rng.choice(_TEMPLATES[f"kinds {kind}"]), text, values, schemas)
    return _varied(rng, made.shuffled(rng) if rng.random() < 0.6 else made)


def _filled(rng: random.Random, template: str) -> tuple[str, list[tuple[Slot, Stated]]]:
    """Fill the slots of a template: a slot that comes twice says the same twice."""
    drawn: dict[str, Stated] = {}

    def fill(match: re.Match[str]) -> str:
        key = match[2].lower() if match[2] not in SLOTS else match[2]
        text = drawn.setdefault(key, SLOTS[key].draw(rng)).text
        if match[2] != key:
            text = text[:1].upper() + text[1:]
        if match[1]:
            return ("an " if text[0].lower() in "aeiou" else "a ") + text
        return text

    text = _PLACE.sub(fill, template)
    return text, [(SLOTS[key], stated) for key, stated in drawn.items()]


def _key(rng: random.Random, slot: Slot, taken: Json) -> str:
    free = [key for key in slot.keys if key not in taken]
    key = rng.choice(free) if free else f"{slot.keys[0]}_{len(taken)}"
    if "_" in key and rng.random() < 0.2:
        first, *rest = key.split("_")
        return first + "".join(word.capitalize() for word in rest)
    return key


def _varied(rng: random.Random, made: Record) -> Record:
    """Some want fewer values than the text has, some one more, which is then null."""
    roll = rng.random()
    if roll < 0.2 and len(made.values) > 1:
        kept = rng.sample(list(made.values), len(made.values) - 1)
        return Record(
            made.kind,
            made.text,
            {key: made.values[key] for key in kept},
            {key: made.schemas[key] for key in kept},
        )
    if roll < 0.28:
        slot = SLOTS[rng.choice(("email", "phone", "company", "time", "price", "year"))]
        if not set(slot.keys) & set(made.values) and slot.keys[0] not in made.text:
            schema = {"anyOf": [slot.schema, {"type": "null"}]}
            return Record(
                made.kind,
                made.text,
                {**made.values, slot.keys[0]: None},
                {**made.schemas, slot.keys[0]: schema},
            )
    return made


def _free(rng: random.Random) -> Record:
    """Any keys with any values: what a value is called stands beside it."""
    keys = rng.sample(_TEMPLATES["keys"], rng.randint(1, 3))
    if rng.random() < 0.3:
        keys[0] = invented(rng).lower()
    parts, values, schemas = [], {}, {}
    shape = rng.choice(_TEMPLATES["free"])
    for key in keys:
        text, value, schema = _anything(rng)
        parts.append(shape.replace("{key}", key).replace("{value}", text))
        values[key], schemas[key] = value, schema
    text = rng.choice((", ", " and ", ". ", "; ")).join(parts)
    made = Record(rng.choice(_TEMPLATES["kinds free"]), _ended(rng, text), values, schemas)
    return made.shuffled(rng)


def _anything(rng: random.Random) -> tuple[str, Any, Json]:
    roll = rng.random()
    if roll < 0.3:
        word = invented(rng)
        return word, word, TEXT
    if roll < 0.5:
        word = rng.choice((*_TEMPLATES["colours"], *_TEMPLATES["foods"], *_TEMPLATES["items"]))
        return word, word, TEXT
    if roll < 0.8:
        number = rng.randint(0, rng.choice((9, 99, 999, 99_999)))
        return str(number), number, WHOLE
    if roll < 0.9:
        fraction = round(rng.uniform(0, 20), 1) + 0.05
        return f"{fraction:.2f}", round(fraction, 2), NUMBER
    flag = rng.random() < 0.5
    return (
        ("true" if flag else "false") if rng.random() < 0.5 else ("yes" if flag else "no"),
        flag,
        FLAG,
    )


def _persons(rng: random.Random) -> Record:
    """A list of objects, or an object in an object."""
    first, second = ({"name": full_name(rng), "age": rng.randint(1, 99)} for _ in range(2))
    slots = {"a": first["name"], "b": first["age"], "c": second["name"], "d": second["age"]}
    shape = phrase(rng, rng.choice(_TEMPLATES["pair of persons"]))
    text = shape.format(**slots)
    person: Json = {
        "type": "object",
        "properties": {"name": TEXT, "age": WHOLE},
        "required": ["name", "age"],
    }
    if rng.random() < 0.4:
        inner = rng.choice(("person", "user", "first"))
        return Record(
            "person", f"{first['name']} is {first['age']}.", {inner: first}, {inner: person}
        )
    key = rng.choice(("people", "persons", "users", "members"))
    return Record("people", text, {key: [first, second]}, {key: {"type": "array", "items": person}})


def _ended(rng: random.Random, text: str) -> str:
    return text + rng.choice(("", "."))
