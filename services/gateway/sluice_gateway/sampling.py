"""From what the client asked for to the contract's sampling parameters."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from sluice.worker.v1 import worker_pb2 as pb

from sluice_gateway.model import GenerationDefaults
from sluice_gateway.schema.sampling import SamplingRequest

_SEED_MASK = (1 << 64) - 1


def sampling_params(
    request: SamplingRequest,
    defaults: GenerationDefaults,
    max_tokens: int,
    structured: pb.StructuredOutput | None = None,
    *,
    bad_words: Sequence[Sequence[int]] = (),
    thinking: pb.ThinkingBudget | None = None,
) -> pb.SamplingParams:
    """Merge the client's word, the model's own defaults and OpenAI's, in this order.

    ``structured``: the form that the answer must have, if one was asked for. ``bad_words``: the
    ids of what may not be generated. ``thinking``: how long the model may reason.
    """

    def merged(name: str, otherwise: float) -> float:
        for source in (request, defaults):
            value: float | None = getattr(source, name)
            if value is not None:
                return value
        return otherwise

    logprobs = request.top_count
    if logprobs is None and request.candidates > request.n:
        logprobs = 0  # they are ranked by those of their tokens
    return pb.SamplingParams(
        max_tokens=max_tokens,
        min_tokens=request.min_tokens or 0,
        temperature=merged("temperature", 1.0),
        top_p=merged("top_p", 1.0),
        top_k=int(merged("top_k", 0)),
        min_p=merged("min_p", 0.0),
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        repetition_penalty=merged("repetition_penalty", 1.0),
        logit_bias=request.logit_bias or {},
        stop_token_ids=request.stop_token_ids or (),
        ignore_eos=request.ignore_eos,
        logprobs=logprobs,
        allowed_token_ids=request.allowed_token_ids or (),
        seeded=request.seed is not None,
        structured_output=structured,
        prompt_logprobs=request.prompt_top_count,
        thinking_budget=thinking,
        bad_words=[pb.TokenSequence(ids=ids) for ids in bad_words],
    )


def row_seeds(seed: int | None, count: int) -> list[int]:
    """One seed for each row: drawn at random, or counted up from the client's.

    So the first choice of a request with a seed is the same whatever ``n`` is.
    """
    if seed is None:
        return [secrets.randbits(64) for _ in range(count)]
    return [(seed + number) & _SEED_MASK for number in range(count)]
