"""What a request may say of its answer's form, and how each mistake is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sluice_gateway.errors import InvalidRequest
from sluice_gateway.schema.parsing import parse
from sluice_gateway.schema.structured import (
    JsonSchemaFormat,
    ReasoningFields,
    StructuredFields,
)

TYPE, VALUE = "invalid_type", "invalid_value"
MISSING, UNKNOWN = "missing_required_parameter", "unknown_parameter"


class Fields(StructuredFields, ReasoningFields):
    """Both, as a chat request has them."""


def read(**fields: Any) -> Fields:
    return parse(json.dumps(fields).encode(), Fields)


def schema_format(**fields: Any) -> dict[str, Any]:
    named = {"name": "answer", "schema": {"type": "object"}, **fields}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def outputs(**fields: Any) -> dict[str, Any]:
    return {"structured_outputs": fields}


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"response_format": "json"}, "response_format", VALUE),
    ({"response_format": {}}, "response_format", VALUE),
    ({"response_format": {"type": "xml"}}, "response_format", VALUE),
    ({"response_format": {"type": []}}, "response_format", VALUE),
    ({"response_format": {"type": "text", "a": 1}}, "response_format.a", UNKNOWN),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", MISSING),
    (schema_format(name=None), "response_format.json_schema.name", MISSING),
    (schema_format(name="a b"), "response_format.json_schema.name", VALUE),
    (schema_format(schema=[]), "response_format.json_schema.schema", TYPE),
    (schema_format(schema={"a": "b" * 70_000}), "response_format.json_schema.schema", VALUE),
    (schema_format(strict=1), "response_format.json_schema.strict", TYPE),
    (schema_format(other=1), "response_format.json_schema.other", UNKNOWN),
    (schema_format(json_schema={}), "response_format.json_schema.json_schema", UNKNOWN),
    (outputs(), "structured_outputs", VALUE),
    (outputs(regex="a", grammar="b"), "structured_outputs", VALUE),
    (outputs(json="{"), "structured_outputs.json", VALUE),
    (outputs(json='{"a": NaN}'), "structured_outputs.json", VALUE),
    (outputs(json='{"a": "\\ud800"}'), "structured_outputs.json", VALUE),
    (outputs(json="[" * 60_000), "structured_outputs.json", VALUE),
    (outputs(json="5"), "structured_outputs.json", TYPE),
    (outputs(json=5), "structured_outputs.json", TYPE),
    (outputs(regex=""), "structured_outputs.regex", VALUE),
    (outputs(regex="a" * 5000), "structured_outputs.regex", VALUE),
    (outputs(choice=[]), "structured_outputs.choice", VALUE),
    (outputs(choice="ab"), "structured_outputs.choice", TYPE),
    (outputs(choice=["a", ""]), "structured_outputs.choice[1]", VALUE),
    (outputs(choice=["a"] * 1025), "structured_outputs.choice", VALUE),
    (outputs(grammar="a" * 70_000), "structured_outputs.grammar", VALUE),
    (outputs(structural_tag="x"), "structured_outputs.structural_tag", UNKNOWN),
    ({**outputs(regex="a"), **schema_format()}, "structured_outputs", VALUE),
    ({"reasoning_effort": "much"}, "reasoning_effort", VALUE),
    ({"reasoning_effort": 5}, "reasoning_effort", VALUE),
]


@pytest.mark.parametrize(("fields", "param", "code"), WRONG)
def test_a_mistake_is_told_with_its_field(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.status == 400
    assert caught.value.message[-1] == "."


def test_what_is_right_is_taken() -> None:
    found = read(**schema_format(description=None, strict=True)).response_format
    assert isinstance(found, JsonSchemaFormat)
    assert found.json_schema.json_schema == {"type": "object"}
    assert found.json_schema.strict
    for given in ({"type": "object"}, '{"type": "object"}'):
        made = read(**outputs(json=given, regex=None), response_format={"type": "text"})
        assert made.structured_outputs is not None
        assert made.structured_outputs.json_ == {"type": "object"}
    assert read(reasoning_effort="low").reasoning_effort == "low"
    assert read(response_format=None, structured_outputs=None).response_format is None


def test_a_choice_that_is_given_twice_is_one() -> None:
    made = read(**outputs(choice=["a", "b", "a"])).structured_outputs
    assert made is not None
    assert made.choice == ["a", "b"]
