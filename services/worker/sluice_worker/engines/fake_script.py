"""What a row of the fake engine says.

That is the tokens of one text, over and over. A directive in a prompt tells its rows what::

    fake:{"say": "Hello there.", "tokens": 3, "delay_ms": 50, "end": "error"}

``tokens`` counts the tokens before the end; ``end`` is ``stop`` (default), ``error`` (this row
fails), ``crash`` (the process exits) or ``hang`` (the engine stops stepping, its port answers).
Rows of an adapter say its name first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from tokenizers import Tokenizer

from sluice_worker.engines.base import ErrorCode, GenerationRequest, RequestError
from sluice_worker.settings import FakeSettings

PANGRAM = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all. "
_DIRECTIVE = "fake:"


@dataclass(frozen=True, slots=True)
class Script:
    """What a row says and how it ends; ``tokens`` is 0 for no end of its own."""

    token_ids: tuple[int, ...]
    tokens: int = 0
    delay_ms: float = 0.0
    end: str = "stop"


class Scripts:
    """Makes them, in the tokens of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, settings: FakeSettings) -> None:
        self._tokenizer = tokenizer
        self._default = Script(self._encode(settings.text or PANGRAM), settings.tokens)

    def of(self, request: GenerationRequest) -> Script:
        """The script of the request's rows. Raises RequestError for a broken directive."""
        script = self._asked(request)
        if not request.adapter:
            return script
        name = self._encode(f"{request.adapter}: ")
        tokens = script.tokens and script.tokens + len(name)
        return replace(script, token_ids=name + script.token_ids, tokens=tokens)

    def _asked(self, request: GenerationRequest) -> Script:
        text = self._tokenizer.decode(list(request.prompt_ids), skip_special_tokens=True)
        _, found, directive = text.partition(_DIRECTIVE + "{")
        if not found:
            return self._default
        try:
            given, _ = json.JSONDecoder().raw_decode("{" + directive)
            return self._told(given)
        except (TypeError, ValueError) as error:
            message = f"the fake engine cannot follow the directive: {error}"
            raise RequestError(ErrorCode.INVALID_ARGUMENT, message, "prompt_ids") from error

    def _told(self, given: dict[str, Any]) -> Script:
        default = self._default
        token_ids = self._encode(given["say"]) if given.get("say") else default.token_ids
        tokens = int(given.get("tokens", len(token_ids) if "say" in given else default.tokens))
        return Script(token_ids, tokens, float(given.get("delay_ms", 0)), given.get("end", "stop"))

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)
