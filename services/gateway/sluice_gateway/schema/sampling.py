"""The fields that chat and completion requests share: sampling, stopping, streaming."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sluice_gateway.schema.strict import INVALID, INVALID_TYPE, Strict, refuse

INT32_MAX = 2**31 - 1
CHOICES_MAX = 128
STOPS_MAX = 16
METADATA_MAX = 16
STOP_LENGTH_MAX = 1024
LOGIT_BIAS_MAX = 1024
STOP_IDS_MAX = 128
ALLOWED_IDS_MAX = 1024
BAD_WORDS_MAX = 64
BAD_WORD_LENGTH_MAX = 256
# 0 asks for the most likely token alone, which is what any tiny nucleus holds.
TOP_P_MIN = 1e-6

_ID = re.compile(r"0|[1-9][0-9]{0,9}")

TokenId = Annotated[int, Field(ge=0, le=INT32_MAX)]


def _as_list(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        refuse(INVALID_TYPE, "Expected a string or a list of strings.")
    return value


def _by_token_id(value: Any) -> Any:
    if not isinstance(value, dict):
        refuse(INVALID_TYPE, "Expected an object that maps token ids to numbers.")
    if len(value) > LOGIT_BIAS_MAX:
        refuse(INVALID, f"Expected at most {LOGIT_BIAS_MAX} token ids, but got {len(value)}.")
    for key in value:
        if not _ID.fullmatch(key) or int(key) > INT32_MAX:
            refuse(INVALID, "Expected token ids, which are whole numbers, as keys.")
    return {int(key): bias for key, bias in value.items()}


def _off_as_zero(value: int) -> int:
    return max(value, 0)


def _never_empty_nucleus(value: float) -> float:
    return max(value, TOP_P_MIN)


def _few_pairs(value: Any) -> Any:
    # Pydantic counts only after it has looked at, and made an error of, each of them.
    if isinstance(value, dict) and len(value) > METADATA_MAX:
        refuse(INVALID, f"Expected at most {METADATA_MAX} pairs, but got {len(value)}.")
    return value


def _none_if_empty(value: list[str]) -> list[str] | None:
    return value or None


StopString = Annotated[str, Field(min_length=1, max_length=STOP_LENGTH_MAX)]
Stops = Annotated[list[StopString], Field(max_length=STOPS_MAX, fail_fast=True)]
StopList = Annotated[Stops, BeforeValidator(_as_list, json_schema_input_type=StopString | Stops)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Bias = Annotated[
    dict[int, Annotated[float, Field(ge=-100, le=100)]],
    BeforeValidator(_by_token_id),
    Field(
        json_schema_extra={
            "maxProperties": LOGIT_BIAS_MAX,
            "propertyNames": {"pattern": f"^({_ID.pattern})$"},
        }
    ),
]
Label = Annotated[str, Field(max_length=1024)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    BeforeValidator(_few_pairs),
    Field(json_schema_extra={"maxProperties": METADATA_MAX}),
]


class StreamOptions(Strict):
    """What a stream tells besides its text."""

    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_timings: bool = False
    # A hint: it asks for padding that hides the lengths of tokens from who watches the wire, or
    # waives it. Either is accepted, and no padding is sent.
    include_obfuscation: bool = False


class SamplingRequest(Strict):
    """How to sample, where to stop, what to tell. None: the client did not say.

    Counts are in tokens. What the client does not say is the model's own default, and after
    that OpenAI's.
    """

    unsupported: ClassVar[Mapping[str, tuple[Any, ...]]] = MappingProxyType(
        {
            # Names of vLLM's extensions that other servers take.
            "cache_salt": (),
            "early_stopping": (False,),
            "guided_choice": (),
            "guided_decoding_backend": (),
            "guided_grammar": (),
            "guided_json": (),
            "guided_regex": (),
            "guided_whitespace_pattern": (),
            "kv_transfer_params": (),
            "length_penalty": (1, 1.0),
            "logits_processors": ([],),
            "prompt_logprobs": (),
            "request_id": (),
            "return_tokens_as_token_ids": (False,),
            "spaces_between_special_tokens": (True,),
            "truncate_prompt_tokens": (),
            "use_beam_search": (False,),
            "vllm_xargs": (),
        }
    )

    # None: the only model there is.
    model: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    n: Annotated[int, Field(ge=1, le=CHOICES_MAX)] = 1
    max_tokens: Annotated[int, Field(ge=1, le=INT32_MAX)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=INT32_MAX)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1), AfterValidator(_never_empty_nucleus)] | None = None
    # 0: off. Clients may write -1 for it.
    top_k: Annotated[int, Field(ge=-1, le=INT32_MAX), AfterValidator(_off_as_zero)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    logit_bias: Bias | None = None
    allowed_token_ids: (
        Annotated[list[TokenId], Field(min_length=1, max_length=ALLOWED_IDS_MAX, fail_fast=True)]
        | None
    ) = None
    bad_words: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=BAD_WORD_LENGTH_MAX)]],
            Field(max_length=BAD_WORDS_MAX, fail_fast=True),
            AfterValidator(_none_if_empty),
        ]
        | None
    ) = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None

    stop: StopList | None = None
    stop_token_ids: (
        Annotated[list[TokenId], Field(max_length=STOP_IDS_MAX, fail_fast=True)] | None
    ) = None
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True

    stream: bool = False
    stream_options: StreamOptions | None = None
    return_token_ids: bool = False

    # Accepted because they ask nothing of us.
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    metadata: Metadata | None = None
    # Told back in the answer. There is one tier, so all of OpenAI's names mean it.
    service_tier: Literal["auto", "default", "flex", "priority", "scale"] | None = None
    # The lower the value, the earlier it is served of requests that wait.
    priority: Annotated[int, Field(ge=-INT32_MAX - 1, le=INT32_MAX)] | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def continuous_usage(self) -> bool:
        """Whether every chunk of a stream has the usage so far.

        As in vLLM, only together with ``include_usage``.
        """
        return self.include_usage and bool(
            self.stream_options and self.stream_options.continuous_usage_stats
        )

    @property
    def include_timings(self) -> bool:
        """Whether the chunk of usage has ``timings``, too."""
        return self.include_usage and bool(
            self.stream_options and self.stream_options.include_timings
        )

    @property
    def token_limit(self) -> int | None:
        """The most tokens of one choice that the client wants, or None."""
        return self.max_tokens

    @property
    def candidates(self) -> int:
        """How many rows each prompt has; the best ``n`` of them are answered."""
        return self.n

    @property
    def top_count(self) -> int | None:
        """How many alternatives each log-probability comes with; None: no log-probabilities."""
        return None

    @property
    def prompt_top_count(self) -> int | None:
        """As ``top_count``, of the prompt's tokens."""
        return None

    @model_validator(mode="after")
    def _agree(self) -> SamplingRequest:
        if self.stream_options is not None and not self.stream:
            refuse(INVALID, "'stream_options' needs 'stream': true.", "stream_options")
        options = self.stream_options
        if options is not None and options.include_timings and not options.include_usage:
            message = "'include_timings' needs 'include_usage': true: it comes in that chunk."
            refuse(INVALID, message, "stream_options.include_timings")
        limit = self.token_limit
        if limit is not None and self.min_tokens is not None and self.min_tokens > limit:
            message = f"'min_tokens' must not be above the maximum of {limit} tokens."
            refuse(INVALID, message, "min_tokens")
        return self
