"""The messages of a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from sluice_gateway.schema.strict import INVALID, INVALID_TYPE, MISSING, UNSUPPORTED, Strict, refuse

PARTS_MAX = 1024
TOOL_CALLS_MAX = 128

Role = Literal["system", "developer", "user", "assistant", "tool"]
Name = Annotated[str, Field(min_length=1, max_length=256)]


class TextPart(Strict):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class RefusalPart(Strict):
    """A part of an assistant's content as OpenAI has it; it is read as text."""

    type: Literal["refusal"]
    refusal: str


def _is_text(part: Any) -> Any:
    """Turn an assistant's refusal into text, and name what is no text."""
    if not isinstance(part, dict):
        refuse(INVALID_TYPE, "Expected an object with 'type' and 'text'.")
    kind = part.get("type")
    if kind == "refusal" and isinstance(part.get("refusal"), str):
        return {**{key: part[key] for key in part if key != "refusal"}, "type": "text"} | {
            "text": part["refusal"]
        }
    if isinstance(kind, str) and kind != "text":
        refuse(UNSUPPORTED, "This server takes content parts of type 'text' only.", "type")
    if kind is None:
        refuse(MISSING, "A content part needs 'type'.", "type")
    return part


def _kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "<string>"
    return "<parts>" if isinstance(value, list) else None


class Function(Strict):
    """The function of a tool call; ``arguments`` is JSON, as the model wrote it."""

    name: Name
    arguments: str = ""
    # OpenAI's client puts it there when it puts a stream together, and people send it back.
    parsed_arguments: Any = None


class ToolCall(Strict):
    """A call that the assistant made."""

    id: Annotated[str, Field(max_length=256)]
    type: Literal["function"] = "function"
    function: Function
    # As ``parsed_arguments``: the order of the list is what counts.
    index: int | None = None


Part = Annotated[TextPart, BeforeValidator(_is_text, json_schema_input_type=TextPart | RefusalPart)]
Parts = Annotated[list[Part], Field(min_length=1, max_length=PARTS_MAX, fail_fast=True)]
Content = Annotated[
    Annotated[str, Tag("<string>")] | Annotated[Parts, Tag("<parts>")],
    Discriminator(
        _kind,
        custom_error_type=INVALID_TYPE,
        custom_error_message="Expected a string or a list of content parts.",
    ),
]


class Message(Strict):
    """One message. ``content`` is a string, or a list of parts if the client sent parts."""

    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
        {
            # Answers come back with these when a client sends them as it got them.
            "annotations": ([],),
            "audio": (),
            "function_call": (),
        }
    )

    role: Role
    content: Content | None = None
    name: Name | None = None
    tool_call_id: Annotated[str, Field(max_length=256)] | None = None
    tool_calls: (
        Annotated[list[ToolCall], Field(max_length=TOOL_CALLS_MAX, fail_fast=True)] | None
    ) = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    parsed: Any = None  # as ``parsed_arguments``: ``content`` again

    @property
    def text(self) -> str:
        """The content as one string; "" if there is none."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        # With nothing between them, as a template that loops over parts puts them.
        return "".join(part.text for part in self.content)

    @model_validator(mode="after")
    def _fits_its_role(self) -> Message:
        for field in self.model_fields_set & ROLE_OF.keys():
            if self.role != ROLE_OF[field]:
                message = f"Only a message with role '{ROLE_OF[field]}' may have '{field}'."
                refuse(INVALID, message, field)
        if self.role == "tool" and self.tool_call_id is None:
            refuse(MISSING, "A message with role 'tool' needs 'tool_call_id'.", "tool_call_id")
        says = self.content is not None
        if self.role == "assistant":
            says = says or bool(self.tool_calls) or self.refusal is not None
        if not says:
            refuse(MISSING, f"A message with role '{self.role}' needs 'content'.", "content")
        return self


ROLE_OF = {
    "refusal": "assistant",
    "reasoning": "assistant",
    "reasoning_content": "assistant",
    "tool_call_id": "tool",
    "tool_calls": "assistant",
}
