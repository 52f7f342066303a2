"""docs/api.md says what the schema says."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sluice_gateway.openapi.document import document
from sluice_gateway.openapi.operations import OPERATIONS
from sluice_gateway.openapi.requests import flat_request_schemas

from scripts import api_page
from scripts.json_shapes import shape

PAGE = api_page.PAGE.read_text()


def test_no_object_and_no_table_is_missing() -> None:
    assert not api_page.missing(PAGE), "give them a table in docs/api.md"


def test_the_tables_are_fresh() -> None:
    assert api_page.fresh(PAGE) == PAGE, "run 'make api-page'"


def test_a_table_that_is_stale_or_missing_is_seen() -> None:
    stale = PAGE.replace("| `n` | integer, 1 to 128 | `1` |", "| `n` | integer, 1 to 64 | `2` |")
    assert stale != PAGE
    assert api_page.fresh(stale) == PAGE
    assert api_page.missing(PAGE.replace("table: fields Conversation", "")) == [
        "fields Conversation"
    ]


def rows(page: str) -> set[str]:
    """What stands in the first or, behind an object's name, in the second column of a table."""
    return set(re.findall(r"^\| (?:\*\w+\* \| )?`(\w+)` \|", page, re.MULTILINE))


def test_each_field_of_each_request_has_a_row_and_each_row_is_one_of_a_field() -> None:
    fields = {field for schema in flat_request_schemas().values() for field in schema["properties"]}
    requests, _, answers = PAGE.partition("\n## Answers\n")
    assert rows(requests) == fields
    schemas: dict[str, Any] = document(keys=True)["components"]["schemas"]
    answered = {
        field
        for name, schema in schemas.items()
        if name not in flat_request_schemas()
        for field in schema["properties"]
    }
    assert answered <= rows(answers)


def test_each_route_is_on_the_page() -> None:
    for each in OPERATIONS:
        assert f"| `{each.method.upper()} {each.path}` |" in PAGE


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 128}, "integer, 1 to 128"),
        ({"type": "integer", "minimum": 0}, "integer, at least 0"),
        ({"type": "integer", "minimum": 0, "maximum": 2**31 - 1}, "integer, 0 to 2^31 - 1"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 10}, "number above 0, at most 10"),
        ({"type": "string", "maxLength": 1024}, "string of at most 1,024 characters"),
        ({"type": "string", "pattern": "^a$"}, "string that matches `^a$`"),
        ({"enum": ["a", False, None, 1]}, "`a`, `false`, `null`, `1`"),
        ({"const": ""}, '`""`'),
        ({}, "anything"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "boolean"),
        ({"oneOf": [{"type": "string"}, {"$ref": "#/components/schemas/A"}]}, "string or *A*"),
        (
            {"type": "array", "items": {"type": "string"}, "maxItems": 2},
            "list of at most 2: string",
        ),
        (
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
            "string; or list: string",
        ),
        (
            {"type": "array", "items": {"anyOf": [{"type": "number"}, {"type": "null"}]}},
            "list: number or null",
        ),
        (
            {
                "type": "object",
                "maxProperties": 3,
                "propertyNames": {"maxLength": 64},
                "additionalProperties": {"type": "number"},
            },
            "object of at most 3 pairs whose keys have at most 64 characters: number",
        ),
        ({"type": "object"}, "object"),
    ],
    ids=str,
)
def test_a_schema_in_words(schema: dict[str, Any], words: str) -> None:
    assert shape(schema) == words
