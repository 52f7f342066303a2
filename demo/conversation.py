"""Conversations as values: messages, tool calls and the tools that are offered."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "developer", "user", "assistant", "tool"]
Json = dict[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """One call that the assistant makes."""

    name: str
    arguments: Json

    def to_json(self) -> str:
        """The call as the model writes it, on one line."""
        return json.dumps({"name": self.name, "arguments": self.arguments}, ensure_ascii=False)


@dataclass(frozen=True)
class Message:
    """One turn. Only the assistant has tool calls."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class Conversation:
    """Messages in order, and the JSON descriptions of the tools on offer."""

    messages: tuple[Message, ...]
    tools: tuple[Json, ...] = field(default=())


Exchange = tuple[Message, ...]
"""A user message, its answer, and what follows from it: the unit that topics make."""


def exchange(*texts: str) -> Exchange:
    """Texts that alternate between the user and the assistant, the user first."""
    roles: tuple[Role, Role] = ("user", "assistant")
    return tuple(Message(roles[i % 2], text) for i, text in enumerate(texts))
