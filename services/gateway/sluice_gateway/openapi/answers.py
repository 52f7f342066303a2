"""The answers of the generating routes: whole, and as the chunks of a stream.

Nothing is made with these types: they are what ``answer.py`` and ``chunks.py`` make, for the
document at /openapi.json, and for the tests, which read real answers with them. A field with a
default is one that may be absent.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """An object with no field but the declared ones."""

    model_config = ConfigDict(extra="forbid", strict=True)


Count = Annotated[int, Field(ge=0)]
CompletionReason = Literal["stop", "length"]
Reason = Literal[CompletionReason, "tool_calls"]


class CachedTokens(Answer):
    """Of the prompt's tokens."""

    cached_tokens: Count = Field(description="Those whose keys and values a worker still had.")


class ReasoningTokens(Answer):
    """Of the generated tokens."""

    reasoning_tokens: Count = Field(description="Those of `reasoning_content`.")


class Usage(Answer):
    """How many tokens a request took, all choices together."""

    prompt_tokens: Count = Field(description="Of the prompt; each prompt counts once.")
    completion_tokens: Count = Field(description="Generated, in all choices.")
    total_tokens: Count = Field(description="Both together.")
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens


class Token(Answer):
    """A token and its log-probability."""

    token: str = Field(description="Its text; U+FFFD where its bytes are no text by themselves.")
    logprob: float = Field(ge=-9999.0, description="Natural logarithm; -9999.0 at the least.")
    bytes: list[Annotated[int, Field(ge=0, le=255)]] = Field(description="Its bytes, exactly.")


class ScoredToken(Token):
    """A generated token, with the likeliest at its place."""

    top_logprobs: list[Token] = Field(description="As many as `top_logprobs` asked for.")


class ChatLogprobs(Answer):
    """Log-probabilities of what is in `content`."""

    content: list[ScoredToken]
    refusal: None = Field(description="Always null: models do not refuse in a field of their own.")


class CompletionLogprobs(Answer):
    """Log-probabilities of a completion: lists with an item for each token."""

    tokens: list[str] = Field(
        description="Their texts; `bytes:\\x..` where a token's bytes are no text by themselves."
    )
    token_logprobs: list[float | None] = Field(
        description="Null for the first token of an echoed prompt, which follows nothing."
    )
    top_logprobs: list[dict[str, float] | None] = Field(
        description="Maps from text to log-probability: the likeliest, and the token itself. Null"
        " where its log-probability is."
    )
    text_offset: list[Count] = Field(description="Where each token's text begins, in characters.")


class Head(Answer):
    """What answers and chunks begin with: the same in all chunks of one stream."""

    id: str = Field(description="`chatcmpl-...` or `cmpl-...`.")
    created: int = Field(description="Seconds since 1970.")
    model: str = Field(description="The model's name.")
    system_fingerprint: str | None = Field(
        description="Changes when the model's numbers may change, or Sluice's version does."
    )
    service_tier: Literal["auto", "default", "flex", "priority", "scale"] = Field(
        "auto", description="What the request said; absent if it said nothing."
    )


class RoleDelta(Answer):
    """The first of each choice."""

    role: Literal["assistant"]
    content: Literal[""]


class ContentDelta(Answer):
    """Text."""

    content: str


class ReasoningDelta(Answer):
    """Reasoning."""

    reasoning_content: str


class StartedFunction(Answer):
    """The function that is called; its arguments follow."""

    name: str
    arguments: Literal[""]


class StartedCall(Answer):
    """The first of each call."""

    index: Count = Field(description="Counts the calls of a choice.")
    id: str = Field(description="`call_...`, or as the model's format has ids.")
    type: Literal["function"]
    function: StartedFunction


class MoreArguments(Answer):
    """A piece of the JSON of a call's arguments."""

    arguments: str


class GrowingCall(Answer):
    """More of a call that has started."""

    index: Count
    function: MoreArguments


class CallDelta(Answer):
    """A piece of a call."""

    tool_calls: list[StartedCall | GrowingCall]


