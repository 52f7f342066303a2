"""OpenAI's stream and answer objects with nothing optional that a client relies on."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CachedTokens(Strict):
    cached_tokens: int


class ReasoningTokens(Strict):
    reasoning_tokens: int


class UsageObject(Strict):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens


class Token(Strict):
    token: str
    logprob: float
    bytes: list[int]


class ScoredToken(Token):
    top_logprobs: list[Token]


class ChatLogprobs(Strict):
    content: list[ScoredToken]
    refusal: None


class CompletionLogprobs(Strict):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


Reason = Literal["stop", "length", "tool_calls"]


class RoleDelta(Strict):
    role: Literal["assistant"]
    content: Literal[""]


class ContentDelta(Strict):
    content: str


class ReasoningDelta(Strict):
    reasoning_content: str


class StartedFunction(Strict):
    name: str
    arguments: Literal[""]


class StartedCall(Strict):
    index: int
    id: str
    type: Literal["function"]
    function: StartedFunction


class MoreArguments(Strict):
    arguments: str


class GrowingCall(Strict):
    index: int
    function: MoreArguments


class CallDelta(Strict):
    tool_calls: list[StartedCall | GrowingCall]


class EmptyDelta(Strict):
    pass


class ChunkChoice(Strict):
    index: int
    delta: RoleDelta | ContentDelta | ReasoningDelta | CallDelta | EmptyDelta
    logprobs: ChatLogprobs | None
    finish_reason: Reason | None
    token_ids: list[int] = []


class Head(Strict):
    id: str
    created: int
    model: str
    system_fingerprint: str | None
    service_tier: str = ""
    prompt_token_ids: list[int] = []


class ChatChunk(Head):
    object: Literal["chat.completion.chunk"]
    choices: list[ChunkChoice]
    usage: UsageObject | None = None


class CompletionChoice(Strict):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Reason | None
    token_ids: list[int] = []
    prompt_token_ids: list[int] = []


class CompletionChunk(Head):
    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    usage: UsageObject | None = None


class WholeFunction(Strict):
    name: str
    arguments: str


class WholeCall(Strict):
    id: str
    type: Literal["function"]
    function: WholeFunction


class WholeMessage(Strict):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str = ""
    tool_calls: list[WholeCall] = []


class WholeChatChoice(Strict):
    index: int
    message: WholeMessage
    logprobs: ChatLogprobs | None
    finish_reason: Reason
    token_ids: list[int] = []


class WholeChat(Head):
    object: Literal["chat.completion"]
    choices: list[WholeChatChoice]
    usage: UsageObject


class WholeCompletionChoice(CompletionChoice):
    finish_reason: Reason


class WholeCompletion(Head):
    object: Literal["text_completion"]
    choices: list[WholeCompletionChoice]
    usage: UsageObject
