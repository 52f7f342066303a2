"""Ask a trained model, many prompts at a time, at temperature 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo.conversation import Conversation, Message

MAX_NEW_TOKENS = 320
_ROWS = 24


@dataclass(frozen=True)
class Reply:
    """What the model wrote, and whether it ended its turn by itself."""

    text: str
    ended: bool


class DemoChat:
    """A model and its tokenizer, loaded from a directory, computing in float32."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True
        )
        self.tokenizer.padding_side = "left"

    def ask(self, text: str) -> Reply:
        """The reply to one user message."""
        return self.replies([Conversation((Message("user", text),))])[0]

    def replies(self, conversations: Sequence[Conversation]) -> list[Reply]:
        """The replies to conversations that end before an assistant's turn."""
        prompts = [self.prompt(conversation) for conversation in conversations]
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        found: dict[int, Reply] = {}
        for at in range(0, len(order), _ROWS):
            chosen = order[at : at + _ROWS]
            found.update(zip(chosen, self._batch([prompts[i] for i in chosen]), strict=True))
        return [found[index] for index in range(len(prompts))]

    def prompt(self, conversation: Conversation) -> str:
        """The prompt that the chat template gives."""
        rendered: str = self.tokenizer.apply_chat_template(
            [as_dict(message) for message in conversation.messages],
            tools=list(conversation.tools) or None,
            add_generation_prompt=True,
            tokenize=False,
        )
        return rendered

    def _batch(self, prompts: Sequence[str]) -> Iterable[Reply]:
        inputs = self.tokenizer(list(prompts), return_tensors="pt", padding=True)
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=False,
                max_new_tokens=MAX_NEW_TOKENS,
            )
        for row in output[:, inputs["input_ids"].shape[1] :].tolist():
            ends = [
                row.index(end) for end in self.model.generation_config.eos_token_id if end in row
            ]
            text = self.tokenizer.decode(row[: min(ends)] if ends else row)
            yield Reply(text, bool(ends))


def as_dict(message: Message) -> dict[str, Any]:
    """A message in the shape of the OpenAI API."""
    calls = [
        {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    return {**plain, "tool_calls": calls} if calls else plain
