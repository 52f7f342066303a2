"""Requests of /tokenize and /detokenize, in vLLM's shape."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from sluice_gateway.schema.chat import CONVERSATION_UNSUPPORTED, MESSAGES_MAX, Conversation
from sluice_gateway.schema.messages import Message
from sluice_gateway.schema.sampling import TokenId
from sluice_gateway.schema.strict import INVALID, MISSING, Strict, refuse

# The most characters of a text, or of all strings of a conversation, that /tokenize reads, and
# the most ids that /detokenize does. No context bounds them, as it does a prompt.
TOKENIZE_CHARACTERS_MAX = 1_000_000
DETOKENIZE_IDS_MAX = 1_000_000

ModelName = Annotated[str, Field(min_length=1, max_length=512)]


class TokenizeRequest(Conversation):
    """A text or a conversation to tokenize: either ``prompt`` or ``messages``.

    ``add_special_tokens`` None: yes for a text, no for a conversation, whose template writes
    them itself.
    """

    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
        {
            **{
                name: neutral
                for name, neutral in CONVERSATION_UNSUPPORTED.items()
                if name != "add_special_tokens"
            },
            "return_token_strs": (False,),
        }
    )

    model: ModelName | None = None
    prompt: Annotated[str, Field(max_length=TOKENIZE_CHARACTERS_MAX)] | None = None
    messages: Annotated[list[Message], Field(max_length=MESSAGES_MAX, fail_fast=True)] = Field(
        default_factory=list
    )
    add_special_tokens: bool | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> TokenizeRequest:
        if self.prompt is None and not self.messages:
            refuse(MISSING, "Give 'prompt' or 'messages'.", "prompt")
        if self.prompt is not None and self.messages:
            refuse(INVALID, "Give either 'prompt' or 'messages'.", "prompt")
        return self


class DetokenizeRequest(Strict):
    """Token ids to turn into text."""

    model: ModelName | None = None
    tokens: Annotated[list[TokenId], Field(max_length=DETOKENIZE_IDS_MAX, fail_fast=True)]
