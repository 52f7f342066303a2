"""From vLLM's outputs to rows of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm.outputs import CompletionOutput, RequestOutput

from sluice_worker.engines.base import (
    ErrorCode,
    FinishReason,
    RequestError,
    RowFinish,
    RowKey,
    RowOutput,
    RowStart,
    TokenLogprobs,
)

#: As the contract's floor: a probability of nothing has no finite logarithm.
_LEAST = -9999.0


def row_output(
    key: RowKey, output: RequestOutput, logprobs: int | None, *, begins: bool
) -> RowOutput:
    """What one step brought for a row. ``logprobs`` is how many alternatives were asked for."""
    made = output.outputs[0]
    token_ids = list(made.token_ids)
    return RowOutput(
        key,
        token_ids,
        start=_start(output) if begins else None,
        logprobs=_logprobs(token_ids, made.logprobs, logprobs) if logprobs is not None else None,
        finish=_finish(made, token_ids),
    )


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
