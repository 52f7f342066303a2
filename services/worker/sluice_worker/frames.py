"""From what an engine says to the contract's messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker.engines.base import (
    ErrorCode,
    FinishReason,
    PromptLogprobs,
    RequestError,
    RowKey,
    RowOutput,
    TokenLogprobs,
)

#: Prompt tokens of one frame: far below gRPC's limit, and a few milliseconds of a gateway's time.
PROMPT_PIECE = 256

_ERROR_CODES = {
    ErrorCode.INVALID_ARGUMENT: pb.ERROR_CODE_INVALID_ARGUMENT,
    ErrorCode.CONTEXT_LENGTH_EXCEEDED: pb.ERROR_CODE_CONTEXT_LENGTH_EXCEEDED,
    ErrorCode.UNAVAILABLE: pb.ERROR_CODE_UNAVAILABLE,
    ErrorCode.OVERLOADED: pb.ERROR_CODE_OVERLOADED,
    ErrorCode.INTERNAL: pb.ERROR_CODE_INTERNAL,
}
_FINISH_REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.ERROR: pb.FINISH_REASON_ERROR,
}


def error_message(error: RequestError) -> pb.Error:
    """A RequestError as the contract has it."""
    return pb.Error(code=_ERROR_CODES[error.code], message=error.message, field=error.field)


def step_messages(rows: Sequence[RowOutput], batch_size: int) -> Iterator[pb.SessionResponse]:
    """One engine step's rows of one session: one frame, and before it those of prompts."""
    said = rows
    if any(row.prompt_logprobs for row in rows):
        for row in rows:
            if row.prompt_logprobs:
                yield from _prompt_messages(row.key, row.prompt_logprobs)
        said = [row for row in rows if row.token_ids or row.start or row.finish]
    if said:
        yield step_message(said, batch_size)


def _prompt_messages(key: RowKey, told: PromptLogprobs) -> Iterator[pb.SessionResponse]:
    entries = iter(told.entries)
    position = told.position
    while piece := list(islice(entries, PROMPT_PIECE)):
        yield pb.SessionResponse(
            step=pb.Step(prompt_logprobs=[_prompt_piece(key, position, piece)])
        )
        position += len(piece)


def _prompt_piece(key: RowKey, position: int, piece: Sequence[TokenLogprobs]) -> pb.PromptLogprobs:
    return pb.PromptLogprobs(
        row_id=key.row_id,
        position=position,
        logprobs=[entry.logprob for entry in piece],
        top_ids=[top_id for entry in piece for top_id, _ in entry.top],
        top_logprobs=[value for entry in piece for _, value in entry.top],
        top_count=len(piece[0].top),
    )


def step_message(rows: Sequence[RowOutput], batch_size: int) -> pb.SessionResponse:
    """One engine step's rows of one session, as one frame."""
    token_ids: list[int] = []
    for row in rows:
        token_ids += row.token_ids
    counts = [len(row.token_ids) for row in rows]
    if all(count == 1 for count in counts):
        counts = []
    step = pb.Step(
        row_ids=[row.key.row_id for row in rows],
        token_counts=counts,
        token_ids=token_ids,
        batch_size=batch_size,
    )
    for row in rows:
        if row.start or row.logprobs or row.finish:
            _add_details(step, row)
    return pb.SessionResponse(step=step)


def _add_details(step: pb.Step, row: RowOutput) -> None:
    row_id = row.key.row_id
    if row.start:
        step.starts.add(
            row_id=row_id,
            queue_us=int(row.start.queue_seconds * 1e6),
            prefill_us=int(row.start.prefill_seconds * 1e6),
            cached_tokens=row.start.cached_tokens,
        )
    if row.logprobs:
        step.logprobs.add(
            row_id=row_id,
            logprobs=[position.logprob for position in row.logprobs],
            top_ids=[top_id for position in row.logprobs for top_id, _ in position.top],
            top_logprobs=[value for position in row.logprobs for _, value in position.top],
            top_count=len(row.logprobs[0].top),
        )
    if row.finish:
        step.finishes.add(
            row_id=row_id,
            reason=_FINISH_REASONS[row.finish.reason],
            stop_token_id=row.finish.stop_token_id or 0,
            error=error_message(row.finish.error) if row.finish.error else None,
        )
