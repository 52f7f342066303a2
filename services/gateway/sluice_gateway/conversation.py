"""Messages as chat templates expect them: the one place where they are dicts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from sluice_gateway.content_format import ContentFormat
from sluice_gateway.schema.messages import Message, ToolCall


def template_messages(
    messages: Sequence[Message],
    *,
    content: ContentFormat,
    knows_developer: bool,
    call_id: Callable[[str], str] = str,
) -> list[dict[str, Any]]:
    """The messages for a template that reads ``content`` in that format.

    ``call_id``: what the template takes for a call's id.

    Most templates do not know OpenAI's role "developer": for them it is "system", which it is
    the new name of.
    """
    return [_message(message, content, knows_developer, call_id) for message in messages]


def _message(
    message: Message,
    content: ContentFormat,
    knows_developer: bool,
    call_id: Callable[[str], str],
) -> dict[str, Any]:
    role = message.role
    if role == "developer" and not knows_developer:
        role = "system"
    found: dict[str, Any] = {"role": role, "content": _content(message, content)}
    # A key that has nothing is left out: templates ask "is defined".
    if message.name is not None:
        found["name"] = message.name
    if message.tool_call_id is not None:
        found["tool_call_id"] = call_id(message.tool_call_id)
    if message.tool_calls:
        found["tool_calls"] = [_tool_call(call, call_id) for call in message.tool_calls]
    reasoning = message.reasoning_content or message.reasoning
    if reasoning is not None:
        found["reasoning_content"] = reasoning
    return found


def _content(message: Message, wanted: ContentFormat) -> str | list[dict[str, Any]]:
    content = message.content
    if content is None:
        # A refusal is what the assistant said; a message of nothing but calls says "".
        return message.refusal or ""
    if isinstance(content, str):
        return content
    if wanted == "parts":
        return [{"type": "text", "text": part.text} for part in content]
    return message.text


def _tool_call(call: ToolCall, call_id: Callable[[str], str]) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": _arguments(call.function.arguments)}
    return {"id": call_id(call.id), "type": call.type, "function": function}


def _arguments(text: str) -> Any:
    """The arguments as an object, which templates write out in the model's own way.

    What a model wrote may not be JSON, and then it stays as it is.
    """
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text
    return found if isinstance(found, dict) else text


def _no_constant(name: str) -> None:
    raise ValueError(name)
