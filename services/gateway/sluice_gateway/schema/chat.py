"""Requests of /v1/chat/completions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sluice_gateway.schema.messages import Message
from sluice_gateway.schema.sampling import INT32_MAX, SamplingRequest
from sluice_gateway.schema.strict import INVALID, INVALID_TYPE, refuse
from sluice_gateway.schema.structured import ReasoningFields, StructuredFields
from sluice_gateway.schema.tools import ToolFields

MESSAGES_MAX = 4096
TOP_LOGPROBS_MAX = 20
VARIABLES_MAX = 16
VARIABLE_LENGTH_MAX = 1024

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")

Variable = str | int | float | bool


def _scalars(value: Any) -> Any:
    if not isinstance(value, dict):
        refuse(INVALID_TYPE, "Expected an object.")
    if len(value) > VARIABLES_MAX:
        refuse(INVALID, f"Expected at most {VARIABLES_MAX} keys, but got {len(value)}.")
    for key, one in value.items():
        if not _NAME.fullmatch(key):
            refuse(INVALID, "Expected names of template variables as keys.")
        if not isinstance(one, (str, int, float, bool)):
            refuse(INVALID_TYPE, "Expected a string, number or boolean.", key)
        if isinstance(one, str) and len(one) > VARIABLE_LENGTH_MAX:
            refuse(INVALID, f"Expected at most {VARIABLE_LENGTH_MAX} characters.", key)
        if isinstance(one, (int, float)) and not -INT32_MAX <= one <= INT32_MAX:
            refuse(INVALID, "The number is too large.", key)
    return value


Variables = Annotated[
    dict[str, Any],
    BeforeValidator(_scalars),
    Field(
        json_schema_extra={
            "maxProperties": VARIABLES_MAX,
            "propertyNames": {"pattern": f"^{_NAME.pattern}$"},
            "additionalProperties": {
                "anyOf": [
                    {"type": "string", "maxLength": VARIABLE_LENGTH_MAX},
                    {"type": "number", "minimum": -INT32_MAX, "maximum": INT32_MAX},
                    {"type": "boolean"},
                ]
            },
        }
    ),
]


def _off_as_none(value: int) -> int | None:
    return None if value < 0 else value


class Conversation(ToolFields, ReasoningFields):
    """What a chat template makes a prompt of.

    ``chat_template_kwargs`` are variables for the template; which names are allowed is for the
    PromptBuilder to say.
    """

    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES_MAX, fail_fast=True)]
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False
    chat_template_kwargs: Variables | None = None

    @property
    def opens_answer(self) -> bool:
        """Whether the prompt ends with the beginning of a new answer."""
        if self.add_generation_prompt is None:
            return not self.continue_final_message
        return self.add_generation_prompt

    @model_validator(mode="after")
    def _continues_an_answer(self) -> Conversation:
        if self.continue_final_message and self.add_generation_prompt:
            message = "'continue_final_message' and 'add_generation_prompt' exclude each other."
            refuse(INVALID, message, "continue_final_message")
        last = self.messages[-1].role if self.messages else None
        if self.continue_final_message and last != "assistant":
            message = "'continue_final_message' needs a last message with role 'assistant'."
            refuse(INVALID, message, "continue_final_message")
        return self


CONVERSATION_UNSUPPORTED: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "add_special_tokens": (False,),
        # A template decides what is a special token: never a client's.
        "chat_template": (),
        "documents": ([],),
        "media_io_kwargs": (),
        "mm_processor_kwargs": (),
    }
)


class ChatRequest(SamplingRequest, Conversation, StructuredFields):
    """A validated request for chat completions."""

    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
        {
            **SamplingRequest.unsupported,
            **CONVERSATION_UNSUPPORTED,
            "audio": (),
            "best_of": (),
            "echo": (False,),
            "function_call": ("none", "auto"),
            "functions": ([],),
            "include_reasoning": (True,),
            "modalities": (["text"],),
            "moderation": (),
            "prediction": (),
            "prompt_cache_options": (),
            "prompt_cache_retention": (),
            "store": (False,),
            "verbosity": (),
            "web_search_options": (),
        }
    )

    # None: no bound. Clients may write -1 for it.
    thinking_token_budget: (
        Annotated[int, Field(ge=-1, le=INT32_MAX), AfterValidator(_off_as_none)] | None
    ) = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=INT32_MAX)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=TOP_LOGPROBS_MAX)] | None = None

    @property
    def token_limit(self) -> int | None:
        """See SamplingRequest; ``max_completion_tokens`` wins."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def top_count(self) -> int | None:
        """See SamplingRequest."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @model_validator(mode="after")
    def _top_of_logprobs(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            refuse(INVALID, "'top_logprobs' needs 'logprobs': true.", "top_logprobs")
        return self
