"""ChatML: a conversation as the token ids that the chat template gives for it.

The template that serves is `chat_template.jinja`. Training renders several hundred thousand
conversations, so it does so here, in plain Python; a test holds the two equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from demo.conversation import Conversation, Message

SEPARATOR = "<|endoftext|>"
SPECIAL_TOKENS = (SEPARATOR, "<|im_start|>", "<|im_end|>")
ADDED_TOKENS = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<tools>",
    "</tools>",
)
RESERVED_TOKENS = tuple(f"<|reserved_{i}|>" for i in range(8))

TOOLS_HEAD = "# Tools\n\nYou may call these functions to help the user:\n<tools>"
TOOLS_TAIL = (
    "\n</tools>\n\nFor each call, answer with a JSON object within <tool_call></tool_call>:\n"
    '<tool_call>\n{"name": <function name>, "arguments": <arguments object>}\n</tool_call>'
)


@dataclass(frozen=True)
class Segment:
    """A piece of rendered text, and whether the model is to learn to write it."""

    text: str
    learned: bool


def render(conversation: Conversation) -> Iterator[Segment]:
    """Yield the segments of a conversation. Joined, they are what the template renders."""
    messages = conversation.messages
    if conversation.tools:
        has_system = messages[0].role in ("system", "developer")
        yield Segment(_tools_turn(conversation, messages[0] if has_system else None), False)
        messages = messages[1:] if has_system else messages
    for index, message in enumerate(messages):
        if message.role == "assistant":
            yield Segment("<|im_start|>assistant\n", False)
            yield Segment(_assistant_text(message) + "<|im_end|>", True)
            yield Segment("\n", False)
        elif message.role == "tool":
            yield Segment(_tool_response(messages, index), False)
        else:
            role = "system" if message.role == "developer" else message.role
            yield Segment(f"<|im_start|>{role}\n{message.content}<|im_end|>\n", False)


def text_of(conversation: Conversation) -> str:
    """The whole conversation as the chat template renders it."""
    return "".join(segment.text for segment in render(conversation))


def _tools_turn(conversation: Conversation, system: Message | None) -> str:
    lead = f"{system.content}\n\n" if system else ""
    lines = "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in conversation.tools)
    return f"<|im_start|>system\n{lead}{TOOLS_HEAD}{lines}{TOOLS_TAIL}<|im_end|>\n"


def _assistant_text(message: Message) -> str:
    calls = [f"<tool_call>\n{call.to_json()}\n</tool_call>" for call in message.tool_calls]
    return "\n".join([message.content, *calls] if message.content else calls)


def _tool_response(messages: tuple[Message, ...], index: int) -> str:
    """Tool messages in a row share one user turn."""
    opens = index == 0 or messages[index - 1].role != "tool"
    closes = index + 1 == len(messages) or messages[index + 1].role != "tool"
    head = "<|im_start|>user" if opens else ""
    tail = "<|im_end|>\n" if closes else ""
    body = f"\n<tool_response>\n{messages[index].content}\n</tool_response>"
    return head + body + tail
