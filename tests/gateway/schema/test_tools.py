"""What a request may say of tools, and how each mistake is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sluice_gateway.errors import InvalidRequest
from sluice_gateway.schema.json_schema import SCHEMA_BYTES_MAX
from sluice_gateway.schema.parsing import parse
from sluice_gateway.schema.tools import TOOLS_MAX, ToolFields

TYPE, VALUE = "invalid_type", "invalid_value"
MISSING, UNKNOWN, UNSUPPORTED = (
    "missing_required_parameter",
    "unknown_parameter",
    "unsupported_parameter",
)


def tool(name: str = "f", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(*names: str, mode: str = "auto") -> dict[str, Any]:
    tools = [named(name) for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def read(**fields: Any) -> ToolFields:
    return parse(json.dumps(fields).encode(), ToolFields)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


FUNCTION = "tools[0].function"
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"tools": {}}, "tools", TYPE),
    ({"tools": [5]}, "tools[0]", TYPE),
    ({"tools": [{}]}, "tools[0].type", MISSING),
    ({"tools": [{"type": "custom"}]}, "tools[0].type", UNSUPPORTED),
    ({"tools": [{"type": 5}]}, "tools[0].type", VALUE),
    ({"tools": [{"type": "function"}]}, FUNCTION, MISSING),
    ({"tools": [{"type": "function", "function": {}}]}, f"{FUNCTION}.name", MISSING),
    ({"tools": [tool("")]}, f"{FUNCTION}.name", VALUE),
    ({"tools": [tool("a" * 65)]}, f"{FUNCTION}.name", VALUE),
    ({"tools": [tool("a b")]}, f"{FUNCTION}.name", VALUE),
    ({"tools": [tool("a\n")]}, f"{FUNCTION}.name", VALUE),
    ({"tools": [tool("é")]}, f"{FUNCTION}.name", VALUE),
    ({"tools": [tool(), tool("g", nonsense=1)]}, "tools[1].function.nonsense", UNKNOWN),
    ({"tools": [tool(description=5)]}, f"{FUNCTION}.description", TYPE),
    ({"tools": [tool(description="a" * 20_000)]}, f"{FUNCTION}.description", VALUE),
    ({"tools": [tool(strict="yes")]}, f"{FUNCTION}.strict", TYPE),
    ({"tools": [tool(parameters=[])]}, f"{FUNCTION}.parameters", TYPE),
    ({"tools": [tool(parameters={"type": "array"})]}, f"{FUNCTION}.parameters", VALUE),
    ({"tools": [tool(parameters=nested(17))]}, f"{FUNCTION}.parameters", VALUE),
    (
        {"tools": [tool(parameters={"description": "a" * SCHEMA_BYTES_MAX})]},
        f"{FUNCTION}.parameters",
        VALUE,
    ),
    ({"tools": [tool(parameters={"enum": [[]] * 10_001})]}, f"{FUNCTION}.parameters", VALUE),
    ({"tools": [tool(), tool("g"), tool()]}, "tools[2].function.name", VALUE),
    ({"tools": [tool(f"f{i}") for i in range(TOOLS_MAX + 1)]}, "tools", VALUE),
    (
        {"tools": [tool(f"f{i}", description="a" * 16_000) for i in range(40)]},
        "tools",
        VALUE,
    ),
    ({"tool_choice": "required"}, "tool_choice", VALUE),
    ({"tool_choice": named("f")}, "tool_choice", VALUE),
    ({"tools": [], "tool_choice": "required"}, "tool_choice", VALUE),
    ({"parallel_tool_calls": True}, "parallel_tool_calls", VALUE),
    ({"tools": [tool()], "parallel_tool_calls": "no"}, "parallel_tool_calls", TYPE),
    ({"tools": [tool()], "tool_choice": "maybe"}, "tool_choice", VALUE),
    ({"tools": [tool()], "tool_choice": 5}, "tool_choice", TYPE),
    ({"tools": [tool()], "tool_choice": {}}, "tool_choice.type", MISSING),
    ({"tools": [tool()], "tool_choice": {"type": "custom"}}, "tool_choice.type", UNSUPPORTED),
    ({"tools": [tool()], "tool_choice": named("g")}, "tool_choice.function.name", VALUE),
    (
        {"tools": [tool()], "tool_choice": allowed("f", "g")},
        "tool_choice.allowed_tools.tools[1].function.name",
        VALUE,
    ),
    ({"tools": [tool()], "tool_choice": allowed()}, "tool_choice.allowed_tools.tools", VALUE),
    (
        {"tools": [tool()], "tool_choice": allowed("f", mode="none")},
        "tool_choice.allowed_tools.mode",
        VALUE,
    ),
]


@pytest.mark.parametrize(("fields", "param", "code"), WRONG)
def test_a_mistake_is_told_with_its_field(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.status == 400
    assert caught.value.message[-1] == "."


MODES: list[tuple[dict[str, Any], str, list[str]]] = [
    ({}, "none", []),
    ({"tools": []}, "none", []),
    ({"tools": None, "tool_choice": "auto"}, "none", []),
    ({"tools": [tool("f"), tool("g")]}, "auto", ["f", "g"]),
    ({"tools": [tool("f")], "tool_choice": "none"}, "none", []),
    ({"tools": [tool("f")], "tool_choice": "required"}, "required", ["f"]),
    ({"tools": [tool("f"), tool("g")], "tool_choice": named("g")}, "required", ["g"]),
    ({"tools": [tool("f"), tool("g")], "tool_choice": allowed("g")}, "auto", ["g"]),
    (
        {"tools": [tool("f"), tool("g")], "tool_choice": allowed("f", mode="required")},
        "required",
        ["f"],
    ),
]


@pytest.mark.parametrize(("fields", "mode", "names"), MODES)
def test_a_choice_says_which_tools_may_or_must_be_called(
    fields: dict[str, Any], mode: str, names: list[str]
) -> None:
    request = read(**fields)
    assert request.tool_mode == mode
    assert [one.function.name for one in request.callable_tools] == names
    assert request.names_tool == ("function" in (fields.get("tool_choice") or ""))


def test_a_tool_reaches_the_template_as_it_was_sent() -> None:
    sent = tool("f", description="d", parameters={"default": None, "type": "object"}, strict=True)
    (one,) = read(tools=[sent]).callable_tools
    assert one.to_json() == sent
    (bare,) = read(tools=[{**tool("f", description=None), "type": "function"}]).callable_tools
    assert bare.to_json() == tool("f")
