"""Messages as chat templates expect them: the one place where they are dicts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice_gateway.content_format import ContentFormat
from sluice_gateway.output.formats.reasoning import REASONING
from sluice_gateway.schema.messages import Message, ToolCall


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a template calls things, and what it takes.

    ``content``: how it reads a message's content. ``knows_developer``: most templates do not know
    OpenAI's role "developer": for them it is "system", which it is the new name of. ``call_id``:
    what it takes for a call's id. ``reasoning``: its key for the reasoning of a message.
    """

    content: ContentFormat = "string"
    knows_developer: bool = False
    call_id: Callable[[str], str] = str
    reasoning: str = REASONING


def template_messages(messages: Sequence[Message], dialect: Dialect) -> list[dict[str, Any]]:
    """The messages for a template."""
    names = dict(calls_of(messages))
    return [_message(message, dialect, names) for message in messages]


def calls_of(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """The id and the function's name of each call in a conversation, in order."""
    return [
        (call.id, call.function.name) for message in messages for call in message.tool_calls or ()
    ]


def _message(message: Message, dialect: Dialect, names: Mapping[str, str]) -> dict[str, Any]:
    role = message.role
    if role == "developer" and not dialect.knows_developer:
        role = "system"
    found: dict[str, Any] = {"role": role, "content": _content(message, dialect.content)}
    # A key that has nothing is left out: templates ask "is defined".
    name = message.name
    if message.tool_call_id is not None:
        found["tool_call_id"] = dialect.call_id(message.tool_call_id)
        # OpenAI's messages of tools have no name, and some templates refuse those.
        name = name or names.get(message.tool_call_id)
    if name is not None:
        found["name"] = name
    if message.tool_calls:
        found["tool_calls"] = [_tool_call(call, dialect.call_id) for call in message.tool_calls]
    reasoning = message.reasoning_content or message.reasoning
    if reasoning is not None:
        found[dialect.reasoning] = reasoning
        if dialect.reasoning == "thinking" and message.tool_calls and message.text:
            # gpt-oss's template shows either before a call, as reasoning, and refuses both.
            found["thinking"] = f"{reasoning}\n{message.text}"
            found["content"] = ""
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
