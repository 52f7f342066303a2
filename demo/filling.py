"""Answers of the demo model under a JSON Schema, as a server enforces one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer

from demo.chat import MAX_NEW_TOKENS, DemoChat
from demo.conversation import Conversation, Json

# The same as the gateway asks for: one space after separators or none, and no other whitespace.
_SPACING = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}


class Filler:
    """Greedy answers that follow a schema, one at a time."""

    def __init__(self, chat: DemoChat) -> None:
        """``chat``: the model that writes them."""
        self._chat = chat
        self._ends: list[int] = chat.model.generation_config.eos_token_id
        self._tokenizer = LLTokenizer(
            chat.tokenizer.backend_tokenizer.to_str(),
            n_vocab=chat.model.config.vocab_size,
            eos_token=self._ends,
        )

    def fill(self, conversation: Conversation, schema: Json) -> Any:
        """The value that the model writes, or None if it comes to no end."""
        grammar = LLMatcher.grammar_from_json_schema({**schema, "x-guidance": _SPACING})
        matcher = LLMatcher(self._tokenizer, grammar)
        ids = self._chat.tokenizer(self._chat.prompt(conversation), return_tensors="pt").input_ids
        written: list[int] = []
        cache = None
        with torch.inference_mode():
            while len(written) < MAX_NEW_TOKENS:
                out = self._chat.model(input_ids=ids, past_key_values=cache, use_cache=True)
                cache = out.past_key_values
                logits = out.logits[0, -1]
                forbidden = _forbidden(matcher, len(logits))
                token = int(logits.masked_fill(forbidden, -torch.inf).argmax())
                if token in self._ends:
                    return json.loads(self._chat.tokenizer.decode(written))
                matcher.consume_token(token)
                written.append(token)
                ids = torch.tensor([[token]])
        return None


def _forbidden(matcher: LLMatcher, width: int) -> torch.Tensor:
    """Which of so many tokens may not come next."""
    allowed = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
    return torch.from_numpy(allowed[:width] == 0)
