"""Random JSON Schemas of moderate size, of the features that llguidance honours."""

from __future__ import annotations

import json
import random
import string
from typing import Any

Schema = dict[str, Any]

PATTERNS = ["^[a-z]{1,8}$", "^[A-Z][a-z]*$", r"^\d{3}-\d{4}$", "^(red|green|blue)$", "^x?y+z{0,2}$"]
FORMATS = ["date", "date-time", "time", "email", "uuid", "ipv4"]


def random_schema(seed: int) -> str:
    """The schema of a seed, as JSON. Its root is an object, mostly."""
    chance = random.Random(seed)
    defs = {f"d{i}": _schema(chance, 1, []) for i in range(chance.randrange(3))}
    root = _object if chance.random() < 0.8 else _schema
    schema = root(chance, 3, sorted(defs))
    if defs:
        schema["$defs"] = defs
    return json.dumps(schema)


def _schema(chance: random.Random, depth: int, defs: list[str]) -> Schema:
    kinds = [_string, _string, _integer, _number, _enum, _const, _simple]
    if depth > 0:
        kinds += [_object, _object, _array, _any_of, _several_types]
    if defs:
        kinds.append(lambda chance, depth, defs: {"$ref": f"#/$defs/{chance.choice(defs)}"})
    return chance.choice(kinds)(chance, depth, defs)


def _object(chance: random.Random, depth: int, defs: list[str]) -> Schema:
    names = [_name(chance) for _ in range(chance.randrange(1, 6))]
    properties = {name: _schema(chance, depth - 1, defs) for name in names}
    schema: Schema = {"type": "object", "properties": properties}
    schema["required"] = [name for name in properties if chance.random() < 0.7]
    if chance.random() < 0.8:
        schema["additionalProperties"] = False
    elif chance.random() < 0.5:
        schema["additionalProperties"] = {"type": "integer"}
    return schema


def _array(chance: random.Random, depth: int, defs: list[str]) -> Schema:
    least = chance.randrange(3)
    schema: Schema = {"type": "array", "maxItems": least + chance.randrange(4)}
    if chance.random() < 0.6:
        schema["minItems"] = least
    if chance.random() < 0.3:
        schema["prefixItems"] = [_schema(chance, depth - 1, defs) for _ in range(2)]
    schema["items"] = _schema(chance, depth - 1, defs)
    return schema


def _any_of(chance: random.Random, depth: int, defs: list[str]) -> Schema:
    return {"anyOf": [_schema(chance, depth - 1, defs) for _ in range(chance.randrange(2, 4))]}


def _several_types(chance: random.Random, depth: int, defs: list[str]) -> Schema:
    types = ["string", "null", "boolean", "integer"]
    return {"type": chance.sample(types, 2), "maxLength": 9}


def _string(chance: random.Random, depth: int, defs: list[str]) -> Schema:
    choice = chance.random()
    if choice < 0.2:
        return {"type": "string", "pattern": chance.choice(PATTERNS)}
    if choice < 0.35:
        return {"type": "string", "format": chance.choice(FORMATS)}
    least = chance.randrange(5)
    return {"type": "string", "minLength": least, "maxLength": least + chance.randrange(12)}


def _integer(chance: random.Random, depth: int, defs: list[str]) -> Schema:
    schema: Schema = {"type": "integer"}
    low = chance.randrange(-200, 200)
    if chance.random() < 0.6:
        schema[chance.choice(["minimum", "exclusiveMinimum"])] = low
    if chance.random() < 0.6:
        schema["maximum"] = low + chance.randrange(20, 1000)
    if chance.random() < 0.2:
        schema["multipleOf"] = chance.choice([2, 5])
    return schema


def _number(chance: random.Random, depth: int, defs: list[str]) -> Schema:
    schema: Schema = {"type": "number"}
    low = round(chance.uniform(-50, 50), 2)
    if chance.random() < 0.5:
        schema["minimum"] = low
    if chance.random() < 0.5:
        schema["maximum"] = low + chance.randrange(1, 90)
    return schema


def _enum(chance: random.Random, depth: int, defs: list[str]) -> Schema:
    values = [_name(chance), chance.randrange(99), None, True, 'a "b" \\ \n', "<|im_end|>", "日本"]
    return {"enum": chance.sample(values, 3)}


def _const(chance: random.Random, depth: int, defs: list[str]) -> Schema:
    return {"const": chance.choice([_name(chance), 7, -1.5, False, [1, "x"], {"k": None}])}


def _simple(chance: random.Random, depth: int, defs: list[str]) -> Schema:
    return {"type": chance.choice(["boolean", "null"])}


def _name(chance: random.Random) -> str:
    return "".join(chance.choices(string.ascii_letters + "_- é0", k=chance.randrange(1, 12)))
