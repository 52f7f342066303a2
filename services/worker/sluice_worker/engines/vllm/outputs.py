"""From vLLM's outputs to rows of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vllm.outputs import CompletionOutput, RequestOutput

from sluice_worker.engines.base import (
    ErrorCode,
    FinishReason,
    GenerationRequest,
    PromptLogprobs,
    RequestError,
    RowFinish,
    RowKey,
    RowOutput,
    RowStart,
    TokenLogprobs,
)

#: As the contract's floor: a probability of nothing has no finite logarithm.
_LEAST = -9999.0


@dataclass(frozen=True, slots=True)
class Asked:
    """How many alternatives a request wants beside each log-probability; None: it wants none.

    ``prompt_length`` is the prompt's, without what was generated of a row elsewhere.
    """

    logprobs: int | None
    prompt_logprobs: int | None
    prompt_length: int

    @classmethod
    def of(cls, request: GenerationRequest) -> Asked:
        """What the request's rows are asked."""
        sampling = request.sampling
        return cls(sampling.logprobs, sampling.prompt_logprobs, len(request.prompt_ids))


def row_output(key: RowKey, output: RequestOutput, asked: Asked, *, begins: bool) -> RowOutput:
    """What one step brought for a row."""
    made = output.outputs[0]
    logprobs = asked.logprobs
    token_ids = list(made.token_ids)
    return RowOutput(
        key,
        token_ids,
        start=_start(output) if begins else None,
        logprobs=_logprobs(token_ids, made.logprobs, logprobs) if logprobs is not None else None,
        finish=_finish(made, token_ids),
        prompt_logprobs=_of_prompt(output, asked) if output.prompt_logprobs else None,
    )


def _of_prompt(output: RequestOutput, asked: Asked) -> PromptLogprobs | None:
    """Log-probabilities of the prompt, of whose first token there is none."""
    ids = output.prompt_token_ids[1 : asked.prompt_length]
    found = output.prompt_logprobs[1 : asked.prompt_length]
    if not ids:
        return None
    return PromptLogprobs(1, _logprobs(ids, found, asked.prompt_logprobs or 0))


def _start(output: RequestOutput) -> RowStart:
    stats = output.metrics
    if stats is None:
        return RowStart(0.0, 0.0, output.num_cached_tokens or 0)
    return RowStart(
        queue_seconds=max(0.0, stats.scheduled_ts - stats.queued_ts),
        prefill_seconds=max(0.0, stats.first_token_ts - stats.scheduled_ts),
        cached_tokens=output.num_cached_tokens or 0,
    )


def _logprobs(token_ids: Sequence[int], found: Any, count: int) -> list[TokenLogprobs]:
    positions = []
    for token_id, entries in zip(token_ids, found or (), strict=True):
        ranked = sorted(
            (entry.rank, other, _finite(entry.logprob))
            for other, entry in entries.items()
            if entry.rank is not None and entry.rank <= count
        )
        top = tuple((other, logprob) for _, other, logprob in ranked[:count])
        positions.append(TokenLogprobs(_finite(entries[token_id].logprob), top))
    return positions


def _finite(logprob: float) -> float:
    return max(_LEAST, logprob)  # in this order nan is not, either


def _finish(made: CompletionOutput, token_ids: Sequence[int]) -> RowFinish | None:
    match made.finish_reason:
        case None:
            return None
        case "stop" if token_ids:
            return RowFinish(FinishReason.STOP, stop_token_id=token_ids[-1])
        case "length":
            return RowFinish(FinishReason.LENGTH)
        case reason:
            return RowFinish(FinishReason.ERROR, error=_failure(str(reason)))


def _failure(reason: str) -> RequestError:
    return RequestError(
        ErrorCode.INTERNAL, f"vLLM ended this row ({reason}); the worker's log may say more."
    )
