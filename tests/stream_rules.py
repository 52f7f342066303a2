"""What OpenAI's clients rely on in a stream as a whole, beyond each chunk's own schema.

The numbers in the messages are those of the project's contract: 1-3 framing, 4-10 chunks, 11-15
calls of tools, 16-17 log-probabilities.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

from tests.gateway.output.strict_types import ChatChunk, CompletionChunk

Json = dict[str, Any]
HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


class BrokenRule(AssertionError):
    """A stream is not as OpenAI's clients expect it."""


class _Error(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    message: str
    type: str
    param: str | None
    code: str | None
    # Only of a model that is on its way.
    loading: dict[str, Any] = {}


class _ErrorEvent(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    error: _Error


@dataclass
class _Choice:
    """What a choice has said so far."""

    begun: bool = False
    reason: str | None = None
    calls: int = 0
    offset: int = 0
    ids: set[str] = field(default_factory=set)


class StreamRules:
    """Reads one stream, in pieces as they come. Raises BrokenRule at the first fault."""

    def __init__(self, path: str, request: Json) -> None:
        """``path``: of the route, to tell chats from completions."""
        self._request = request
        self._chat = path.endswith("/chat/completions")
        options = request.get("stream_options") or {}
        self._usage_asked = bool(options.get("include_usage"))
        self._continuous = bool(options.get("continuous_usage_stats")) and self._usage_asked
        self._choices = [_Choice() for _ in range(_rows(request, chat=self._chat))]
        self._call_ids: set[str] = set()
        self._rest = b""
        self._head: tuple[Any, ...] | None = None
        self._usage_seen: Json | None = None
        self._failed = False
        self._done = False

    def headers(self, headers: Mapping[str, str]) -> None:
        """The answer's headers."""
        for name, value in HEADERS.items():
            if not headers.get(name, "").startswith(value):
                _broken(1, f"{name}: {headers.get(name)!r}")

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        *frames, self._rest = (self._rest + data).split(b"\n\n")
        for frame in frames:
            self._frame(frame.decode())

    def close(self) -> None:
        """The stream has ended, and nothing broke it off."""
        if self._rest:
            _broken(1, f"an unfinished event: {self._rest!r}")
        if not self._done:
            _broken(2, "the stream ended without [DONE]")

    def _frame(self, frame: str) -> None:
        if self._done:
            _broken(2, f"after [DONE]: {frame!r}")
        if frame.startswith(":"):
            if any(not line.startswith(":") for line in frame.split("\n")):
                _broken(1, f"a comment that is none: {frame!r}")
        elif not frame.startswith("data: ") or len(frame.splitlines()) != 1:
            _broken(1, f"not one event of one line: {frame!r}")
        elif frame == "data: [DONE]":
            self._end()
        else:
            self._event(json.loads(frame[6:], parse_constant=_no_constant))

    def _event(self, data: Json) -> None:
        if self._failed:
            _broken(3, f"after an error: {data}")
        if "error" in data:
            self._failed = True
            _valid(_ErrorEvent, data, 3)
            return
        if self._usage_seen is not None and not self._continuous:
            _broken(9, f"after the usage: {data}")
        _valid(ChatChunk if self._chat else CompletionChunk, data, 4)
        self._check_head(data)
        self._check_usage(data)
        if len(data["choices"]) > 1:
            _broken(6, f"several choices in one chunk: {data}")
        for choice in data["choices"]:
            self._check_choice(choice)

    def _end(self) -> None:
        self._done = True
        if self._failed:
            return
        for index, choice in enumerate(self._choices):
            if choice.reason is None:
                _broken(7, f"choice {index} has no finish_reason")
        if self._usage_asked and self._usage_seen is None:
            _broken(9, "no chunk of usage")

    def _check_head(self, data: Json) -> None:
        head = tuple(
            data[key] for key in ("id", "object", "created", "model", "system_fingerprint")
        )
        if self._head not in (None, head):
            _broken(4, f"{head} after {self._head}")
        self._head = head
        if not data["id"].startswith("chatcmpl-" if self._chat else "cmpl-"):
            _broken(4, f"the id {data['id']!r}")
        if data["model"] != (self._request.get("model") or data["model"]):
            _broken(4, f"the model {data['model']!r}")

    def _check_usage(self, data: Json) -> None:
        last = not data["choices"]
        if ("usage" in data) != self._usage_asked:
            _broken(9, f"usage, asked for: {self._usage_asked}: {data}")
        usage = data.get("usage")
        if (usage is not None) != (last or self._continuous):
            _broken(9, f"usage beside choices: {data}")
        if last and any(choice.reason is None for choice in self._choices):
            _broken(9, "usage before the choices have ended")
        if usage is None:
            return
        prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
        if usage["total_tokens"] != prompt + completion:
            _broken(10, f"the total of {usage}")
        if usage["prompt_tokens_details"]["cached_tokens"] > prompt:
            _broken(10, f"more cached than there is: {usage}")
        if usage["completion_tokens_details"]["reasoning_tokens"] > completion:
            _broken(10, f"more reasoning than there is: {usage}")
        before = self._usage_seen or usage
        if prompt != before["prompt_tokens"] or completion < before["completion_tokens"]:
            _broken(10, f"{usage} after {before}")
        self._usage_seen = usage

    def _check_choice(self, data: Json) -> None:
        index = data["index"]
        if index >= len(self._choices):
            _broken(6, f"choice {index} of {len(self._choices)}")
        choice = self._choices[index]
        if choice.reason is not None:
            _broken(7, f"choice {index} goes on after its finish_reason: {data}")
        if self._chat:
            self._check_delta(index, choice, data)
        else:
            self._check_text(choice, data)
        if data["finish_reason"] is not None:
            choice.reason = data["finish_reason"]
            self._check_reason(choice, data)

    def _check_delta(self, index: int, choice: _Choice, data: Json) -> None:
        delta = data["delta"]
        if choice.begun == ("role" in delta):
            _broken(5, f"the role comes once, and first: {data}")
        if not choice.begun:
            if any(not before.begun for before in self._choices[:index]):
                _broken(6, f"choice {index} before those in front of it")
            choice.begun = True
        elif (data["finish_reason"] is None) == (delta == {}):
            _broken(7, f"the finish_reason comes in a chunk of its own: {data}")
        for call in delta.get("tool_calls", ()):
            self._check_call(choice, call)
        self._check_logprobs(data)

    def _check_call(self, choice: _Choice, call: Json) -> None:
        if "id" not in call:
            if call["index"] != choice.calls - 1:
                _broken(12, f"more of a call that is not the last: {call}")
            return
        if call["index"] != choice.calls:
            _broken(12, f"call number {choice.calls} is {call}")
        choice.calls += 1
        if call["id"] in self._call_ids or not call["id"].startswith("call_"):
            _broken(13, f"the id of {call}")
        self._call_ids.add(call["id"])
        if not call["function"]["name"]:
            _broken(11, f"a call of nothing: {call}")

    def _check_reason(self, choice: _Choice, data: Json) -> None:
        reason = choice.reason
        if not self._chat and data["text"]:
            _broken(8, f"the end of a completion: {data}")
        named = isinstance(self._request.get("tool_choice"), dict) and (
            self._request["tool_choice"].get("type") == "function"
        )
        if reason == "tool_calls" and (not choice.calls or named):
            _broken(15, f"{choice.calls} calls, named: {named}: {data}")
        stops = self._request.get("stop") or self._request.get("stop_token_ids")
        if reason == "stop" and choice.calls and not (named or stops):
            _broken(15, f"{choice.calls} calls, and: {data}")

    def _check_logprobs(self, data: Json) -> None:
        asked, logprobs = self._request.get("logprobs"), data["logprobs"]
        if logprobs is None:
            return
        if not asked:
            _broken(16, f"nobody asked for log-probabilities: {data}")
        most = self._request.get("top_logprobs") or 0
        if any(len(entry["top_logprobs"]) > most for entry in logprobs["content"]):
            _broken(16, f"more than {most} at a place: {data}")

    def _check_text(self, choice: _Choice, data: Json) -> None:
        choice.begun = True
        logprobs = data["logprobs"]
        if logprobs is None:
            return
        if self._request.get("logprobs") is None:
            _broken(17, f"nobody asked for log-probabilities: {data}")
        if len({len(logprobs[name]) for name in logprobs}) > 1:
            _broken(17, f"lists of different lengths: {data}")
        for offset in logprobs["text_offset"]:
            if offset < choice.offset:
                _broken(17, f"an offset before {choice.offset}: {data}")
            choice.offset = offset


def check_stream(path: str, request: Json, text: bytes) -> None:
    """Check a stream that is there as a whole."""
    rules = StreamRules(path, request)
    rules.feed(text)
    rules.close()


def _rows(request: Json, *, chat: bool) -> int:
    prompt = request.get("prompt")
    several = not chat and isinstance(prompt, list) and prompt and not isinstance(prompt[0], int)
    return (len(prompt) if several else 1) * (request.get("n") or 1)


def _valid(kind: type[BaseModel], data: Json, rule: int) -> None:
    try:
        kind.model_validate(data)
    except ValidationError as error:
        raise BrokenRule(f"rule {rule}: {error}") from error


def _no_constant(name: str) -> NoReturn:
    _broken(16, f"{name} is no JSON")


def _broken(rule: int, what: str) -> NoReturn:
    raise BrokenRule(f"rule {rule}: {what}")
