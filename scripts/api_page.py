"""Makes the tables of docs/api.md from the models and types of the gateway.

``python -m scripts.api_page`` writes them; ``--check`` says whether they are fresh. A table stands
between ``<!-- table: NAME -->`` and ``<!-- end -->``; what is around them is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sluice_gateway.openapi.codes import CODES
from sluice_gateway.openapi.document import answer_schemas
from sluice_gateway.openapi.engines import DIFFERENCES
from sluice_gateway.openapi.operations import OPERATIONS
from sluice_gateway.openapi.refused import REFUSED
from sluice_gateway.openapi.requests import (
    flat_request_schemas,
    json_names,
    owner_of,
    words_of,
)
from sluice_gateway.schema.strict import Strict

from scripts.json_shapes import shape, value

PAGE = Path(__file__).parents[1] / "docs" / "api.md"

_TABLE = re.compile(r"(<!-- table: ([^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)

#: The parts of requests that several of them share, with the heading of each.
GROUPS = {
    "SamplingRequest": "sampling",
    "Conversation": "conversations",
    "ToolFields": "tools",
    "StructuredFields": "forms",
    "ReasoningFields": "reasoning",
}


def models() -> dict[str, type[Strict]]:
    """All objects of requests, by name, those that others inherit from too."""
    found: dict[str, type[Strict]] = {}
    waiting = Strict.__subclasses__()
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        found[model.__name__] = model
    return found


def fields(*names: str) -> Iterator[list[str]]:
    """The fields that objects of requests declare themselves."""
    head = ["field", "value", "default", "what it does"]
    yield head if len(names) == 1 else ["object", *head]
    for name in names:
        for row in _fields(name):
            yield row if len(names) == 1 else [f"*{name}*", *row]


def _fields(name: str) -> Iterator[list[str]]:
    schemas, all_models = flat_request_schemas(), models()
    told = set()
    for model_name, schema in schemas.items():
        model = all_models[model_name]
        if not issubclass(model, all_models[name]):
            continue
        for field in json_names(model):
            if owner_of(model, field) == name and field not in told:
                told.add(field)
                yield _field(model, field, schema)


def _field(model: type[Strict], field: str, schema: dict[str, Any]) -> list[str]:
    found = schema["properties"][field]
    default = value(found["default"]) if "default" in found else ""
    if field in schema.get("required", ()):
        default = "required"
    return [f"`{field}`", shape(found), default, words_of(model, field) or ""]


def refused(name: str) -> Iterator[list[str]]:
    """The fields that an object knows and does not honour."""
    yield ["field", "taken all the same", "why not"]
    model = models()[name]
    for field in sorted(model.unsupported):
        neutral = ", ".join(f"`{json.dumps(each)}`" for each in model.unsupported[field])
        yield [f"`{field}`", neutral, REFUSED.get(field, "")]


def groups() -> Iterator[list[str]]:
    """Which request takes which fields."""
    links = [f"[{group}](#{group})" for group in GROUPS.values()]
    yield ["", *links]
    all_models = models()
    for operation in OPERATIONS:
        model = operation.request
        if model is not None:
            takes = ["yes" if issubclass(model, all_models[group]) else "" for group in GROUPS]
            yield [f"`{operation.path}`", *takes]


def engines() -> Iterator[list[str]]:
    """Where the engines differ."""
    yield ["field", "hf", "vllm"]
    for field, (hf, vllm) in DIFFERENCES.items():
        yield [f"`{field}`", hf, vllm]


def routes() -> Iterator[list[str]]:
    """All routes."""
    yield ["route", "what it answers", "key"]
    for each in OPERATIONS:
        route = f"`{each.method.upper()} {each.path}`"
        yield [route, each.summary, "yes" if each.keyed else ""]


def codes() -> Iterator[list[str]]:
    """All errors."""
    yield ["status", "code", "type", "meaning"]
    for error in sorted(CODES, key=lambda each: each.status):
        for code, words in CODES[error].items():
            yield [str(error.status), f"`{code}`", f"`{error.type}`", words]


def answers(*names: str) -> Iterator[list[str]]:
    """The fields of answers' objects."""
    yield ["object", "field", "value", "what it is"]
    schemas = answer_schemas()
    for name in names:
        required = schemas[name].get("required", ())
        for field, found in schemas[name]["properties"].items():
            null = " or null" if {"type": "null"} in found.get("anyOf", ()) else ""
            absent = "" if field in required else "May be absent. "
            words = (absent + found.get("description", "")).strip()
            yield [f"*{name}*", f"`{field}`", shape(found) + null, words]


_TABLES: dict[str, Callable[..., Iterator[list[str]]]] = {
    "answers": answers,
    "codes": codes,
    "engines": engines,
    "fields": fields,
    "groups": groups,
    "refused": refused,
    "routes": routes,
}


def markdown(rows: Iterator[list[str]]) -> str:
    """Rows as a table; the first is the head."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    head = lines[0].count(" | ") + 1
    return "".join(f"| {line} |\n" for line in (lines[0], " | ".join(["---"] * head), *lines[1:]))


def fresh(page: str) -> str:
    """The page with its tables as they should be."""

    def table(match: re.Match[str]) -> str:
        kind, *arguments = match[2].split()
        return f"{match[1]}{markdown(_TABLES[kind](*arguments))}{match[3]}"

    return _TABLE.sub(table, page)


def missing(page: str) -> list[str]:
    """The objects and tables that the page should have and does not."""
    wanted = {(kind, "") for kind in ("codes", "engines", "groups", "routes")}
    for name in flat_request_schemas():
        model = models()[name]
        wanted |= {("fields", owner_of(model, field)) for field in json_names(model)}
        if model.unsupported:
            wanted.add(("refused", name))
    wanted |= {("answers", name) for name, each in answer_schemas().items() if each["properties"]}
    found = set()
    for match in _TABLE.finditer(page):
        kind, *names = match[2].split()
        found |= {(kind, name) for name in names or [""]}
    return sorted(f"{kind} {name}".strip() for kind, name in wanted - found)


def main(arguments: list[str]) -> int:
    """Write the tables, or check that they are fresh. 1: they are not, or one is missing."""
    page = PAGE.read_text()
    if absent := missing(page):
        print(f"docs/api.md lacks tables: {', '.join(absent)}", file=sys.stderr)
        return 1
    if "--check" not in arguments:
        PAGE.write_text(fresh(page))
        return 0
    if fresh(page) != page:
        print("the tables of docs/api.md are stale: run 'make api-page'", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
