"""The OpenAPI document says what the code does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sluice_gateway
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from sluice_gateway.app import create_app
from sluice_gateway.errors import ApiError, InvalidRequest
from sluice_gateway.gateway import Gateway
from sluice_gateway.openapi.codes import CODES
from sluice_gateway.openapi.document import answer_schemas, document
from sluice_gateway.openapi.engines import DIFFERENCES
from sluice_gateway.openapi.operations import OPERATIONS
from sluice_gateway.openapi.refused import REFUSED
from sluice_gateway.openapi.requests import (
    REQUESTS,
    json_names,
    owner_of,
    request_schemas,
    words_of,
)
from sluice_gateway.openapi.words import WORDS
from sluice_gateway.schema import parse
from sluice_gateway.schema.strict import Strict
from sluice_gateway.settings import Settings
from starlette.routing import Route

SCHEMAS: dict[str, Any] = document(keys=True)["components"]["schemas"]


def models() -> Iterator[type[Strict]]:
    """All objects of requests that the document has, and the classes that they are made of."""
    waiting = list(Strict.__subclasses__())
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        if model.__name__ in SCHEMAS:
            yield model


def test_every_field_of_a_request_is_described() -> None:
    missing = {
        f"{owner_of(model, name)}.{name}"
        for model in models()
        for name in json_names(model)
        if words_of(model, name) is None
    }
    assert not missing, f"add what is said of them to openapi/words.py: {sorted(missing)}"


def test_nothing_is_said_of_fields_that_are_not_there() -> None:
    there = {(owner_of(model, name), name) for model in models() for name in json_names(model)}
    said = {(owner, name) for owner, names in WORDS.items() for name in names}
    assert not said - there, f"take it out of openapi/words.py: {sorted(said - there)}"


def test_every_field_that_is_refused_has_its_reason_and_no_other_has() -> None:
    refused = {name for model in models() for name in model.unsupported}
    missing, more = refused - REFUSED.keys(), REFUSED.keys() - refused
    assert not missing, f"add why to openapi/refused.py: {sorted(missing)}"
    assert not more, f"take it out of openapi/refused.py: {sorted(more)}"


def test_engines_differ_in_fields_that_are_there() -> None:
    there = {name for model in models() for name in json_names(model)}
    assert there >= DIFFERENCES.keys()


def test_every_code_of_an_error_is_described() -> None:
    folder = Path(sluice_gateway.__file__).parent
    found = {
        code
        for path in folder.rglob("*.py")
        for code in re.findall(r"\bcode(?:: [^=]*)? ?= ?\"([a-z_]+)\"", path.read_text())
    }
    described = {code for codes in CODES.values() for code in codes}
    assert found <= described, f"add them to openapi/codes.py: {sorted(found - described)}"


def test_every_kind_of_error_is_described_by_its_own_code() -> None:
    waiting = list(ApiError.__subclasses__())
    for error in waiting:
        waiting += error.__subclasses__()
        assert error.code in CODES[error]


def test_the_document_has_all_routes_with_their_methods_and_no_others() -> None:
    gateway = Gateway.build(Settings())
    app = create_app(gateway)._app  # type: ignore[attr-defined]
    assert isinstance(app, FastAPI)
    served = {
        (method.lower(), re.sub(r"\{\w+:path\}", "{model}", route.path))
        for part in app.routes
        for route in part.original_router.routes  # type: ignore[attr-defined]
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    assert served == {(each.method, each.path) for each in OPERATIONS}
    paths = document(keys=False)["paths"]
    assert served == {(method, path) for path in paths for method in paths[path]}


def test_the_schemas_are_schemas_and_all_references_lead_to_one() -> None:
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            value = list(value.values())
        if isinstance(value, list):
            for each in value:
                yield from references(each)

    whole = document(keys=True)
    for reference in set(references(whole)):
        place: Any = whole
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_requests_and_answers_do_not_share_names() -> None:
    assert not request_schemas().keys() & answer_schemas().keys()


def test_without_keys_nothing_is_said_of_keys() -> None:
    open_to_all = document(keys=False)
    assert "securitySchemes" not in open_to_all["components"]
    for path in open_to_all["paths"].values():
        for operation in path.values():
            assert "security" not in operation
            assert "401" not in operation["responses"]
    keyed = document(keys=True)["paths"]
    assert keyed["/openapi.json"]["get"]["security"] == [{"key": []}]
    assert "security" not in keyed["/health"]["get"]


USER = {"role": "user", "content": "hi"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

#: Bodies of which the schema has to think as the models do.
CHATS: list[dict[str, Any]] = [
    {},
    {"messages": []},
    {"messages": [USER]},
    {"messages": [USER], "temperature": 2.1},
    {"messages": [USER], "temperature": None, "n": None, "stream": None},
    {"messages": [USER], "temprature": 1},
    {"messages": [USER], "stop": "end"},
    {"messages": [USER], "stop": ["end", "stop"]},
    {"messages": [USER], "stop": ["x"] * 17},
    {"messages": [USER], "stop": ""},
    {"messages": [USER], "logit_bias": {"5": 1.5}},
    {"messages": [USER], "logit_bias": {"five": 1}},
    {"messages": [USER], "logit_bias": {"5": 101}},
    {"messages": [USER], "metadata": {"key": "value"}},
    {"messages": [USER], "metadata": {str(i): "" for i in range(17)}},
    {"messages": [USER], "chat_template_kwargs": {"enable_thinking": False}},
    {"messages": [USER], "chat_template_kwargs": {"a-b": False}},
    {"messages": [USER], "chat_template_kwargs": {"a": []}},
    {"messages": [USER], "store": False},
    {"messages": [USER], "store": True},
    {"messages": [USER], "store": 0},
    {"messages": [USER], "audio": None},
    {"messages": [USER], "audio": {}},
    {"messages": [USER], "stream_options": {"include_usage": True}},
    {"messages": [USER], "stream_options": {"include_usage": True}, "stream": True},
    {"messages": [USER], "stream_options": {"include_usage": 1}, "stream": True},
    {"messages": [USER], "top_logprobs": 2},
    {"messages": [USER], "top_logprobs": 2, "logprobs": True},
    {"messages": [USER], "tools": [TOOL], "tool_choice": "required"},
    {"messages": [USER], "tool_choice": "required"},
    {"messages": [USER], "tool_choice": "auto", "tools": []},
    {"messages": [USER], "parallel_tool_calls": True},
    {"messages": [USER], "tools": [{"type": "function", "function": {"name": "a b"}}]},
    {"messages": [USER], "response_format": {"type": "json_object"}},
    {"messages": [USER], "response_format": {"type": "xml"}},
    {"messages": [USER], "structured_outputs": {"regex": "a"}},
    {"messages": [USER], "structured_outputs": {"regex": "a", "choice": None}},
    {"messages": [USER], "structured_outputs": {"regex": "a", "choice": ["b"]}},
    {"messages": [USER], "structured_outputs": {}},
    {"messages": [USER], "structured_outputs": {"json": '{"type": "object"}'}},
    {
        "messages": [USER],
        "structured_outputs": {"regex": "a"},
        "response_format": {"type": "json_object"},
    },
    {"messages": [USER], "structured_outputs": {"regex": "a"}, "response_format": {"type": "text"}},
    {"messages": [{"role": "robot", "content": "hi"}]},
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": None}]},
    {"messages": [{"role": "user", "content": []}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
    {"messages": [{"role": "user", "content": [{"text": "hi"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
    {"messages": [{"role": "user", "content": "hi", "tool_calls": [CALL]}]},
    {"messages": [{"role": "user", "content": "hi", "tool_calls": None}]},
    {"messages": [{"role": "tool", "content": "5", "tool_call_id": "c", "refusal": "no"}]},
    {"messages": [{"role": "assistant", "tool_calls": [CALL]}]},
    {"messages": [{"role": "assistant", "tool_calls": []}]},
    {"messages": [{"role": "assistant", "refusal": "no", "parsed": 5}]},
    {"messages": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}]},
    {"messages": [{"role": "tool", "content": "5", "tool_call_id": "call_1"}]},
    {"messages": [{"role": "tool", "content": "5"}]},
]


def taken(name: str, body: dict[str, Any]) -> bool:
    """Whether the document's schema of that name takes the body."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS}}
    return bool(Draft202012Validator(schema).is_valid(body))


