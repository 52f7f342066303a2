"""Requests of /v1/completions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, cast

from pydantic import Discriminator, Field, Tag, model_validator

from sluice_gateway.schema.sampling import CHOICES_MAX, INT32_MAX, SamplingRequest, TokenId
from sluice_gateway.schema.strict import INVALID, INVALID_TYPE, refuse
from sluice_gateway.schema.structured import StructuredFields

DEFAULT_MAX_TOKENS = 16
LOGPROBS_MAX = 5
PROMPT_IDS_MAX = 4_000_000


def _kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "<text>"
    if not isinstance(value, list):
        return None
    if not value or isinstance(value[0], str):
        return "<texts>"
    return "<lists>" if isinstance(value[0], list) else "<ids>"


Ids = Annotated[list[TokenId], Field(min_length=1, max_length=PROMPT_IDS_MAX, fail_fast=True)]
Texts = Annotated[list[str], Field(min_length=1, max_length=CHOICES_MAX, fail_fast=True)]
IdLists = Annotated[list[Ids], Field(min_length=1, max_length=CHOICES_MAX, fail_fast=True)]
PromptField = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[Texts, Tag("<texts>")]
    | Annotated[Ids, Tag("<ids>")]
    | Annotated[IdLists, Tag("<lists>")],
    Discriminator(
        _kind,
        custom_error_type=INVALID_TYPE,
        custom_error_message="Expected a string, a list of strings, or token ids.",
    ),
]


class CompletionRequest(SamplingRequest, StructuredFields):
    """A validated request for completions."""

    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
        {
            **SamplingRequest.unsupported,
            "add_special_tokens": (True,),
            "suffix": ("",),
            "thinking_token_budget": (-1,),
        }
    )

    prompt: PromptField
    # 0: nothing but the prompt, for ``echo``.
    max_tokens: Annotated[int, Field(ge=0, le=INT32_MAX)] | None = None
    best_of: Annotated[int, Field(ge=1, le=CHOICES_MAX)] | None = None
    echo: bool = False
    logprobs: Annotated[int, Field(ge=0, le=LOGPROBS_MAX)] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, each as text or as token ids."""
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return cast("list[str | list[int]]", self.prompt)

    @property
    def candidates(self) -> int:
        """See SamplingRequest."""
        return self.best_of or self.n

    @property
    def top_count(self) -> int | None:
        """See SamplingRequest."""
        return self.logprobs

    @property
    def prompt_top_count(self) -> int | None:
        """See SamplingRequest."""
        return self.logprobs if self.echo else None

    @model_validator(mode="after")
    def _bounded(self) -> CompletionRequest:
        if self.candidates < self.n:
            refuse(INVALID, "'best_of' must not be below 'n'.", "best_of")
        if self.candidates > self.n and self.stream:
            message = (
                "'best_of' above 'n' excludes 'stream': which are the best is known at the end."
            )
            refuse(INVALID, message, "best_of")
        if self.max_tokens == 0 and not self.echo:
            refuse(INVALID, "'max_tokens' may be 0 only together with 'echo'.", "max_tokens")
        choices = len(self.prompts) * self.candidates
        if choices > CHOICES_MAX:
            field = "n" if self.candidates == self.n else "best_of"
            message = (
                f"Expected at most {CHOICES_MAX} choices, but prompts times {field} is {choices}."
            )
            refuse(INVALID, message, field)
        return self
