"""Whole answers: a fold over the same events that a stream is made of."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from sluice_gateway.logprobs_json import (
    chat_logprobs,
    completion_logprobs,
    encoded,
    joined,
    written,
)
from sluice_gateway.output.events import (
    Event,
    Finished,
    FinishReason,
    PromptDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallStart,
)
from sluice_gateway.output.logprobs import EncodedLogprobs, TokenLogprob
from sluice_gateway.usage import Usage

_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class _Choice:
    """One choice, while its events come."""

    __slots__ = ("calls", "logprobs", "prompt", "reason", "reasoning", "text", "token_ids")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        #: Of each call its start, and the pieces of its arguments.
        self.calls: list[tuple[ToolCallStart, list[str]]] = []
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        #: Those of the prompt, if it is told with them.
        self.prompt: EncodedLogprobs | None = None
        self.reason: FinishReason | None = None

    def add(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.reason = event.reason
            return
        self.token_ids += event.token_ids
        if isinstance(event, TextDelta):
            self.text.append(event.text)
            self.logprobs += event.logprobs or ()
        elif isinstance(event, PromptDelta):
            self.text.append(event.text)
            self.prompt = event.logprobs
        elif isinstance(event, ReasoningDelta):
            self.reasoning.append(event.text)
        elif isinstance(event, ToolCallStart):
            self.calls.append((event, []))
        else:
            self.calls[event.index][1].append(event.text)


class _Answer(ABC):
    """What both kinds of answers have in common."""

    _OBJECT = ""

    def __init__(
        self,
        response_id: str,
        created: int,
        model: str,
        fingerprint: str | None = None,
        *,
        choices: int = 1,
        logprobs: bool = False,
        service_tier: str | None = None,
        token_ids: bool = False,
        prompt_ids: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """An answer with no events yet.

        ``logprobs``, ``token_ids``: whether the request asked for them. ``prompt_ids``: the ids
        of each choice's prompt, if it asked for those.
        """
        self._head: dict[str, Any] = {
            "id": response_id,
            "object": self._OBJECT,
            "created": created,
            "model": model,
            "system_fingerprint": fingerprint,
        }
        if service_tier is not None:
            self._head["service_tier"] = service_tier
        self._choices = [_Choice() for _ in range(choices)]
        self._with_logprobs = logprobs
        self._with_token_ids = token_ids
        self._prompt_ids = prompt_ids

    def add(self, index: int, event: Event) -> None:
        """Take in an event of a choice."""
        self._choices[index].add(event)

    def body(self, usage: Usage) -> bytes:
        """The answer's JSON. Every choice must have had its Finished."""
        choices = [self._written(index, choice) for index, choice in enumerate(self._choices)]
        rest = _json({"usage": usage.to_json(), **self._extra()})
        return f'{_json(self._head)[:-1]},"choices":[{",".join(choices)}],{rest[1:]}'.encode()

    def _written(self, index: int, choice: _Choice) -> str:
        return _json(self._choice(index, choice))

    def _choice(self, index: int, choice: _Choice) -> dict[str, Any]:
        if choice.reason is None:
            raise ValueError(f"choice {index} has not finished")
        found = {
            "index": index,
            **self._content(choice),
            "logprobs": self._logprobs(choice.logprobs) if self._with_logprobs else None,
            "finish_reason": choice.reason,
        }
        if self._with_token_ids:
            found["token_ids"] = choice.token_ids
        return found

    def _extra(self) -> dict[str, Any]:
        return {}

    @abstractmethod
    def _content(self, choice: _Choice) -> dict[str, Any]:
        """What was said, where this kind of answer has it."""

    @abstractmethod
    def _logprobs(self, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
        """The log-probabilities, as this kind of answer has them."""


class ChatAnswer(_Answer):
    """A whole chat completion."""

    _OBJECT = "chat.completion"

    def _content(self, choice: _Choice) -> dict[str, Any]:
        text = "".join(choice.text)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if choice.calls and not text else text,
            "refusal": None,
        }
        if choice.reasoning:
            message["reasoning_content"] = "".join(choice.reasoning)
        if choice.calls:
            message["tool_calls"] = [_call(start, pieces) for start, pieces in choice.calls]
        return {"message": message}

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
        return chat_logprobs(entries)

    def _extra(self) -> dict[str, Any]:
        return {} if not self._prompt_ids else {"prompt_token_ids": list(self._prompt_ids[0])}


def _call(start: ToolCallStart, pieces: Sequence[str]) -> dict[str, Any]:
    function = {"name": start.name, "arguments": "".join(pieces)}
    return {"id": start.id, "type": "function", "function": function}


class CompletionAnswer(_Answer):
    """A whole completion. ``echo(index, prompt)`` puts the prompt before a choice's text."""

    _OBJECT = "text_completion"

    def echo(self, index: int, prompt: str) -> None:
        """Begin the choice's text with its prompt. Call it before ``add``."""
        self._choices[index].text.append(prompt)

    def keep(self, indices: Sequence[int]) -> None:
        """Keep these choices alone, in this order. Call it after ``add``."""
        self._choices = [self._choices[index] for index in indices]
        if self._prompt_ids:
            self._prompt_ids = [self._prompt_ids[index] for index in indices]

    def _written(self, index: int, choice: _Choice) -> str:
        if choice.prompt is None:
            return super()._written(index, choice)
        parts = [choice.prompt, *([encoded(choice.logprobs)] if choice.logprobs else [])]
        choice.logprobs = []
        found = _json({**self._choice(index, choice), "logprobs": None})
        # Within a string the quotes would be escaped, so this is the field.
        return found.replace('"logprobs":null', f'"logprobs":{written(joined(parts))}', 1)

    def _choice(self, index: int, choice: _Choice) -> dict[str, Any]:
        found = super()._choice(index, choice)
        if self._prompt_ids:
            found["prompt_token_ids"] = list(self._prompt_ids[index])
        return found

    def _content(self, choice: _Choice) -> dict[str, Any]:
        return {"text": "".join(choice.text)}

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
        return completion_logprobs(entries)
