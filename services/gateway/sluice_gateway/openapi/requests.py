"""JSON Schemas of the requests, from the models that validate them."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from sluice_gateway.openapi.refused import REFUSED
from sluice_gateway.openapi.roles import by_role
from sluice_gateway.openapi.rules import RULES
from sluice_gateway.openapi.words import WORDS
from sluice_gateway.schema.chat import ChatRequest
from sluice_gateway.schema.completions import CompletionRequest
from sluice_gateway.schema.messages import Message
from sluice_gateway.schema.strict import Strict
from sluice_gateway.schema.tokenize import DetokenizeRequest, TokenizeRequest

REQUESTS: tuple[type[Strict], ...] = (
    ChatRequest,
    CompletionRequest,
    TokenizeRequest,
    DetokenizeRequest,
)

REF = "#/components/schemas/{model}"


def request_schemas() -> dict[str, JsonSchemaValue]:
    """The schemas of all requests and of the objects in them, by name."""
    schemas = flat_request_schemas()
    schemas[Message.__name__] = by_role(schemas[Message.__name__])
    return schemas


def flat_request_schemas() -> dict[str, JsonSchemaValue]:
    """The same, with all fields of a message in one object, whatever its role."""
    _, found = models_json_schema(
        [(model, "validation") for model in REQUESTS],
        ref_template=REF,
        schema_generator=_Generator,
    )
    schemas: dict[str, JsonSchemaValue] = found["$defs"]
    return schemas


def words_of(model: type[Strict], name: str) -> str | None:
    """What is said of the field with that name in JSON; None: a test asks for it."""
    return WORDS.get(owner_of(model, name), {}).get(name)


def owner_of(model: type[Strict], name: str) -> str:
    """The class that declares the field with that name in JSON."""
    attribute = json_names(model)[name]
    declaring = (each for each in model.__mro__ if attribute in inspect.get_annotations(each))
    return next(declaring).__name__


def json_names(model: type[Strict]) -> dict[str, str]:
    """The names of a model's fields, by their names in JSON."""
    return {field.alias or name: name for name, field in model.model_fields.items()}


class _Generator(GenerateJsonSchema):
    """Adds what ``Strict`` does beside the fields: nulls, and fields that are refused."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """No: titles that are the fields' names say nothing."""
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """The schema of an object."""
        found = super().model_schema(schema)
        model = schema["cls"]
        assert issubclass(model, Strict)
        required = found.get("required", ())
        for name, value in found["properties"].items():
            shape = dict(value)
            default = shape.pop("default", None)
            if name not in required:
                shape = _or_null(shape)
            if default is not None:
                shape["default"] = default
            if words := words_of(model, name):
                shape["description"] = words
            found["properties"][name] = shape
        for name, neutral in model.unsupported.items():
            found["properties"][name] = _refused(name, neutral)
        if rules := RULES.get(model.__name__):
            found["allOf"] = list(rules)
        return found


def _or_null(shape: JsonSchemaValue) -> JsonSchemaValue:
    """The shape, or null: what is null is as if it were not there."""
    if not shape:
        return shape  # anything, null too
    branches = shape.get("anyOf", [shape])
    if {"type": "null"} in branches:
        return shape
    return {"anyOf": [*branches, {"type": "null"}]}


def _refused(name: str, neutral: tuple[Any, ...]) -> JsonSchemaValue:
    said = f"Not supported. {REFUSED.get(name, '')}".rstrip()
    if not neutral:
        return {"type": "null", "description": said}
    return {"enum": [*neutral, None], "description": said}
