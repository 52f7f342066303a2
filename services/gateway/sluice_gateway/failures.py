"""From the contract's errors to the client's: one table."""

from __future__ import annotations

import re

from sluice.worker.v1 import worker_pb2 as pb

from sluice_gateway.errors import (
    ApiError,
    ContextLengthExceeded,
    InternalError,
    InvalidRequest,
    Overloaded,
    Unavailable,
    WorkerLost,
)

#: Where in a grammar something is wrong, as workers say it.
_PLACE = re.compile(r"line \d+, column \d+: ")

#: Where the client's name for a field is not the contract's.
_PARAMS = {
    "prompt_ids": "prompt",
    "rows": "n",
    "prompt_logprobs": "echo",
    "thinking_budget": "thinking_token_budget",
}


def error_for_client(error: pb.Error) -> ApiError:
    """The worker's error as the API tells it."""
    field = error.field.removeprefix("sampling.")
    param = _PARAMS.get(field, field) or None
    match error.code:
        case pb.ERROR_CODE_INVALID_ARGUMENT:
            return InvalidRequest(error.message, param=param)
        case pb.ERROR_CODE_CONTEXT_LENGTH_EXCEEDED:
            return ContextLengthExceeded(error.message, param=param)
        case pb.ERROR_CODE_UNAVAILABLE:
            return Unavailable(error.message, headers={"Retry-After": "1"})
        case pb.ERROR_CODE_OVERLOADED:
            return Overloaded(error.message, headers={"Retry-After": "1"})
        case _:
            return InternalError(error.message or "The worker failed this request.")


def without_place(message: str) -> str:
    """A message on a grammar without the place in it."""
    return _PLACE.sub("", message, count=1)


def failure_of(finish: pb.RowFinish) -> ApiError | None:
    """The error that ended a row, if one did."""
    if finish.reason in (pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH):
        return None
    if finish.error.code == pb.ERROR_CODE_UNAVAILABLE:
        # It was taken, so it is not that the worker was not ready: its engine died under the row.
        return WorkerLost(finish.error.message)
    return error_for_client(finish.error)