class EmptyDelta(Answer):
    """With the `finish_reason`."""


class ChunkChoice(Answer):
    """What a chunk tells of a choice."""

    index: Count
    delta: RoleDelta | ContentDelta | ReasoningDelta | CallDelta | EmptyDelta
    logprobs: ChatLogprobs | None = Field(description="Of the tokens of this chunk's content.")
    finish_reason: Reason | None = Field(description="Null until the choice's last chunk.")
    token_ids: list[Count] = Field(
        [], description="With `return_token_ids`: the tokens told of with this chunk."
    )


class Timings(Answer):
    """How long the parts of a request took."""

    gateway_seconds: float | None = Field(
        description="Of the time to first token: the gateway's part, and the way to the worker."
    )
    queue_seconds: float | None = Field(description="In the worker's queue.")
    prefill_seconds: float | None = Field(description="The worker's work on the prompt.")
    time_to_first_token_seconds: float | None
    total_seconds: float
    batch_size: float | None = Field(
        description="Mean rows of the engine's steps that the first choice took part in."
    )
    worker: str | None = Field(description="The name of the worker's host.")
    workers_lost: Count = Field(description="Workers that went away before the end.")


class ChatChunk(Head):
    """An event of a chat completion's stream."""

    object: Literal["chat.completion.chunk"]
    prompt_token_ids: list[Count] = Field(
        [], description="With `return_token_ids`: of the prompt, in the first chunk."
    )
    choices: list[ChunkChoice] = Field(description="One; none in the chunk of usage.")
    usage: Usage | None = Field(
        None,
        description="With `include_usage`: null but in the last chunk, or, with"
        " `continuous_usage_stats`, so far.",
    )
    timings: Timings | None = Field(None, description="With `include_timings`, in the last chunk.")


class CompletionChoice(Answer):
    """What a chunk tells of a completion's choice."""

    index: Count = Field(description="Choice `i * n + j` is the j-th of prompt i.")
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: CompletionReason | None = Field(
        description="Null until the choice's last chunk."
    )
    token_ids: list[Count] = Field([], description="With `return_token_ids`.")
    prompt_token_ids: list[Count] = Field(
        [], description="With `return_token_ids`: of the choice's prompt; in streams once."
    )


class CompletionChunk(Head):
    """An event of a completion's stream."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice] = Field(description="One; none in the chunk of usage.")
    usage: Usage | None = Field(None, description="As in a chat's chunks.")
    timings: Timings | None = Field(None, description="As in a chat's chunks.")


class WholeFunction(Answer):
    """The function that is called."""

    name: str
    arguments: str = Field(description="JSON, as the model wrote it.")


class WholeCall(Answer):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: WholeFunction


class WholeMessage(Answer):
    """The answer to a conversation."""

    role: Literal["assistant"]
    content: str | None = Field(description="Null beside `tool_calls` if there is no text.")
    refusal: None = Field(description="Always null.")
    reasoning_content: str = Field("", description="What the model thought, if it did.")
    tool_calls: list[WholeCall] = Field([], description="Absent when there are none.")


class WholeChatChoice(Answer):
    """A choice of a chat completion."""

    index: Count
    message: WholeMessage
    logprobs: ChatLogprobs | None = Field(description="Null unless asked for.")
    finish_reason: Reason = Field(
        description="`tool_calls` when tools were called, `stop` when the one that had to be."
    )
    token_ids: list[Count] = Field([], description="With `return_token_ids`.")


class WholeChat(Head):
    """A chat completion."""

    object: Literal["chat.completion"]
    prompt_token_ids: list[Count] = Field([], description="With `return_token_ids`: of the prompt.")
    choices: list[WholeChatChoice]
    usage: Usage


class WholeCompletionChoice(CompletionChoice):
    """A choice of a completion."""

    finish_reason: CompletionReason


class WholeCompletion(Head):
    """A completion."""

    object: Literal["text_completion"]
    choices: list[WholeCompletionChoice]
    usage: Usage
