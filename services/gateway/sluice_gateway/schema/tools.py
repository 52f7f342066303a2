"""The tools that a request offers, and which of them the answer may or must call."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from sluice_gateway.schema.json_schema import JsonSchema, size_of
from sluice_gateway.schema.strict import (
    INVALID,
    INVALID_TYPE,
    MISSING,
    UNSUPPORTED,
    Strict,
    refuse,
)

TOOLS_MAX = 128
TOOLS_BYTES_MAX = 512 << 10
DESCRIPTION_MAX = 16 << 10
_FUNCTION_FIELDS = ("name", "description", "parameters", "strict")
NAME_PATTERN = "^[a-zA-Z0-9_-]{1,64}$"
_NAME = re.compile("[a-zA-Z0-9_-]{1,64}")

Mode = Literal["none", "auto", "required"]


def _is_name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        refuse(INVALID, f"Expected a name that matches {NAME_PATTERN}.")
    return value


FunctionName = Annotated[
    str, AfterValidator(_is_name), Field(json_schema_extra={"pattern": NAME_PATTERN})
]


class FunctionTool(Strict):
    """A function that the model may call. ``parameters`` is the JSON Schema of its arguments."""

    name: FunctionName
    description: Annotated[str, Field(max_length=DESCRIPTION_MAX)] | None = None
    parameters: JsonSchema | None = None
    strict: bool = False

    @model_validator(mode="after")
    def _takes_an_object(self) -> FunctionTool:
        if self.parameters and self.parameters.get("type", "object") != "object":
            message = "The arguments of a function are an object: expected 'type': 'object'."
            refuse(INVALID, message, "parameters")
        return self


def _is_function(value: Any) -> Any:
    if not isinstance(value, dict):
        refuse(INVALID_TYPE, "Expected an object with 'type' and 'function'.")
    kind = value.get("type")
    if kind is None:
        refuse(MISSING, "A tool needs 'type'.", "type")
    if isinstance(kind, str) and kind != "function":
        refuse(UNSUPPORTED, "This server takes tools of type 'function' only.", "type")
    return value


class Tool(Strict):
    """A tool, as OpenAI has it."""

    type: Literal["function"]
    function: FunctionTool

    def to_json(self) -> dict[str, Any]:
        """The tool as chat templates expect it: what the client sent, and nothing else."""
        function = {name: getattr(self.function, name) for name in self.function.model_fields_set}
        in_order = {name: function[name] for name in _FUNCTION_FIELDS if name in function}
        return {"type": self.type, "function": in_order}


class NamedFunction(Strict):
    """The name of a function."""

    name: FunctionName


class NamedTool(Strict):
    """One tool by name."""

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(Strict):
    """A choice of the tools."""

    mode: Literal["auto", "required"]
    tools: Annotated[
        list[Annotated[NamedTool, BeforeValidator(_is_function)]],
        Field(min_length=1, max_length=TOOLS_MAX, fail_fast=True),
    ]


class AllowedToolsChoice(Strict):
    """``{"type": "allowed_tools", "allowed_tools": {...}}``."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


def _kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "<mode>"
    if not isinstance(value, dict):
        return None
    return "<allowed>" if value.get("type") == "allowed_tools" else "<named>"


ToolChoice = Annotated[
    Annotated[Mode, Tag("<mode>")]
    | Annotated[NamedTool, BeforeValidator(_is_function), Tag("<named>")]
    | Annotated[AllowedToolsChoice, Tag("<allowed>")],
    Discriminator(
        _kind,
        custom_error_type=INVALID_TYPE,
        custom_error_message=(
            "Expected 'none', 'auto', 'required', a function's name or allowed tools."
        ),
    ),
]

#: How many tools one request may offer, and their size, bound what a template has to render.
ToolList = Annotated[
    list[Annotated[Tool, BeforeValidator(_is_function)]],
    Field(max_length=TOOLS_MAX, fail_fast=True),
]


class ToolFields(Strict):
    """The fields of a chat request that are about tools."""

    tools: ToolList | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None

    @property
    def tool_mode(self) -> Mode:
        """Whether the answer may call a tool, or must."""
        if not self.tools:
            return "none"
        choice = self.tool_choice
        if isinstance(choice, NamedTool):
            return "required"
        if isinstance(choice, AllowedToolsChoice):
            return choice.allowed_tools.mode
        return choice or "auto"

    @property
    def names_tool(self) -> bool:
        """Whether one function was named: then the answer's finish_reason is "stop"."""
        return isinstance(self.tool_choice, NamedTool)

    @property
    def callable_tools(self) -> list[Tool]:
        """The tools that the answer may call. The template is shown all of ``tools``."""
        offered = self.tools or []
        if self.tool_mode == "none":
            return []
        choice = self.tool_choice
        if isinstance(choice, NamedTool):
            named = {choice.function.name}
        elif isinstance(choice, AllowedToolsChoice):
            named = {one.function.name for one in choice.allowed_tools.tools}
        else:
            return list(offered)
        return [tool for tool in offered if tool.function.name in named]

    @model_validator(mode="after")
    def _tools_agree(self) -> ToolFields:
        offered = self._names()
        choice = self.tool_choice
        if not offered:
            if choice not in (None, "none", "auto"):
                refuse(INVALID, "'tool_choice' needs 'tools'.", "tool_choice")
            if self.parallel_tool_calls is not None:
                refuse(INVALID, "'parallel_tool_calls' needs 'tools'.", "parallel_tool_calls")
        if isinstance(choice, NamedTool) and choice.function.name not in offered:
            _unknown(choice.function.name, "tool_choice.function.name")
        if isinstance(choice, AllowedToolsChoice):
            for place, one in enumerate(choice.allowed_tools.tools):
                if one.function.name not in offered:
                    where = f"tool_choice.allowed_tools.tools[{place}].function.name"
                    _unknown(one.function.name, where)
        return self

    def _names(self) -> set[str]:
        """The names of the tools, each of which is there once."""
        names: set[str] = set()
        for place, tool in enumerate(self.tools or ()):
            name = tool.function.name
            if name in names:
                message = f"There are two tools named '{name}'."
                refuse(INVALID, message, f"tools[{place}].function.name")
            names.add(name)
        if sum(size_of(tool.to_json()) for tool in self.tools or ()) > TOOLS_BYTES_MAX:
            message = f"Expected tools of at most {TOOLS_BYTES_MAX} bytes in all."
            refuse(INVALID, message, "tools")
        return names


def _unknown(name: str, where: str) -> None:
    refuse(INVALID, f"There is no tool named '{name}' in 'tools'.", where)
