"""From the contract's sampling parameters to vLLM's, field by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.sampling_params import SamplingParams as VllmSamplingParams

from sluice_worker.engines.bad_words import straddled
from sluice_worker.engines.base import (
    ErrorCode,
    RequestError,
    RowSpec,
    SamplingParams,
)

#: Of the contract's later fields, those that this engine honours.
REQUEST_FIELDS = frozenset({"bad_words", "priority", "prompt_logprobs", "thinking_budget"})

#: vLLM's seeds are signed.
_SEED_MASK = (1 << 63) - 1

#: vLLM's backend for grammars: llguidance, as in the hf engine.
GRAMMAR_BACKEND = "guidance"

Convert = Callable[[Any, int], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """vLLM's name for a field, and its value from ours and the count of tokens generated before."""

    name: str
    convert: Convert


def _same(value: Any, generated: int) -> Any:
    return value


#: Every field of ``SamplingParams``; tests see that none is missing.
FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        # To vLLM, tokens that were generated before are part of the prompt.
        "max_tokens": Field("max_tokens", lambda value, generated: value - generated),
        "min_tokens": Field("min_tokens", lambda value, generated: max(0, value - generated)),
        "temperature": Field("temperature", _same),
        "top_p": Field("top_p", _same),
        "top_k": Field("top_k", _same),
        "min_p": Field("min_p", _same),
        "presence_penalty": Field("presence_penalty", _same),
        "frequency_penalty": Field("frequency_penalty", _same),
        "repetition_penalty": Field("repetition_penalty", _same),
        "logit_bias": Field("logit_bias", lambda value, generated: dict(value) or None),
        "stop_token_ids": Field("stop_token_ids", lambda value, generated: list(value)),
        "ignore_eos": Field("ignore_eos", _same),
        "logprobs": Field("logprobs", _same),
        "allowed_token_ids": Field(
            "allowed_token_ids", lambda value, generated: list(value) or None
        ),
        # vLLM's own name for words is that of text, which it would tokenize.
        "bad_words": Field(
            "_bad_words_token_ids", lambda value, generated: [list(word) for word in value] or None
        ),
        "prompt_logprobs": Field("prompt_logprobs", _same),
        # The engine knows the prompt, and so what is left of it.
        "thinking_budget": Field("thinking_token_budget", lambda value, generated: None),
        # The engine puts the compiled grammar in its place.
        "structured_output": Field("structured_outputs", lambda value, generated: None),
    }
)


def vllm_sampling_params(
    sampling: SamplingParams, row: RowSpec, *, tells_prompt: bool = True
) -> VllmSamplingParams:
    """One row's parameters as vLLM has them. Raises RequestError for what it cannot go on with.

    ``tells_prompt``: the row is the one of its request that tells of the prompt, if one is to.
    """
    generated = len(row.generated_ids)
    if generated:
        _check_can_go_on(sampling, row)
    values = {
        field.name: field.convert(getattr(sampling, name), generated)
        for name, field in FIELDS.items()
    }
    if not tells_prompt:
        values["prompt_logprobs"] = None
    return VllmSamplingParams(
        **values,
        seed=row.seed & _SEED_MASK if sampling.seeded else None,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        skip_clone=True,  # these are for one request alone
    )


def _check_can_go_on(sampling: SamplingParams, row: RowSpec) -> None:
    """To vLLM, all that looks at generated tokens begins with a request's own first one."""
    hindrances = {
        "structured_output": sampling.structured_output,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "bad_words in the middle of one": straddled(sampling.bad_words, row.generated_ids),
    }
    for name, value in hindrances.items():
        if value:
            raise RequestError(
                ErrorCode.INVALID_ARGUMENT,
                f"This model's engine cannot go on with a row that has a {name}.",
                "rows.generated_ids",
            )


def structured_outputs(grammar: str) -> StructuredOutputsParams:
    """A compiled grammar as vLLM's core takes it from vLLM's own check."""
    output = StructuredOutputsParams(grammar=grammar)
    output._backend = GRAMMAR_BACKEND  # noqa: SLF001 (where that check would put it)
    return output
