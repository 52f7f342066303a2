"""JSON Schemas in words, for tables of Markdown. The names of objects are in italics."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_NULL = {"type": "null"}
_POWERS = {2**31 - 1: "2^31 - 1", 2**63 - 1: "2^63 - 1", 1 - 2**31: "-2^31 + 1", -(2**63): "-2^63"}


def shape(schema: Json) -> str:
    """What a value may be, null apart."""
    if "$ref" in schema:
        return f"*{schema['$ref'].rpartition('/')[2]}*"
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        found = dict.fromkeys(shape(each) for each in branches if each != _NULL)
        return ("; or " if any(": " in each for each in found) else " or ").join(found)
    if "const" in schema:
        return value(schema["const"])
    if "enum" in schema:
        return ", ".join(value(each) for each in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return _list(schema)
    if kind == "object":
        return _object(schema)
    if kind == "string":
        return _string(schema)
    if kind in ("integer", "number"):
        return str(kind) + _bounds(schema)
    return "anything" if kind is None else str(kind)


def value(one: Any) -> str:
    """A value of JSON, as code."""
    if isinstance(one, str):
        return f"`{one}`" if one else '`""`'
    return f"`{_JSON.get(one, one) if isinstance(one, (bool, type(None))) else one}`"


_JSON = {True: "true", False: "false", None: "null"}


def _number(number: float) -> str:
    return _POWERS.get(int(number), f"{number:,}") if isinstance(number, int) else f"{number:g}"


def _bounds(schema: Json) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    if above is not None:
        found = f" above {_number(above)}"
        return f"{found}, at most {_number(high)}" if high is not None else found
    if low is not None and high is not None:
        return f", {_number(low)} to {_number(high)}"
    return f", at least {_number(low)}" if low is not None else ""


def _count(low: int | None, high: int | None) -> str:
    """As "1 to 5", "at most 5" or nothing."""
    if high is None:
        return "" if not low else f"at least {low:,}"
    return f"{low:,} to {high:,}" if low else f"at most {high:,}"


def _string(schema: Json) -> str:
    if "pattern" in schema:
        return f"string that matches `{schema['pattern']}`"
    count = _count(schema.get("minLength"), schema.get("maxLength"))
    return f"string of {count} characters" if count else "string"


def _list(schema: Json) -> str:
    count = _count(schema.get("minItems"), schema.get("maxItems"))
    items = shape(schema["items"])
    if _NULL in schema["items"].get("anyOf", ()):
        items += " or null"
    return f"list of {count}: {items}" if count else f"list: {items}"


def _object(schema: Json) -> str:
    values = schema.get("additionalProperties")
    if not isinstance(values, dict):
        return "object"
    count = _count(None, schema.get("maxProperties"))
    names = schema.get("propertyNames", {})
    keys = ""
    if "pattern" in names:
        keys = f" whose keys match `{names['pattern']}`"
    elif "maxLength" in names:
        keys = f" whose keys have at most {names['maxLength']:,} characters"
    start = f"object of {count} pairs" if count else "object"
    return f"{start}{keys}: {shape(values)}"