@pytest.mark.parametrize("body", CHATS, ids=str)
def test_the_schema_of_a_chat_thinks_as_the_model_does(body: dict[str, Any]) -> None:
    assert taken("ChatRequest", body) == accepts(REQUESTS[0], body)


def accepts(model: type[Strict], body: dict[str, Any]) -> bool:
    try:
        parse(json.dumps(body).encode(), model)
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize(
    ("place", "body"),
    [
        (1, {"prompt": "a"}),
        (1, {"prompt": ""}),
        (1, {"prompt": []}),
        (1, {"prompt": ["a", "b"]}),
        (1, {"prompt": [1, 2]}),
        (1, {"prompt": [[1], [2]]}),
        (1, {"prompt": [[1], []]}),
        (1, {"prompt": [1, "a"]}),
        (1, {"prompt": "a", "echo": True}),
        (1, {"prompt": "a", "echo": True, "logprobs": 1, "max_tokens": 0}),
        (1, {"prompt": "a", "max_tokens": 0}),
        (1, {"prompt": "a", "suffix": ""}),
        (1, {"prompt": "a", "suffix": "b"}),
        (1, {"prompt": "a", "length_penalty": 1.0}),
        (1, {"prompt": "a", "length_penalty": 2}),
        (2, {"prompt": "a"}),
        (2, {"messages": [USER]}),
        (2, {"messages": [USER], "prompt": "a"}),
        (2, {"messages": [], "prompt": "a"}),
        (2, {"messages": []}),
        (2, {}),
        (3, {"tokens": [1]}),
        (3, {"tokens": []}),
        (3, {"tokens": [-1]}),
        (3, {"tokens": [True]}),
        (3, {}),
    ],
    ids=str,
)
def test_so_do_the_schemas_of_the_other_requests(place: int, body: dict[str, Any]) -> None:
    model = REQUESTS[place]
    assert taken(model.__name__, body) == accepts(model, body)
