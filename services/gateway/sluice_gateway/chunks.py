"""OpenAI's stream chunks, as server-sent events ready to be written.

All that a chunk of text does not share with the one before it is its text, so it is put together
from bytes that were made once per request. No dict, no model and no json.dumps per token.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any

from sluice_gateway.logprobs_json import chat_logprobs, completion_logprobs, written
from sluice_gateway.output.events import (
    Delta,
    FinishReason,
    PromptDelta,
    ReasoningDelta,
    TextDelta,
    ToolArguments,
    ToolCallStart,
)
from sluice_gateway.output.logprobs import TokenLogprob
from sluice_gateway.usage import Usage

# Legal in JSON, but a reader that cuts lines as Python's str.splitlines does (httpx) would cut
# the event there. All other such characters are escaped as control characters.
_LINE_ENDS = (("\x85", "\\u0085"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029"))
_END = "}\n\n"

#: What is told in other fields than generated text.
NoText = PromptDelta | ReasoningDelta | ToolCallStart | ToolArguments

_json = json.JSONEncoder(separators=(",", ":")).encode


def quoted(text: str) -> str:
    """The text as a JSON string that has no line end of any kind in it."""
    string: str = encode_basestring(text)
    if not string.isascii():
        for char, escape in _LINE_ENDS:
            string = string.replace(char, escape)
    return string


class _Chunks(ABC):
    """What both kinds of chunks have in common. ``_OBJECT`` and ``_TEXT_KEY`` tell them apart."""

    _OBJECT = ""
    _BEFORE_TEXT = ""
    _AFTER_TEXT = ""
    _LAST_TEXT = ""

    def __init__(
        self,
        response_id: str,
        created: int,
        model: str,
        fingerprint: str | None = None,
        *,
        choices: int = 1,
        include_usage: bool = False,
        service_tier: str | None = None,
        token_ids: bool = False,
    ) -> None:
        """The chunks of one response.

        ``choices``: how many there will be. ``include_usage``: the stream ends with a chunk of
        usage, so all others say null. ``token_ids``: each chunk has those of its text.
        """
        head = {
            "id": response_id,
            "object": self._OBJECT,
            "created": created,
            "model": model,
            "system_fingerprint": fingerprint,
        }
        if service_tier is not None:
            head["service_tier"] = service_tier
        self._head = f'data: {_json(head)[:-1]},"choices":['
        self._no_usage = ',"usage":null' if include_usage else ""
        self._token_ids = token_ids
        self._heads = [f'{self._head}{{"index":{index},' for index in range(choices)]
        self._text_heads = [head + self._BEFORE_TEXT for head in self._heads]
        self._text_tail = (
            f'{self._AFTER_TEXT},"logprobs":null,"finish_reason":null}}]{self._no_usage}{_END}'
        )

    def text(self, index: int, text: str) -> bytes:
        """A chunk of nothing but text."""
        return (self._text_heads[index] + quoted(text) + self._text_tail).encode()

    def around_text(self, index: int) -> tuple[bytes, bytes]:
        """What a chunk of nothing but text has before and after the JSON of the text."""
        return self._text_heads[index].encode(), self._text_tail.encode()

    def delta(self, index: int, event: Delta, usage: Usage | None = None) -> bytes:
        """A chunk of an event, with its log-probabilities and token ids if it has them.

        ``usage``: that of the request so far, where continuous usage was asked for.
        """
        if not isinstance(event, TextDelta):
            logprobs = written(event.logprobs) if isinstance(event, PromptDelta) else "null"
            return self._chunk(f"{self._heads[index]}{self._other(event)}", event, logprobs, usage)
        if usage is None and event.logprobs is None and not self._token_ids:
            return self.text(index, event.text)
        logprobs = "null" if event.logprobs is None else _json(self._logprobs(event.logprobs))
        said = f"{self._text_heads[index]}{quoted(event.text)}{self._AFTER_TEXT}"
        return self._chunk(said, event, logprobs, usage)

    def _chunk(self, said: str, event: Delta, logprobs: str, usage: Usage | None) -> bytes:
        ids = f',"token_ids":{_json(list(event.token_ids))}' if self._token_ids else ""
        return (
            f'{said},"logprobs":{logprobs},"finish_reason":null{ids}}}]{self._usage(usage)}{_END}'
        ).encode()

    def finish(self, index: int, reason: FinishReason, usage: Usage | None = None) -> bytes:
        """The last chunk of a choice, which has no text."""
        return (
            f'{self._heads[index]}{self._LAST_TEXT},"logprobs":null,"finish_reason":"{reason}"}}]'
            f"{self._usage(usage)}{_END}"
        ).encode()

    def usage(self, usage: Usage, timings: Mapping[str, Any] | None = None) -> bytes:
        """The last chunk of the stream, which has no choices."""
        told = "" if timings is None else f',"timings":{_json(timings)}'
        return f"{self._head}]{self._usage(usage)}{told}{_END}".encode()

    def _usage(self, usage: Usage | None) -> str:
        return self._no_usage if usage is None else f',"usage":{_json(usage.to_json())}'

    @abstractmethod
    def _other(self, event: NoText) -> str:
        """An event that is no generated text, where this kind of answer has it."""

    @abstractmethod
    def _logprobs(self, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
        """The log-probabilities, as this kind of answer has them."""


class ChatChunks(_Chunks):
    """Chunks of one streamed chat completion."""

    _OBJECT = "chat.completion.chunk"
    _BEFORE_TEXT = '"delta":{"content":'
    _AFTER_TEXT = "}"
    _LAST_TEXT = '"delta":{}'

    def role(
        self, index: int, prompt_ids: Sequence[int] | None = None, usage: Usage | None = None
    ) -> bytes:
        """The first chunk of a choice. ``prompt_ids``: only with the very first, if asked for."""
        ids = "" if prompt_ids is None else f',"prompt_token_ids":{_json(list(prompt_ids))}'
        return (
            f'{self._heads[index]}"delta":{{"role":"assistant","content":""}},"logprobs":null,'
            f'"finish_reason":null}}]{ids}{self._usage(usage)}{_END}'
        ).encode()

    def _other(self, event: NoText) -> str:
        if isinstance(event, ReasoningDelta):
            return f'"delta":{{"reasoning_content":{quoted(event.text)}}}'
        if isinstance(event, PromptDelta):
            raise TypeError("a chat's prompt is not part of its answer")
        # Clients put a repeated id, type or name behind the one before: they come once.
        if isinstance(event, ToolCallStart):
            name = f'"type":"function","function":{{"name":{quoted(event.name)},"arguments":""}}'
            call = f'"id":{quoted(event.id)},{name}'
        else:
            call = f'"function":{{"arguments":{quoted(event.text)}}}'
        return f'"delta":{{"tool_calls":[{{"index":{event.index},{call}}}]}}'

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
        return chat_logprobs(entries)


class CompletionChunks(_Chunks):
    """Chunks of one streamed completion."""

    _OBJECT = "text_completion"
    _BEFORE_TEXT = '"text":'
    _AFTER_TEXT = ""
    _LAST_TEXT = '"text":""'

    def opening(
        self,
        index: int,
        text: str = "",
        prompt_ids: Sequence[int] | None = None,
        usage: Usage | None = None,
    ) -> bytes:
        """A first chunk of a choice, only for a request that asked for what is in it.

        ``text``: the prompt, for ``echo``. ``prompt_ids``: its ids, for ``return_token_ids``.
        """
        ids = "" if prompt_ids is None else f',"prompt_token_ids":{_json(list(prompt_ids))}'
        return (
            f"{self._text_heads[index]}{quoted(text)}"
            f',"logprobs":null,"finish_reason":null{ids}}}]{self._usage(usage)}{_END}'
        ).encode()

    def _other(self, event: NoText) -> str:
        if isinstance(event, PromptDelta):
            return f"{self._BEFORE_TEXT}{quoted(event.text)}"
        raise TypeError(f"a completion is nothing but text: {event}")

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> dict[str, Any]:
        return completion_logprobs(entries)
