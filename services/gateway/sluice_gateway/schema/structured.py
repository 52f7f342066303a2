"""The form that a request wants its answer to have, and how much the model is to think first."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from sluice_gateway.schema.json_schema import SCHEMA_BYTES_MAX, JsonSchema, size_of
from sluice_gateway.schema.strict import INVALID, UNKNOWN, Strict, refuse
from sluice_gateway.schema.tools import DESCRIPTION_MAX, FunctionName

CHOICES_MAX = 1024
CHOICE_LENGTH_MAX = 1024
REGEX_MAX = 4096
GRAMMAR_MAX = 64 << 10

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class TextFormat(Strict):
    """Any text."""

    type: Literal["text"]


class JsonObjectFormat(Strict):
    """A JSON object."""

    type: Literal["json_object"]


class _Aliased(Strict):
    """A Strict whose fields go by their aliases: "schema" and "json" are methods of models."""

    @model_validator(mode="before")
    @classmethod
    def _drop_what_says_nothing(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        names = {field.alias or name for name, field in cls.model_fields.items()}
        for name in data:
            if name not in names:
                refuse(UNKNOWN, "Unknown parameter.", name)
        return {key: value for key, value in data.items() if value is not None}


class NamedSchema(_Aliased):
    """A JSON Schema with a name. No schema: any object."""

    name: FunctionName
    description: Annotated[str, Field(max_length=DESCRIPTION_MAX)] | None = None
    json_schema: JsonSchema | None = Field(default=None, alias="schema")
    strict: bool = False


class JsonSchemaFormat(Strict):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


_FORMATS = {"text": "<text>", "json_object": "<object>", "json_schema": "<schema>"}


def _kind(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    return _FORMATS.get(kind) if isinstance(kind, str) else None


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[JsonObjectFormat, Tag("<object>")]
    | Annotated[JsonSchemaFormat, Tag("<schema>")],
    Discriminator(
        _kind,
        custom_error_type=INVALID,
        custom_error_message="Expected an object of type 'text', 'json_object' or 'json_schema'.",
    ),
]


def _parsed(value: Any) -> Any:
    """The schema if it was sent as JSON text, as vLLM's clients may."""
    if not isinstance(value, str):
        return value
    if len(value) > SCHEMA_BYTES_MAX:
        refuse(INVALID, f"Expected a schema of at most {SCHEMA_BYTES_MAX} bytes.")
    try:
        found = json.loads(value, parse_constant=_no_constant)
        size_of(found)  # fails for half of a surrogate pair that was written as an escape
    except (ValueError, RecursionError):
        refuse(INVALID, "Expected a JSON Schema.")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _no_twins(value: list[str]) -> list[str]:
    return list(dict.fromkeys(value))


class StructuredOutputs(_Aliased):
    """vLLM's form of the same: exactly one of the fields."""

    json_: (
        Annotated[JsonSchema, BeforeValidator(_parsed, json_schema_input_type=dict[str, Any] | str)]
        | None
    ) = Field(default=None, alias="json")
    regex: Annotated[str, Field(min_length=1, max_length=REGEX_MAX)] | None = None
    choice: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=CHOICE_LENGTH_MAX)]],
            Field(min_length=1, max_length=CHOICES_MAX, fail_fast=True),
            AfterValidator(_no_twins),
        ]
        | None
    ) = None
    grammar: Annotated[str, Field(min_length=1, max_length=GRAMMAR_MAX)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> StructuredOutputs:
        given = [self.json_, self.regex, self.choice, self.grammar]
        if sum(one is not None for one in given) != 1:
            refuse(INVALID, "Give exactly one of 'json', 'regex', 'choice' and 'grammar'.")
        return self


class StructuredFields(Strict):
    """The fields of a request that are about the form of the answer."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None

    @model_validator(mode="after")
    def _has_one_form(self) -> StructuredFields:
        plain = self.response_format is None or isinstance(self.response_format, TextFormat)
        if self.structured_outputs is not None and not plain:
            message = "'structured_outputs' and 'response_format' exclude each other."
            refuse(INVALID, message, "structured_outputs")
        return self


class ReasoningFields(Strict):
    """The field of a chat request that is about reasoning: a variable of the chat template."""

    reasoning_effort: ReasoningEffort | None = None
